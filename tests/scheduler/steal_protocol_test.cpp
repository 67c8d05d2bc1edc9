#include <doctest/doctest.h>

#include "tests/scheduler/steal_fixture.hpp"

using namespace trireme;
using namespace trireme::scheduler;
using trireme::scheduler::test::StealWorld;

namespace {

void check_every_task_once(const StealWorld& world) {
  const std::set<std::uint64_t> finished(world.finished.begin(), world.finished.end());
  CHECK(finished.size() == world.finished.size());
  std::size_t accounted = 0;
  for (const auto task : world.submitted) accounted += finished.contains(task) || world.lost.contains(task) ? 1 : 0;
  CHECK(accounted == world.submitted.size());
  for (const auto task : finished) CHECK(!world.lost.contains(task));
}

/// Tasks of these worlds are short: in most of them ranks ask whenever they run dry.
StealOptions options_of(std::uint64_t seed) {
  StealOptions options;
  if (seed % 3 != 0) options.ask_again_after = 0;
  return options;
}

}  // namespace

TEST_CASE("idle ranks fall silent after a bounded number of messages") {
  for (const std::uint32_t size : {1U, 2U, 3U, 7U, 64U, 100U, 1000U}) {
    CAPTURE(size);
    StealWorld world(size, size);
    world.start_idle();
    world.settle(1'000'000);
    // Per rank: three tries with their answers, log2(size) lifelines, one in the ring.
    CHECK(world.messages <= std::uint64_t{size} * (6 + lifeline_dimensions(size) + 1));
    for (const auto& node : world.nodes) CHECK(node->protocol.quiet());
  }
}

TEST_CASE("a rank that waits is not asked and asks nobody until work comes") {
  StealWorld world(16, 1);
  world.start_idle();
  world.settle(10'000);
  const auto before = world.messages;
  for (int i = 0; i < 100; ++i) {
    world.now += 1'000'000;
    CHECK(!world.step());
  }
  CHECK(world.messages == before);
}

TEST_CASE("a rank that runs small things of its own does not ask after each") {
  StealWorld world(16, 1);
  world.start_idle();
  world.settle(10'000);
  auto& protocol = world.nodes[3]->protocol;
  const auto again = StealOptions{}.ask_again_after;
  const auto asked = protocol.stats().requests_sent;
  const auto registered = protocol.stats().registrations_sent;

  world.now += again / 4;
  protocol.on_local_idle(world.now);
  protocol.on_local_work(0, world.now);  // busy meanwhile
  protocol.on_local_idle(world.now);
  world.settle(10'000);
  CHECK(protocol.stats().requests_sent == asked);
  CHECK(protocol.stats().registrations_sent == registered);
  CHECK(protocol.quiet());

  world.now += again;
  protocol.on_local_idle(world.now);
  world.settle(10'000);
  CHECK(protocol.stats().requests_sent > asked);

  // After a gift it asks at once; all ranks wait, so the neighbours of rank 2 get some of its tasks.
  const auto before_gift = protocol.stats().requests_sent;
  for (StealWorld::TaskId task = 0; task < 50; ++task) world.submit(2, task);
  world.settle(10'000);
  CHECK(protocol.stats().gifts_received > 0);
  CHECK(protocol.stats().requests_sent > before_gift);
}

TEST_CASE("nobody is asked twice by the same tries") {
  StealWorld world(2, 1);
  world.start_idle();
  world.settle(10'000);
  for (const auto& node : world.nodes) CHECK(node->protocol.stats().requests_sent == 1);
}

TEST_CASE("every task runs exactly once without deaths") {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    CAPTURE(seed);
    StealWorld world(2 + static_cast<std::uint32_t>(seed % 40), seed, options_of(seed));
    world.start_idle();
    for (std::uint64_t task = 0; task < 500; ++task) {
      // Bursts at few ranks, some while all is quiet.
      world.submit(static_cast<Rank>(world.rng.below(1 + seed % 3) % world.nodes.size()), task);
      if (world.rng.chance(0.02))
        world.settle(1'000'000);
      else
        world.step();
    }
    world.settle(1'000'000);
    CHECK(world.finished.size() == 500);
    check_every_task_once(world);
  }
}

TEST_CASE("deaths lose only what the dead held, and the rest runs once") {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    CAPTURE(seed);
    const auto size = 3 + static_cast<std::uint32_t>(seed % 50);
    StealWorld world(size, seed, options_of(seed));
    world.start_idle();
    auto deaths = world.rng.below(size - 1);
    for (std::uint64_t task = 0; task < 400; ++task) {
      world.submit(static_cast<Rank>(world.rng.below(size)), task);
      const auto steps = world.rng.below(8);
      for (std::uint64_t i = 0; i < steps; ++i) world.step();
      if (deaths > 0 && world.rng.chance(0.1)) {
        --deaths;
        world.kill(static_cast<Rank>(world.rng.below(size)));
      }
    }
    world.settle(1'000'000);
    check_every_task_once(world);
    for (const auto& node : world.nodes)
      if (!node->dead) CHECK(node->protocol.quiet());
  }
}

TEST_CASE("no living rank stays idle while another could give, whoever died") {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    CAPTURE(seed);
    const auto size = 2 + static_cast<std::uint32_t>(seed % 70);
    StealWorld world(size, seed, options_of(seed));
    world.task_length = 0;  // what runs never ends, so each living rank must come to hold one
    world.start_idle();
    if (seed % 2 == 0) world.settle(1'000'000);
    const auto deaths = world.rng.below(size);
    for (std::uint64_t i = 0; i < deaths; ++i) {
      world.kill(static_cast<Rank>(world.rng.below(size)));
      if (world.rng.chance(0.5)) world.step();
    }
    if (seed % 3 == 0) world.settle(1'000'000);
    Rank source = 0;
    while (source < size && world.nodes[source]->dead) ++source;
    if (source == size) continue;
    // One by one, so that lifelines alone would stop at the source's neighbours.
    for (std::uint64_t task = 0; task < 3 * size; ++task) world.submit(source, task);
    world.run_until(world.now + 10 * kSecond);
    for (const auto& node : world.nodes)
      if (!node->dead) CHECK(node->running);
  }
}

TEST_CASE("work that appears on one rank reaches all in a time that grows with the logarithm of their number") {
  for (const std::uint32_t size : {64U, 1024U}) {
    CAPTURE(size);
    StealWorld world(size, 7);
    world.task_length = 0;
    world.start_idle();
    world.settle(1'000'000);
    const auto start = world.now;
    for (std::uint64_t task = 0; task < 64 * size; ++task) {
      world.nodes[0]->queue.push_back(task);
    }
    world.submit(0, 64 * size);
    // A hop takes at most 50; the slowest rank is a few diameters away.
    world.run_until(start + 50 * 8 * static_cast<Nanos>(lifeline_dimensions(size)));
    for (const auto& node : world.nodes) CHECK(node->running);
  }
}

TEST_CASE("a stopped rank asks nobody and gives nothing") {
  StealWorld world(4, 3);
  world.start_idle();
  world.settle(1000);
  auto& node = *world.nodes[0];
  node.protocol.stop();
  CHECK(!node.waiting);
  const auto before = world.messages;
  node.queue = {1, 2, 3};
  node.protocol.on_local_work(3, world.now);
  node.protocol.on_local_idle(world.now);
  CHECK(world.messages == before);
}

TEST_CASE("malformed messages are errors and change nothing") {
  StealWorld world(8, 5);
  auto& protocol = world.nodes[0]->protocol;
  const auto refused = [&](Rank from, std::initializer_list<int> values) {
    Bytes bytes;
    for (const int value : values) bytes.push_back(static_cast<std::byte>(value));
    const auto status = protocol.on_message(from, bytes, 0);
    return !status.ok() && status.error().code == Errc::malformed;
  };
  CHECK(refused(1, {}));
  CHECK(refused(1, {0}));
  CHECK(refused(1, {9, 1, 1}));
  CHECK(refused(1, {1}));           // ask without number
  CHECK(refused(1, {1, 0}));        // ask with the number of pushes
  CHECK(refused(1, {1, 0x80}));     // cut varint
  CHECK(refused(1, {3, 1}));        // gift without count
  CHECK(refused(1, {3, 1, 0}));     // gift of nothing
  CHECK(refused(1, {3, 1, 1, 1}));  // trailing byte
  CHECK(refused(1, {4, 0}));
  CHECK(refused(1, {5, 1}));       // offer without hops
  CHECK(refused(1, {5, 8, 0}));    // of no such rank
  CHECK(refused(1, {5, 1, 100}));  // to be passed on without end
  CHECK(refused(0, {4, 1}));       // from oneself
  CHECK(refused(8, {4, 1}));       // no such rank
  Bytes large(StealProtocol::kFreeBytesMax + 2, std::byte{2});
  CHECK(!protocol.on_message(1, large, 0).ok());
  CHECK(world.messages == 0);
  CHECK(world.nodes[0]->protocol.quiet());

  Rng rng(11);
  for (int i = 0; i < 20'000; ++i) {
    Bytes bytes(rng.below(12));
    for (auto& byte : bytes) byte = static_cast<std::byte>(rng.below(i % 2 == 0 ? 6 : 256));
    // Any answer but a crash; a well-formed request may be served.
    (void)protocol.on_message(1 + static_cast<Rank>(rng.below(7)), bytes, 0);
    world.events.clear();
  }
}
