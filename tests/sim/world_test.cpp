#include "tests/sim/world.hpp"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "core/current.hpp"
#include "core/message.hpp"
#include "tests/sim/visit.hpp"
#include "trireme/actor.hpp"
#include "trireme/group.hpp"
#include "trireme/runtime.hpp"
#include "trireme/task.hpp"

namespace trireme::sim {
namespace {

World* world_now = nullptr;
std::size_t died_waiting = 0;

long take_long() {
  world_now->at(core::current().context().self).host->compute(kSecond);
  return 1;
}
TaskOptions on(Rank rank) {
  TaskOptions options;
  options.placement = Placement::on(rank);
  options.max_retries = 0;
  return options;
}

long wait_long() { return get(submit_with<&take_long>(on(0))); }

/// Rank 1 dies in the middle of two tasks, one of which waits.
void run_a_world(std::uint64_t seed) {
  WorldOptions options;
  options.network.ranks = 2;
  options.network.seed = seed;
  options.node_of = {0, 1};
  options.cores = 2;
  World world(options, seed);
  world.doom(1);
  world_now = &world;
  bool lost = false;
  auto& host = *world.at(0).host;
  world.network.schedule(0, 0, [&] {
    host.run_program([&] {
      const auto busy = submit_with<&take_long>(on(1));
      const auto waits = submit_with<&wait_long>(on(1));
      for (int i = 0; i < 100 && world.at(1).host->blocked() == 0; ++i) host.compute(kMillisecond);
      died_waiting += world.at(1).host->blocked();
      world.kill(1);
      CHECK_THROWS_AS(get(busy), Exception);
      CHECK_THROWS_AS(get(waits), Exception);
      lost = true;
    });
  });
  REQUIRE(world.settle(100'000));
  CHECK(lost);
  CHECK(world.leaks() == "");
}

std::ptrdiff_t descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return std::distance(begin(all), end(all));
}
std::ptrdiff_t maps() {
  std::ifstream file("/proc/self/maps");
  std::ptrdiff_t count = 0;
  for (std::string line; std::getline(file, line);) ++count;
  return count;
}

using Numbers = std::vector<std::uint64_t>;

struct Listener {
  long hear(long what) { return what; }
};

struct Holder {
  void keep(Ref<Numbers> what) { kept = std::move(what); }
  Ref<Numbers> kept;
};

long stand() { return 1; }

struct Clerk {
  long stand() { return 1; }
};

/// Holds a desk until `children` others have held one of the same group, one after the other or at once.
long hold_desk(Booth booth, long children, bool actors) {
  long sum = 0;
  booth.bundle = -1;
  std::vector<Ref<long>> refs;
  for (long i = 0; i < children; ++i) {
    if (actors) {
      ActorOptions options;
      options.resources = one_desk();
      options.placement = at_booth(booth);
      const auto clerk = spawn_with<Clerk>(options);
      sum += get(clerk.call<&Clerk::stand>());
      continue;
    }
    TaskOptions options;
    options.resources = one_desk();
    options.placement = at_booth(booth);
    options.max_retries = 0;
    refs.push_back(submit_with<&stand>(options));
  }
  for (const long one : get(refs)) sum += one;
  return sum;
}

/// All bundles but the last are held by tasks whose children need one; their results.
std::vector<long> share_the_last_desk(std::uint64_t seed, std::uint32_t ranks, std::uint32_t bundles,
                                      std::uint32_t held, bool actors) {
  WorldOptions options;
  options.network.ranks = ranks;
  options.network.seed = seed;
  for (std::uint32_t rank = 0; rank < ranks; ++rank) options.node_of.push_back(rank);
  options.cores = 2;
  World world(options, seed);
  std::vector<long> sums;
  auto& host = *world.at(0).host;
  world.network.schedule(0, 0, [&] {
    host.run_program([&] {
      const PlacementGroup group(GroupStrategy::spread, std::vector<Resources>(bundles, one_desk()));
      get(group.ready());
      std::vector<Ref<long>> parents;
      for (std::uint32_t i = 0; i < held; ++i) {
        TaskOptions inside;
        inside.resources = one_desk();
        inside.placement = group.on(static_cast<int>(i));
        inside.max_retries = 0;
        parents.push_back(submit_with<&hold_desk>(inside, booth_in(group, -1), 5L, actors));
      }
      sums = get(parents);
    });
  });
  REQUIRE(world.settle(200'000));
  CHECK(world.leaks() == "");
  return sums;
}

long my_rank() { return core::current().context().self; }

/// Three ranks of two desks each, on nodes of their own; `program` runs on rank 0.
void run_three_ranks(std::uint64_t seed, const std::function<void(World&)>& program) {
  WorldOptions options;
  options.network.ranks = 3;
  options.network.seed = seed;
  options.node_of = {0, 1, 2};
  options.cores = 2;
  World world(options, seed);
  world_now = &world;
  bool ended = false;
  world.network.schedule(0, 0, [&] {
    world.at(0).host->run_program([&] {
      program(world);
      ended = true;
    });
  });
  REQUIRE(world.settle(200'000));
  CHECK(ended);
  CHECK(world.leaks() == "");
}

}  // namespace

TEST_CASE("what another rank has not given back goes with the end of the session") {
  constexpr std::uint64_t kEventsMax = 100'000;
  WorldOptions options;
  options.network.ranks = 2;
  options.node_of = {0, 1};
  options.cores = 2;
  World world(options, 1);
  auto& host = *world.at(0).host;
  auto& refs = world.at(0).core->refs();
  const auto at_once = [&](const std::function<void()>& what) {
    world.network.schedule(0, world.network.now(), what);
    REQUIRE(world.settle(kEventsMax));
  };
  Actor<Holder> holder;
  ObjectId id;
  at_once([&] {
    host.run_program([&] {
      ActorOptions there;
      there.placement = Placement::on(1);
      holder = spawn_with<Holder>(there);
      const auto numbers = put(Numbers(3000, 7));  // in the arena
      get(holder.call<&Holder::keep>(numbers));
      id = refs.export_cell(numbers.cell().get()).id;
    });
  });
  REQUIRE(refs.find(id) != nullptr);  // for rank 1, nothing here has it
  at_once([&] { host.step([&] { refs.end(); }); });
  CHECK(refs.find(id) == nullptr);
  world.kill(1);
  REQUIRE(world.settle(kEventsMax));
  at_once([&] { host.run_program([&] { holder = {}; }); });
  CHECK(world.leaks() == "");
}

// What is left of the actor, only the address sanitizer's leak check can tell.
TEST_CASE("a call that waits for another rank's value goes with its actor, and so does the actor") {
  WorldOptions options;
  options.network.ranks = 2;
  options.node_of = {0, 1};
  options.cores = 2;
  World world(options, 1);
  world_now = &world;
  bool lost = false;
  auto& host = *world.at(0).host;
  world.network.schedule(0, 0, [&] {
    host.run_program([&] {
      ActorOptions there;
      there.placement = Placement::on(1);
      const auto listener = spawn_with<Listener>(there);
      CHECK(get(listener.call<&Listener::hear>(1L)) == 1);
      const auto late = submit_with<&take_long>(on(0));
      const auto waits = listener.call<&Listener::hear>(late);
      host.compute(kMillisecond);
      listener.kill();
      CHECK_THROWS_AS(get(waits), ActorDiedError);
      host.compute(kMillisecond);
      CHECK_FALSE(late.ready());
      get(late);
      lost = true;
    });
  });
  REQUIRE(world.settle(100'000));
  CHECK(lost);
  CHECK(world.leaks() == "");
}

TEST_CASE("a world with a rank that died keeps no descriptor and no map") {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) run_a_world(seed);
  const auto descriptors_before = descriptors();
  const auto maps_before = maps();
  constexpr std::uint64_t kWorlds = 40;
  for (std::uint64_t seed = 4; seed < 4 + kWorlds; ++seed) run_a_world(seed);
  CHECK(died_waiting > kWorlds / 2);
  CHECK(descriptors() == descriptors_before);
  // The heap may have grown by some.
  CHECK(maps() < maps_before + static_cast<std::ptrdiff_t>(kWorlds) / 2);
}

TEST_CASE("what may lie in any bundle of a group finds the free one, whoever holds the others for how long") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    for (const auto& [ranks, bundles] : {std::pair(1U, 2U), std::pair(3U, 6U), std::pair(6U, 6U)})
      CHECK(share_the_last_desk(seed, ranks, bundles, bundles - 1, false) == std::vector<long>(bundles - 1, 5));
  }
}

TEST_CASE("an actor for any bundle of a group does not wait for that of its parent") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    for (const std::uint32_t ranks : {1U, 2U})
      CHECK(share_the_last_desk(seed, ranks, 2, 1, true) == std::vector<long>{5});
  }
}

TEST_CASE("what a rank believes is free on another is true when a short task has ended, without a message for that") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    run_three_ranks(seed, [](World& world) {
      auto& host = *world.at(0).host;
      const auto believed = [&world] { return world.at(0).core->cluster().available(1).custom_units("desk"); };
      const auto& reports = world.messages.at(static_cast<std::size_t>(core::MessageType::report));
      const auto desk = scheduler::Resources::kUnit;
      auto there = on(1);
      there.resources = one_desk();
      for (int i = 0; i < 20; ++i) {
        const auto task = submit_with<&stand>(there);
        host.compute(0);
        get(task);
        CHECK(believed() == 2 * desk);
        host.compute(30 * kMillisecond);
      }
      CHECK(reports == 0);
      // What is long needs some, not all the time.
      const auto task = submit_with<&take_long>(there);
      host.compute(kSecond / 2);
      CHECK(believed() == desk);
      get(task);
      CHECK(believed() == 2 * desk);
      CHECK(reports <= 2);
      // The end of an actor nobody waits for.
      ActorOptions options;
      options.resources = one_desk();
      options.placement = Placement::on(1);
      const auto listener = spawn_with<Listener>(options);
      get(listener.call<&Listener::hear>(1L));
      CHECK(believed() == desk);
      listener.kill();
      host.compute(100 * kMillisecond);
      CHECK(believed() == 2 * desk);
      CHECK(reports <= 4);
    });
  }
}

TEST_CASE("a group that follows the removal of another is placed as if nothing had been") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    run_three_ranks(seed, [seed](World& world) {
      Rng rng(seed);
      for (int i = 0; i < 10; ++i) {
        PlacementGroup spread(GroupStrategy::spread, std::vector<Resources>(3, one_desk()));
        get(spread.ready());
        // Reports may be on their way when it goes.
        world.at(0).host->compute(static_cast<Nanos>(rng.below(50 * kMillisecond)));
        spread.remove();
        const PlacementGroup pack(GroupStrategy::pack, std::vector<Resources>(2, one_desk()));
        std::vector<Ref<long>> where;
        for (const int bundle : {0, 1}) {
          TaskOptions inside;
          inside.resources = one_desk();
          inside.placement = pack.on(bundle);
          where.push_back(submit_with<&my_rank>(inside));
        }
        const auto ranks = get(where);
        CHECK(ranks[0] == ranks[1]);
      }
    });
  }
}

}  // namespace trireme::sim
