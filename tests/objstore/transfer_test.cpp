#include "objstore/transfer.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "tests/objstore/transfer_world.hpp"

using namespace trireme;
using namespace trireme::objstore;

namespace {

constexpr std::uint64_t kKiB = 1024;

/// The real proportions at a 256th of the size: a MiB chunk at 10 GB/s and a latency of 2 us are a 4 KiB chunk at 40
/// MB/s.
TransferOptions small_chunks() {
  TransferOptions options;
  options.chunk_bytes = 4 * kKiB;
  options.direct_bytes_max = 1 * kKiB;
  options.striped_bytes_min = 32 * kKiB;
  options.window_bytes = 16 * kKiB;
  options.in_flight_bytes = 128 * kKiB;
  return options;
}

transport::SimOptions network(std::uint32_t ranks, std::uint64_t seed) {
  transport::SimOptions options;
  options.ranks = ranks;
  options.seed = seed;
  return options;
}

transport::SimOptions bandwidth_bound(std::uint32_t ranks) {
  auto options = network(ranks, 1);
  options.bytes_per_ns = 0.04;
  options.jitter = 0;
  options.reorder = false;
  return options;
}

}  // namespace

TEST_CASE("a pull of any size brings the right bytes and leaves nothing behind") {
  for (const std::uint64_t size :
       {0ULL, 1ULL, 1023ULL, 1024ULL, 1025ULL, 4096ULL, 30'000ULL, 32'768ULL, 32'769ULL, 100'001ULL}) {
    CAPTURE(size);
    TransferWorld world(network(3, size + 1), small_chunks(), 2 << 20);
    const ObjectId id{1, 7};  // owned by 1, held by 2, pulled by 0
    const auto source = world.put(2, id, size);
    world.nodes[0]->pull(id, source);
    world.nodes[0]->pull(id, source);  // joins
    world.network.run_until_idle();
    REQUIRE(world.nodes[0]->answered[id] == 2);
    REQUIRE(world.nodes[0]->results.count(id) == 1);
    CHECK(TransferWorld::right(world.nodes[0]->results[id], id, size));
    CHECK(world.nodes[0]->transfer->puller().stats().bytes == size);
    CHECK(world.nodes[0]->store->info(id)->kind == CopyKind::secondary);
    for (Rank r = 0; r < 3; ++r) CHECK(world.clean(r));
    world.nodes[0]->pull(id, source);  // is here already
    CHECK(world.nodes[0]->answered[id] == 3);
  }
}

TEST_CASE("an object that was freed under its reader is an error, not wrong bytes") {
  for (const std::uint64_t size : {900ULL, 20'000ULL, 200'000ULL}) {
    CAPTURE(size);
    TransferWorld world(network(4, 5), small_chunks(), 2 << 20);
    const ObjectId id{1, 7};
    const auto source = world.put(1, id, size);
    for (const Rank r : {0U, 2U, 3U}) world.nodes[r]->pull(id, source);
    world.nodes[1]->store->drop(id);
    world.put(1, {1, 8}, size);  // takes the same place
    world.network.run_until_idle();
    for (const Rank r : {0U, 2U, 3U}) {
      CHECK(world.nodes[r]->answered[id] == 1);
      CHECK(world.nodes[r]->errors[id] == Errc::object_lost);
      CHECK(world.nodes[r]->arena->stats().blocks == 0);
      CHECK(world.clean(r));
    }
  }
}

TEST_CASE("a pull waits for memory, and one that can never fit says so") {
  TransferWorld world(network(2, 3), small_chunks(), 2 << 20);
  const ObjectId id{0, 1};
  const auto source = world.put(0, id, 1'000'000);
  REQUIRE(world.nodes[1]->store->put({1, 9}, TransferWorld::content({1, 9}, 1'500'000)).ok());
  world.nodes[1]->pull(id, source);
  world.network.run_until_idle();
  CHECK(world.nodes[1]->answered[id] == 0);
  world.nodes[1]->store->drop({1, 9});
  world.network.run_until_idle();
  CHECK(TransferWorld::right(world.nodes[1]->results[id], id, 1'000'000));

  auto huge = source;
  huge.size = 5'000'000;
  world.nodes[1]->pull({0, 2}, huge);
  world.network.run_until_idle();
  CHECK(world.nodes[1]->errors[{0, 2}] == Errc::too_large);
  for (Rank r = 0; r < 2; ++r) CHECK(world.clean(r));
}

TEST_CASE("many pulls share the bytes in flight and all end") {
  TransferWorld world(network(4, 11), small_chunks(), 4 << 20);
  std::vector<std::pair<ObjectId, Source>> objects;
  for (std::uint64_t i = 1; i <= 40; ++i) {
    const ObjectId id{static_cast<Rank>(i % 3), i};
    objects.emplace_back(id, world.put(id.owner, id, 500 * i * (i % 4)));
  }
  for (const auto& [id, source] : objects) world.nodes[3]->pull(id, source);
  world.network.run_until_idle();
  for (const auto& [id, source] : objects) CHECK(TransferWorld::right(world.nodes[3]->results[id], id, source.size));
  for (Rank r = 0; r < 4; ++r) CHECK(world.clean(r));
}

TEST_CASE("a short pull is not stuck behind a long one") {
  TransferWorld world(bandwidth_bound(3), small_chunks(), 4 << 20);
  const ObjectId large{0, 1};
  const ObjectId little{1, 1};
  const auto from_0 = world.put(0, large, 2'000'000);
  const auto from_1 = world.put(1, little, 20'000);
  world.nodes[2]->pull(large, from_0);
  world.network.run_until(world.network.now() + kMillisecond);
  world.nodes[2]->pull(little, from_1);
  while (world.nodes[2]->answered[little] == 0 && world.network.step()) {
  }
  CHECK(world.nodes[2]->answered[large] == 0);
  CHECK(world.nodes[2]->answered[little] == 1);
}

TEST_CASE("a broadcast takes less than two pulls when bandwidth bounds it, at any number of ranks") {
  // Model: each rank sends what it sends one byte after the other at a fixed rate, and receives without limit. The
  // holder sends three half objects: one and a half pulls, plus a few chunks per level of the trees.
  constexpr std::uint64_t kSize = 256 * 4 * kKiB;  // 256 chunks
  const ObjectId id{0, 1};
  Nanos one_pull = 0;
  for (const std::uint32_t ranks : {2U, 3U, 4U, 8U, 32U, 200U}) {
    CAPTURE(ranks);
    TransferWorld world(bandwidth_bound(ranks), small_chunks(), 2 << 20);
    const auto source = world.put(0, id, kSize);
    for (Rank r = 1; r < ranks; ++r) world.nodes[r]->pull(id, source);
    world.network.run_until_idle();
    Nanos slowest = 0;
    for (Rank r = 1; r < ranks; ++r) {
      REQUIRE(TransferWorld::right(world.nodes[r]->results[id], id, kSize));
      REQUIRE(world.clean(r));
      slowest = std::max(slowest, world.nodes[r]->finished_at);
    }
    REQUIRE(world.clean(0));
    if (ranks == 2) one_pull = slowest;
    MESSAGE(ranks << " ranks: " << static_cast<double>(slowest) / static_cast<double>(one_pull) << " pulls");
    CHECK(slowest < 2 * one_pull);
  }
}

TEST_CASE("a small object reaches a thousand ranks along a tree") {
  TransferWorld world(network(1000, 4), small_chunks(), 1 << 20);
  const ObjectId id{0, 1};
  const auto source = world.put(0, id, 10'000);
  for (Rank r = 1; r < 1000; ++r) world.nodes[r]->pull(id, source);
  world.network.run_until_idle();
  for (Rank r = 1; r < 1000; ++r) {
    REQUIRE(TransferWorld::right(world.nodes[r]->results[id], id, 10'000));
    REQUIRE(world.clean(r));
  }
}

TEST_CASE("delay, reordering and death: survivors end with the right bytes or an error, and nothing is left") {
  std::uint64_t completed = 0, failed = 0, changed = 0, moved = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    const auto ranks = static_cast<std::uint32_t>(3 + rng.below(30));
    auto sim = network(ranks, seed);
    sim.bytes_per_ns = rng.chance(0.5) ? 0.05 : 5;
    TransferWorld world(sim, small_chunks(), 2 << 20);
    const Rank owner = static_cast<Rank>(rng.below(ranks));
    const Rank holder = rng.chance(0.5) ? owner : static_cast<Rank>(rng.below(ranks));
    const ObjectId id{owner, 3};
    const auto size = rng.below(rng.chance(0.3) ? 4000 : 400'000);
    const auto source = world.put(holder, id, size);
    const auto span = rng.chance(0.5) ? 20 * kMicrosecond : 5 * kMillisecond;
    for (Rank r = 0; r < ranks; ++r)
      if (r != holder)
        world.network.schedule(r, static_cast<Nanos>(rng.below(static_cast<std::uint64_t>(span))),
                               [&world, r, id, source] { world.nodes[r]->pull(id, source); });
    // Some die; the owner and the holder in some seeds.
    const bool spare = rng.chance(0.7);
    std::vector<bool> dead(ranks);
    for (std::uint64_t i = rng.below(ranks / 2 + 1); i > 0; --i) {
      const auto victim = static_cast<Rank>(rng.below(ranks));
      if (spare && (victim == owner || victim == holder)) continue;
      dead[victim] = true;
      world.network.schedule(static_cast<Nanos>(rng.below(static_cast<std::uint64_t>(2 * span))),
                             [&world, victim] { world.kill(victim); });
    }
    world.network.run_until_idle();
    for (Rank r = 0; r < ranks; ++r) {
      if (dead[r]) continue;
      CAPTURE(r);
      auto& node = *world.nodes[r];
      changed += node.transfer->puller().stats().source_changes;
      moved += node.transfer->puller().stats().moves;
      if (r != holder) {
        REQUIRE(node.answered[id] == 1);
        if (node.results.count(id) == 1) {
          ++completed;
          REQUIRE(TransferWorld::right(node.results[id], id, size));
        } else {
          ++failed;
          // Only when the owner or the holder died may a pull fail.
          REQUIRE(!spare);
          REQUIRE(node.arena->stats().blocks == 0);
        }
      }
      REQUIRE(world.clean(r));
    }
  }
  MESSAGE(completed << " pulls completed, " << failed << " failed, " << changed << " source changes, " << moved
                    << " moves");
  CHECK(completed > 1000);
  CHECK(failed > 0);
  CHECK(changed > 100);
  CHECK(moved > 100);
}

TEST_CASE("the death of an inner rank moves its subtree elsewhere without starting over") {
  TransferWorld world(bandwidth_bound(16), small_chunks(), 4 << 20);
  constexpr std::uint64_t kSize = 1'000'000;
  const ObjectId id{0, 1};
  const auto source = world.put(0, id, kSize);
  for (Rank r = 1; r < 16; ++r) world.nodes[r]->pull(id, source);
  world.network.run_until(20 * kMillisecond);  // about half way
  for (Rank r = 3; r < 16; ++r) REQUIRE(world.nodes[r]->answered[id] == 0);
  world.kill(1);
  world.kill(2);
  world.network.run_until_idle();
  std::uint64_t read = 0;
  for (Rank r = 3; r < 16; ++r) {
    REQUIRE(TransferWorld::right(world.nodes[r]->results[id], id, kSize));
    CHECK(world.clean(r));
    read += world.nodes[r]->transfer->puller().stats().bytes;
  }
  CHECK(read < 13 * kSize + 13 * kSize / 5);
}

TEST_CASE("a follower keeps its source's copy in place until it is done") {
  TransferWorld world(bandwidth_bound(4), small_chunks(), 4 << 20);
  constexpr std::uint64_t kSize = 400'000;
  const ObjectId id{0, 1};
  const auto source = world.put(0, id, kSize);
  for (Rank r = 1; r < 4; ++r) world.nodes[r]->pull(id, source);
  // Whoever is first drops its copy at once and fills the place with something else.
  bool dropped = false;
  while (world.network.step()) {
    for (Rank r = 1; r < 4 && !dropped; ++r)
      if (world.nodes[r]->answered[id] == 1) {
        world.nodes[r]->results.clear();
        world.nodes[r]->store->drop(id);
        world.put(r, {r, 99}, kSize);
        dropped = true;
      }
  }
  REQUIRE(dropped);
  int right = 0;
  for (Rank r = 1; r < 4; ++r) {
    if (world.nodes[r]->results.count(id) == 1)
      right += TransferWorld::right(world.nodes[r]->results[id], id, kSize) ? 1 : 0;
    CHECK(world.clean(r));
  }
  CHECK(right == 2);
}

TEST_CASE("messages survive the wire, and hostile bytes are refused") {
  TransferMessage message;
  message.id = {3, 1ULL << 40U};
  message.pull = 77;
  message.size = 1ULL << 50U;
  message.rank = 12;
  message.stripe = 1;
  message.position = 123'456'789;
  message.offset = 4160;
  message.generation = 99;
  message.tainted = true;
  message.sources = {{0, 5}, {1, 6}};
  for (std::uint8_t kind = 1; kind <= 12; ++kind) {
    message.kind = static_cast<TransferMessage::Kind>(kind);
    const auto bytes = message.encode();
    auto back = TransferMessage::decode(bytes);
    REQUIRE(back.ok());
    CHECK(back->encode() == bytes);
    CHECK(back->id == message.id);
    CHECK(back->pull == 77);
    for (std::size_t cut = 0; cut < bytes.size(); ++cut)
      CHECK_FALSE(TransferMessage::decode(BytesView(bytes).first(cut)).ok());
  }
  Rng rng(1);
  TransferWorld world(network(2, 1), small_chunks(), 2 << 20);
  const auto source = world.put(0, {0, 1}, 50'000);
  world.nodes[1]->pull({0, 1}, source);
  for (int i = 0; i < 20'000; ++i) {
    message.kind = static_cast<TransferMessage::Kind>(1 + rng.below(12));
    message.id = {0, 1 + rng.below(2)};
    message.pull = rng.below(3);
    auto bytes = message.encode();
    if (rng.chance(0.5)) bytes[rng.below(bytes.size())] = static_cast<std::byte>(rng.next());
    // Whatever it says, it harms nobody.
    (void)world.nodes[rng.below(2)]->transfer->on_message(static_cast<Rank>(rng.below(2)), bytes);
  }
  world.network.run_until_idle();
}
