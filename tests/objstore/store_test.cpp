#include "objstore/store.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "base/rng.hpp"

using namespace trireme;
using namespace trireme::objstore;

namespace {

constexpr std::uint64_t kMiB = 1U << 20U;

struct Fixture {
  explicit Fixture(std::uint64_t bytes, StoreOptions options = {}) {
    ArenaOptions arena_options;
    arena_options.bytes = bytes;
    arena = std::move(*Arena::create(arena_options));
    if (!options.on_evicted)
      options.on_evicted = [this](ObjectId id) {
        const std::lock_guard lock(mutex);
        evicted.push_back(id.index);
      };
    store = std::make_unique<Store>(*arena, std::move(options));
  }

  static ObjectId id(std::uint64_t index) { return {0, index}; }
  /// A sealed, unpinned copy whose bytes are all `index`.
  bool add(std::uint64_t index, std::uint64_t size, CopyKind kind) {
    const std::vector<std::byte> bytes(size, static_cast<std::byte>(index));
    return store->put(id(index), bytes, kind).ok();
  }

  std::mutex mutex;
  std::vector<std::uint64_t> evicted;
  std::unique_ptr<Arena> arena;
  std::unique_ptr<Store> store;
};

}  // namespace

TEST_CASE("a copy is readable once sealed, immutable by type, and gone when dropped") {
  Fixture f(8 * kMiB);
  auto room = f.store->try_create(f.id(1), 1000, CopyKind::primary);
  REQUIRE(room.ok());
  CHECK(room->data.size() == 1000);
  CHECK_FALSE(f.store->pin(f.id(1)));
  CHECK_FALSE(f.store->info(f.id(1))->sealed);
  std::memset(room->data.data(), 9, 1000);
  REQUIRE(f.store->seal(f.id(1)).ok());
  CHECK(f.store->seal(f.id(1)).error().code == Errc::invalid_argument);

  auto buffer = f.store->pin(f.id(1));
  REQUIRE(buffer);
  CHECK(buffer.size() == 1000);
  CHECK(buffer.data()[999] == std::byte{9});
  CHECK(f.arena->header(buffer.offset()).generation == buffer.generation());
  CHECK(f.store->try_create(f.id(1), 5, CopyKind::primary).error().code == Errc::already_exists);

  buffer.reset();
  CHECK(f.store->drop(f.id(1)));
  CHECK_FALSE(f.store->drop(f.id(1)));
  CHECK_FALSE(f.store->pin(f.id(1)));
  CHECK(f.arena->stats().blocks == 0);
  CHECK(f.store->stats().object_bytes == 0);
}

TEST_CASE("dropped memory stays in place until its last reader lets go") {
  Fixture f(8 * kMiB);
  REQUIRE(f.add(1, kMiB, CopyKind::primary));
  auto first = f.store->pin(f.id(1));
  auto second = first;
  CHECK(f.store->drop(f.id(1)));
  CHECK(f.store->stats().dropped_pinned == 1);
  // The id is free for a new copy while readers still see the old one.
  REQUIRE(f.add(1, 10, CopyKind::primary));
  first.reset();
  CHECK(second.data()[kMiB - 1] == std::byte{1});
  CHECK(f.arena->stats().blocks == 2);
  second = Buffer();
  CHECK(f.arena->stats().blocks == 1);
  CHECK(f.store->stats().dropped_pinned == 0);
}

TEST_CASE("room without a name belongs to its Buffers alone") {
  Fixture f(8 * kMiB);
  auto room = f.store->hold(kMiB);
  REQUIRE(room.ok());
  auto copy = *room;
  CHECK(copy.size() == kMiB);
  CHECK(f.arena->header(copy.offset()).generation == copy.generation());
  CHECK(f.store->stats().objects == 1);
  CHECK(f.store->stats().object_bytes == kMiB);
  CHECK(f.store->spill_candidates(kMiB).empty());
  room->reset();
  CHECK(f.arena->stats().blocks == 1);
  copy.reset();
  CHECK(f.arena->stats().blocks == 0);
  CHECK(f.store->stats().objects == 0);
  CHECK(f.store->stats().object_bytes == 0);
  CHECK(f.store->hold(9 * kMiB).error().code == Errc::too_large);
}

TEST_CASE("room without a name evicts, is refused when nothing can go, and serves who waits when it ends") {
  Fixture f(8 * kMiB);
  REQUIRE(f.add(1, 5 * kMiB, CopyKind::secondary));
  auto room = f.store->hold(5 * kMiB);
  REQUIRE(room.ok());
  CHECK_FALSE(f.store->info(f.id(1)));
  CHECK(f.store->hold(5 * kMiB).error().code == Errc::out_of_memory);
  bool served = false;
  f.store->create_when_possible(f.id(2), 5 * kMiB, CopyKind::primary,
                                [&](Result<Allocation> made) { served = made.ok(); });
  CHECK_FALSE(served);
  room->reset();
  CHECK(served);
  REQUIRE(f.store->abort(f.id(2)).ok());
}

TEST_CASE("an aborted creation leaves nothing") {
  Fixture f(8 * kMiB);
  REQUIRE(f.store->try_create(f.id(1), 100, CopyKind::secondary).ok());
  REQUIRE(f.store->abort(f.id(1)).ok());
  CHECK(f.store->abort(f.id(1)).error().code == Errc::not_found);
  CHECK(f.store->seal(f.id(1)).error().code == Errc::not_found);
  CHECK(f.arena->stats().blocks == 0);
  CHECK(f.store->stats().secondary_bytes == 0);
}

TEST_CASE("a copy dropped while it is filled keeps its memory until the writer is done") {
  Fixture f(8 * kMiB);
  auto room = f.store->try_create(f.id(1), 100, CopyKind::primary);
  REQUIRE(room.ok());
  CHECK(f.store->drop(f.id(1)));
  CHECK_FALSE(f.store->drop(f.id(1)));
  CHECK(f.arena->stats().blocks == 1);
  std::memset(room->data.data(), 1, 100);
  CHECK(f.store->seal(f.id(1)).error().code == Errc::cancelled);
  CHECK(f.arena->stats().blocks == 0);
  CHECK_FALSE(f.store->info(f.id(1)));

  REQUIRE(f.store->try_create(f.id(2), 100, CopyKind::primary).ok());
  CHECK(f.store->drop(f.id(2)));
  CHECK(f.store->abort(f.id(2)).ok());
  CHECK(f.arena->stats().blocks == 0);
  CHECK(f.store->stats().objects == 0);

  // Its writer may still want to read what it made.
  REQUIRE(f.store->try_create(f.id(3), 100, CopyKind::primary).ok());
  CHECK(f.store->drop(f.id(3)));
  auto pinned = f.store->seal_and_pin(f.id(3));
  REQUIRE(pinned.ok());
  CHECK_FALSE(f.store->pin(f.id(3)));
  CHECK(f.arena->stats().blocks == 1);
  pinned->reset();
  CHECK(f.arena->stats().blocks == 0);
}

TEST_CASE("pressure evicts unpinned secondary copies, least recently used first, and nothing else") {
  Fixture f(8 * kMiB);  // seven blocks of 1 MiB and their header pages
  REQUIRE(f.add(1, kMiB, CopyKind::primary));
  for (std::uint64_t i = 2; i <= 5; ++i) REQUIRE(f.add(i, kMiB, CopyKind::secondary));
  auto held = f.store->pin(f.id(2));
  f.store->pin(f.id(3)).reset();  // used: younger than 4 and 5 now
  auto unsealed = f.store->try_create(f.id(6), kMiB, CopyKind::secondary);
  REQUIRE(unsealed.ok());
  CHECK(f.evicted.empty());

  REQUIRE(f.add(7, kMiB, CopyKind::primary));
  REQUIRE(f.add(8, kMiB, CopyKind::primary));
  CHECK(f.evicted == std::vector<std::uint64_t>{4});
  REQUIRE(f.add(9, kMiB, CopyKind::primary));
  REQUIRE(f.add(10, kMiB, CopyKind::primary));
  CHECK(f.evicted == std::vector<std::uint64_t>{4, 5, 3});
  CHECK_FALSE(f.add(11, kMiB, CopyKind::primary));
  CHECK(held.data()[0] == std::byte{2});
  CHECK(f.store->stats().evictions == 3);
  CHECK(f.store->stats().evicted_bytes == 3 * kMiB);

  held.reset();
  CHECK(f.add(11, kMiB, CopyKind::primary));
  CHECK(f.evicted.back() == 2);
}

TEST_CASE("a creation that cannot succeed by evicting does not empty the cache") {
  Fixture f(16 * kMiB);
  for (std::uint64_t i = 1; i <= 8; ++i) REQUIRE(f.add(i, kMiB, CopyKind::primary));
  for (std::uint64_t i = 9; i <= 12; ++i) REQUIRE(f.add(i, kMiB, CopyKind::secondary));
  const auto refused = f.store->try_create(f.id(20), 10 * kMiB, CopyKind::primary);
  CHECK(refused.error().code == Errc::out_of_memory);
  CHECK(f.evicted.empty());
}

TEST_CASE("a secondary copy made primary is safe, a primary made secondary is not") {
  Fixture f(4 * kMiB);
  REQUIRE(f.add(1, kMiB, CopyKind::secondary));
  REQUIRE(f.add(2, kMiB, CopyKind::primary));
  REQUIRE(f.store->set_kind(f.id(1), CopyKind::primary).ok());
  REQUIRE(f.store->set_kind(f.id(2), CopyKind::secondary).ok());
  CHECK(f.store->stats().secondary_bytes == kMiB);
  REQUIRE(f.add(3, kMiB, CopyKind::primary));
  REQUIRE(f.add(4, kMiB, CopyKind::primary));
  CHECK(f.evicted == std::vector<std::uint64_t>{2});
  CHECK(f.store->set_kind(f.id(9), CopyKind::primary).error().code == Errc::not_found);
}

TEST_CASE("what can never fit is an error at once that says so") {
  Fixture f(4 * kMiB);
  const auto now = f.store->try_create(f.id(1), 5 * kMiB, CopyKind::primary);
  CHECK(now.error().code == Errc::too_large);
  CHECK(now.error().message.find("5242880") != std::string::npos);
  CHECK(now.error().message.find("4194304") != std::string::npos);
  Errc later = Errc::ok;
  f.store->create_when_possible(f.id(1), 5 * kMiB, CopyKind::primary,
                                [&](Result<Allocation> result) { later = result.error().code; });
  CHECK(later == Errc::too_large);
}

TEST_CASE("creations wait in order, are served when memory is freed, and can be taken back") {
  Fixture f(4 * kMiB);
  for (std::uint64_t i = 1; i <= 3; ++i) REQUIRE(f.add(i, kMiB, CopyKind::primary));
  std::vector<std::uint64_t> served;
  const auto request = [&](std::uint64_t index, std::uint64_t size) {
    f.store->create_when_possible(f.id(index), size, CopyKind::primary, [&, index](Result<Allocation> result) {
      REQUIRE(result.ok());
      served.push_back(index);
    });
  };
  request(10, 2 * kMiB);
  request(11, 100);  // would fit, but must not starve the large one
  request(12, kMiB);
  request(13, 100);
  CHECK(served.empty());
  CHECK(f.store->stats().waiting == 4);
  CHECK(f.store->try_create(f.id(4), 100, CopyKind::primary).ok());  // overtakes by design
  f.store->drop(f.id(4));

  f.store->drop(f.id(1));
  CHECK(served.empty());
  auto reader = f.store->pin(f.id(2));
  f.store->drop(f.id(2));
  CHECK(served.empty());
  reader.reset();  // the last pin frees
  CHECK(served == std::vector<std::uint64_t>{10, 11});
  CHECK(f.store->cancel(f.id(12)));
  CHECK_FALSE(f.store->cancel(f.id(12)));
  CHECK(served == std::vector<std::uint64_t>{10, 11, 13});
  CHECK(f.store->stats().waiting == 0);
  CHECK(f.store->stats().waiting_bytes == 0);
}

TEST_CASE("sealing or unpinning a secondary copy is room for who waits") {
  Fixture f(4 * kMiB);
  REQUIRE(f.add(1, kMiB, CopyKind::primary));
  REQUIRE(f.add(2, kMiB, CopyKind::primary));
  REQUIRE(f.store->try_create(f.id(3), kMiB, CopyKind::secondary).ok());
  int served = 0;
  f.store->create_when_possible(f.id(4), kMiB, CopyKind::secondary, [&](Result<Allocation> result) {
    REQUIRE(result.ok());
    ++served;
  });
  CHECK(served == 0);
  auto pinned = f.store->seal_and_pin(f.id(3));
  REQUIRE(pinned.ok());
  CHECK(served == 0);
  pinned->reset();
  CHECK(served == 1);
  f.store->create_when_possible(f.id(5), kMiB, CopyKind::primary, [&](const Result<Allocation>&) { ++served; });
  CHECK(served == 1);
  REQUIRE(f.store->seal(f.id(4)).ok());
  CHECK(served == 2);
  CHECK(f.evicted == std::vector<std::uint64_t>{3, 4});
}

TEST_CASE("the queue of waiting creations is bounded, and closing the store answers it") {
  StoreOptions options;
  options.waiting_max = 2;
  std::vector<Errc> answers;
  {
    Fixture f(2 * kMiB, options);
    REQUIRE(f.add(1, kMiB, CopyKind::primary));
    for (std::uint64_t i = 2; i <= 4; ++i)
      f.store->create_when_possible(f.id(i), kMiB, CopyKind::primary,
                                    [&](Result<Allocation> result) { answers.push_back(result.error().code); });
    CHECK(answers == std::vector<Errc>{Errc::would_block});
  }
  CHECK(answers == std::vector<Errc>{Errc::would_block, Errc::shutdown, Errc::shutdown});
}

TEST_CASE("a spiller is asked before a creation fails, and may answer later") {
  struct Slow : Spiller {
    std::uint64_t make_room(std::uint64_t bytes) override {
      ++asked;
      if (at_once) return give_up(bytes);
      return 1;  // on its way
    }
    std::uint64_t give_up(std::uint64_t bytes) {
      std::uint64_t freed = 0;
      for (const auto id : store->spill_candidates(bytes)) {
        const auto size = store->info(id)->size;
        if (store->evict(id)) freed += size;
        spilled.push_back(id.index);
      }
      return freed;
    }
    Store* store = nullptr;
    bool at_once = true;
    int asked = 0;
    std::vector<std::uint64_t> spilled;
  } spiller;
  StoreOptions options;
  options.spiller = &spiller;
  Fixture f(4 * kMiB, options);
  spiller.store = f.store.get();
  for (std::uint64_t i = 1; i <= 3; ++i) REQUIRE(f.add(i, kMiB, CopyKind::primary));
  CHECK(spiller.asked == 0);
  auto pinned = f.store->pin(f.id(1));
  REQUIRE(f.add(4, kMiB, CopyKind::primary));
  CHECK(spiller.spilled == std::vector<std::uint64_t>{2});

  spiller.at_once = false;
  int served = 0;
  f.store->create_when_possible(f.id(5), kMiB, CopyKind::primary, [&](const Result<Allocation>&) { ++served; });
  CHECK(served == 0);
  spiller.give_up(1);
  CHECK(served == 1);
  CHECK(spiller.spilled == std::vector<std::uint64_t>{2, 3});
  CHECK(pinned.data()[5] == std::byte{1});
}

TEST_CASE("a foreign buffer releases once, with its last copy") {
  int released = 0;
  const std::byte bytes[4] = {};
  auto buffer = Buffer::foreign(bytes, 17, 4, [&] { ++released; });
  auto copy = buffer;
  auto moved = std::move(buffer);
  CHECK_FALSE(buffer);
  CHECK(moved.offset() == 17);
  CHECK(moved.generation() == 4);
  copy = moved;
  moved.reset();
  CHECK(released == 0);
  copy.reset();
  CHECK(released == 1);
}

TEST_CASE("threads create, pin, drop and evict without tearing an object") {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    CAPTURE(seed);
    Fixture f(8 * kMiB);
    constexpr std::uint64_t kObjects = 200;
    std::atomic<int> torn{0};
    std::atomic<std::uint64_t> waited{0}, answered{0};
    std::vector<std::thread> threads;
    for (std::uint64_t t = 0; t < 4; ++t)
      threads.emplace_back([&, t] {
        Rng rng(seed * 100 + t);
        std::vector<Buffer> held;
        for (int step = 0; step < 4000; ++step) {
          const auto index = 1 + rng.below(kObjects);
          switch (rng.below(6)) {
            case 0: {
              const std::vector<std::byte> bytes(rng.chance(0.1) ? 300'000 : rng.below(20'000),
                                                 static_cast<std::byte>(index));
              auto put = f.store->put(f.id(index), bytes, rng.chance(0.8) ? CopyKind::secondary : CopyKind::primary);
              if (put && rng.chance(0.2)) held.push_back(std::move(*put));
              break;
            }
            case 1:
              if (rng.chance(0.5)) f.store->drop(f.id(index));
              break;
            case 2:
              if (rng.chance(0.05)) {
                waited.fetch_add(1);
                const auto mine = 1000 + t * 100'000 + static_cast<std::uint64_t>(step);
                f.store->create_when_possible(f.id(mine), 500'000, CopyKind::secondary,
                                              [&, mine](Result<Allocation> room) {
                                                answered.fetch_add(1);
                                                if (room && !f.store->seal(f.id(mine)).ok()) torn.fetch_add(1);
                                              });
              }
              break;
            default: {
              auto buffer = f.store->pin(f.id(index));
              if (!buffer) break;
              for (std::size_t at = 0; at < buffer.size(); at += 997)
                if (buffer.data()[at] != static_cast<std::byte>(index)) torn.fetch_add(1);
              if (f.arena->header(buffer.offset()).generation != buffer.generation()) torn.fetch_add(1);
              if (rng.chance(0.2)) held.push_back(buffer);
              if (held.size() > 20) held.erase(held.begin(), held.begin() + 10);
            }
          }
        }
      });
    for (auto& thread : threads) thread.join();
    for (std::uint64_t index = 1; index <= kObjects; ++index) f.store->drop(f.id(index));
    f.store->memory_freed();
    CHECK(torn == 0);
    CHECK(answered == waited);  // nothing is pinned any more: everybody was served
    CHECK(f.store->stats().dropped_pinned == 0);
  }
}
