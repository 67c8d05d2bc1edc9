/// Rank 2 of a small job sends rank 0 what the input says, in the place of what the protocol would: each message is
/// taken or closes the connection; the program of rank 0 ends, and ranks 0 and 1 stay connected.
///
/// Input: messages, each behind a byte that holds its size.
///
/// With FUZZ_RECORD set to a folder, the messages that the ranks send each other are written there: so the corpus is
/// made.

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <set>

#include "base/check.hpp"
#include "tests/sim/program.hpp"
#include "tests/sim/world.hpp"
#include "trireme/runtime.hpp"

namespace trireme::sim {
namespace {

constexpr Rank kHostile = 2;

WorldOptions small_world() {
  WorldOptions o;
  o.network.ranks = 3;
  o.network.seed = 1;
  o.node_of = {0, 1, 2};
  o.cores = 2;
  return o;
}

/// State for the messages to hit: references, actors here and there, a group, calls and tasks under way.
struct Scene {
  std::vector<Ref<Blob>> refs;
  std::vector<Actor<Account>> actors;
  std::vector<PlacementGroup> groups;
};

void set_up(Scene& scene) {
  Caller caller;
  for (Rank rank = 0; rank < 3; ++rank) {
    ActorOptions options;
    options.placement = Placement::on(rank, true);
    if (rank != 1) options.name = fmt::format("name{}", rank);
    const auto key = ledger->actor_key();
    scene.actors.push_back(spawn_with<Account>(options, std::uint64_t{7}, key, 1U));
    scene.refs.push_back(scene.actors.back().call<&Account::add>(caller.order(key, rank)));
    TaskOptions there;
    there.placement = Placement::on(rank, true);
    for (std::uint64_t i = 0; i < 4; ++i) scene.refs.push_back(submit_with<&leaf>(there, new_order(i * 16)));
    scene.refs.push_back(submit_with<&combine>(there, new_order(1), put(make_blob(rank)), make_blob(2)));
  }
  Resources desk;
  desk.cpus = 0;
  desk.custom["desk"] = 1;
  scene.groups.emplace_back(GroupStrategy::spread, std::vector<Resources>{desk, desk});
  for (Rank rank = 0; rank < 3; ++rank) {
    TaskOptions there;
    there.placement = Placement::on(rank, true);
    const auto first = scene.refs.front();
    scene.refs.push_back(submit_with<&sum>(there, new_order(5), scene.refs));
    submit_with<&hand_on>(there, new_order(6), first);
    submit_with<&use_account>(there, new_order(8), scene.actors[rank], std::uint64_t{1} + rank);
    submit_with<&tree>(there, new_order(9 + rank, 2));
    there.placement = scene.groups.back().on();
    there.resources = desk;
    scene.refs.push_back(submit_with<&leaf>(there, new_order(16)));
  }
  scene.actors[1].kill();
}

/// Every rank's messages, a few of each type, each as an input of its own.
void record(World& world, const char* folder) {
  for (auto& node : world.nodes) {
    node->host->on_traffic = [folder, before = node->host->on_traffic](Rank from, BytesView message) {
      before(from, message);
      constexpr std::size_t kEach = 3;
      static std::map<int, std::set<std::size_t>> seen;  // sizes by type
      const auto type = std::to_integer<int>(message[0]);
      if (message.size() > 255 || seen[type].size() == kEach || !seen[type].insert(message.size()).second) return;
      std::ofstream file(fmt::format("{}/type{}_{}", folder, type, message.size()), std::ios::binary);
      file.put(static_cast<char>(message.size()));
      file.write(reinterpret_cast<const char*>(message.data()), static_cast<std::streamsize>(message.size()));
    };
  }
}

void run_world(const std::vector<Bytes>& messages) {
  World world(small_world(), 1);
  if (const char* folder = std::getenv("FUZZ_RECORD")) record(world, folder);
  Ledger book(world);
  ledger = &book;
  constexpr std::uint64_t kEventsMax = 200'000;
  Scene scene;
  auto& host = *world.at(0).host;
  bool worked = false;
  world.network.schedule(0, 0, [&] {
    host.run_program([&] {
      set_up(scene);
      host.compute(100 * kMicrosecond);
      for (const auto& ref : scene.refs) {
        try {
          get(ref);
        } catch (const Exception&) {
          // What rank 2 had is gone with it, or is what it says.
        }
      }
      TaskOptions there;
      there.placement = Placement::on(1);
      worked = check_blob(get(submit_with<&leaf>(there, new_order(160)))) == 160;
      scene = {};
    });
  });
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const auto at = static_cast<Nanos>(20'000 + 7'000 * i);
    world.network.schedule(kHostile, at, [&world, &message = messages[i]] {
      auto& node = world.at(kHostile);
      node.host->step([&] { node.router->send(0, message); });
    });
  }
  // What it has promised and never does is over with its death.
  world.network.schedule(0, 5 * kMillisecond, [&world] { world.kill(kHostile); });
  TRIREME_CHECK(world.settle(kEventsMax), "the job comes to rest");
  if (!host.program_ended()) fmt::print(stderr, "what is left:\n{}", world.leaks());
  TRIREME_CHECK(host.program_ended(), "every reference resolves to a value or an error");
  TRIREME_CHECK(worked, "ranks 0 and 1 work together");
  TRIREME_CHECK(world.at(0).core->context().alive(1) && world.at(1).core->context().alive(0),
                "nobody but rank 2 is taken for dead");
}

}  // namespace
}  // namespace trireme::sim

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace trireme;
  std::vector<Bytes> messages;
  for (std::size_t at = 0; at < size && messages.size() < 32;) {
    const auto bytes = std::min<std::size_t>(data[at], size - at - 1);
    const auto* first = reinterpret_cast<const std::byte*>(data + at + 1);
    if (bytes > 0) messages.emplace_back(first, first + bytes);
    at += 1 + bytes;
  }
  sim::run_world(messages);
  return 0;
}
