#include "core/memory_watch.hpp"

#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <vector>

using namespace trireme;
using namespace trireme::objstore;
using trireme::core::MemoryWatch;

namespace {

constexpr std::uint64_t kMiB = 1U << 20U;

struct HandClock final : Clock {
  Nanos now() const override { return at; }
  Nanos at = 1000 * kSecond;
};

struct World {
  World() {
    ArenaOptions arena_options;
    arena_options.bytes = 8 * kMiB;
    arena = std::move(*Arena::create(arena_options));
    StoreOptions options;
    options.on_waiting = [this] { watch->begin(); };
    store = std::make_unique<Store>(*arena, std::move(options));
    watch.emplace(*store, clock, [this](const std::string& text) { said.push_back(text); });
  }
  ~World() {
    while (next > 0) store->cancel({0, next--});
  }
  void wait_for(std::uint64_t bytes) {
    store->create_when_possible({0, ++next}, bytes, CopyKind::primary, [](Result<Allocation>) {});
  }
  void pass(Nanos time) {
    clock.at += time;
    if (clock.at >= watch->next_deadline()) watch->poll();
  }

  HandClock clock;
  std::unique_ptr<Arena> arena;
  std::unique_ptr<Store> store;
  std::optional<MemoryWatch> watch;
  std::vector<std::string> said;
  std::uint64_t next = 0;
};

}  // namespace

TEST_CASE("who waits long for memory is told what fills it, more and more rarely") {
  World world;
  CHECK(world.watch->next_deadline() == kForever);
  auto held = world.store->hold(5 * kMiB);
  REQUIRE(held.ok());
  CHECK(world.watch->next_deadline() == kForever);
  world.wait_for(4 * kMiB);
  world.wait_for(1 * kMiB);  // behind it, although there is room for it
  world.pass(MemoryWatch::kPatience - 1);
  CHECK(world.said.empty());
  world.pass(1);
  REQUIRE(world.said.size() == 1);
  CHECK(world.said[0].find("2 objects (5242880 bytes) have waited for shared memory for 10 s") == 0);
  CHECK(world.said[0].find("no room for an object of 4194304 bytes: ") != std::string::npos);
  CHECK(world.said[0].find("TRIREME_ARENA_BYTES") != std::string::npos);
  world.pass(MemoryWatch::kPatience);
  CHECK(world.said.size() == 1);
  world.pass(MemoryWatch::kPatience);
  REQUIRE(world.said.size() == 2);
  CHECK(world.said[1].find("for 30 s") != std::string::npos);
  for (int i = 0; i < 3600; ++i) world.pass(kSecond);
  CHECK(world.said.size() >= 2 + 3600 / 300);
  CHECK(world.said.size() <= 2 + 3600 / 300 + 4);
}

TEST_CASE("objects that get their room one after the other are no reason to complain") {
  World world;
  std::vector<Buffer> held;
  for (int i = 0; i < 6; ++i) held.push_back(std::move(*world.store->hold(kMiB)));
  for (int i = 0; i < 5; ++i) world.wait_for(3 * kMiB);
  SUBCASE("all of them") {
    held.clear();  // two find room
    for (int i = 0; i < 3; ++i) {
      world.pass(MemoryWatch::kPatience - 1);
      REQUIRE(world.store->abort({0, static_cast<std::uint64_t>(i) + 1}).ok());
    }
    CHECK(world.store->stats().waiting == 0);
    world.pass(MemoryWatch::kPatience);
    CHECK(world.said.empty());
    CHECK(world.watch->next_deadline() == kForever);
    SUBCASE("and the next that waits is watched anew") {
      world.wait_for(6 * kMiB);
      world.pass(MemoryWatch::kPatience);
      CHECK(world.said.size() == 1);
    }
  }
  SUBCASE("until one does not") {
    held.clear();
    world.pass(MemoryWatch::kPatience);
    CHECK(world.said.empty());
    world.pass(MemoryWatch::kPatience);
    REQUIRE(world.said.size() == 1);
    CHECK(world.said[0].find("3 objects") == 0);
  }
}
