/// Rank 2 of a small job sends rank 0 what the input says, in the place of what the protocol would: each message is
/// taken or closes the connection; the program of rank 0 ends, and ranks 0 and 1 stay connected. A rank joins
/// meanwhile.
///
/// Checked: every program ends, so every reference resolves to a value or an error, whatever it is; nothing is taken
/// for dead but rank 2; once that is dead, ranks 0 and 1 hold no reference, result, task, call, actor, name, group,
/// object, resource or timer any more, so all counts went to zero; under the address sanitizer, no memory that ranks 0
/// and 1 took is lost (asked at the exit, for all inputs together). Not checked: what values say, for those that rank 2
/// made may be anything; how often a task runs, for rank 2 may run what it was given and give it on as well; memory of
/// rank 2, whose stacks are dropped as they stand; cycles that honest programs could make as well (an actor that keeps
/// its own result); that nobody is slandered: a rank that reports the loss of rank 1 is believed, so such messages are
/// left out.
///
/// With FUZZ_RECORD set to a folder, messages that the ranks send each other are written there: so the corpus is made,
/// from an input that holds no message.

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>

#include "base/check.hpp"
#include "core/message.hpp"
#include "tests/sim/fuzz_input.hpp"
#include "tests/sim/scene.hpp"
#include "tests/sim/world.hpp"
#include "trireme/runtime.hpp"

namespace trireme::sim {
namespace {

constexpr Rank kHostile = 2;
constexpr Rank kLate = 3;

WorldOptions small_world(std::uint64_t seed) {
  WorldOptions o;
  o.network.ranks = 4;
  o.network.seed = seed;
  // Ranks 0 and 1 read in each other's memory.
  o.node_of = {0, 0, 1, 2};
  o.seats = 1;
  o.cores = 2;
  // So that large objects are pulled with messages.
  o.transfer.chunk_bytes = 16U << 10U;
  o.transfer.direct_bytes_max = 12U << 10U;
  o.transfer.striped_bytes_min = 48U << 10U;
  return o;
}

/// Messages of every type, a few sizes of each, as inputs: those of rank 2 to rank 0 where there are some, else any.
class Recorder {
 public:
  void watch(World& world) {
    for (Rank to = 0; to < kLate; ++to) {
      auto& sees = world.at(to).host->on_traffic;
      sees = [this, to, before = sees](Rank from, BytesView message) {
        before(from, message);
        if (message.size() > UINT8_MAX) return;
        auto& kept = (from == kHostile && to == 0 ? hostile_ : any_)[std::to_integer<int>(message[0])];
        if (kept.size() < kEach) kept.try_emplace(message.size(), message.begin(), message.end());
      };
    }
  }
  void write(const std::string& folder) {
    any_.merge(std::map(hostile_));
    for (const auto& [type, messages] : any_) {
      for (const auto& [size, message] : hostile_.contains(type) ? hostile_[type] : messages) {
        std::ofstream file(fmt::format("{}/type{}_{}", folder, type, size), std::ios::binary);
        file.put(static_cast<char>(size));
        file.write(reinterpret_cast<const char*>(message.data()), static_cast<std::streamsize>(size));
      }
    }
  }

 private:
  static constexpr std::size_t kEach = 3;
  std::map<int, std::map<std::size_t, Bytes>> hostile_, any_;
};

/// A rank is believed when it reports that it lost another: which end of a broken link is to blame, nobody can tell.
bool slanders(const Bytes& message) {
  Reader in(message);
  return in.get<core::MessageType>() == core::MessageType::death_report && in.varint() == 1;
}

void run_world(const std::vector<Bytes>& messages, std::uint64_t seed = 1, Recorder* recorder = nullptr) {
  World world(small_world(seed), seed);
  if (recorder != nullptr) recorder->watch(world);
  world.doom(kHostile);
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
      look_at(scene);
      TaskOptions there;
      there.placement = Placement::on(1);
      worked = check_blob(get(submit_with<&leaf>(there, new_order(160)))) == 160;
      scene = {};
    });
  });
  // While the hostile messages come.
  world.network.schedule(60'000, [&world] { world.join(kLate); });
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (slanders(messages[i])) continue;
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
  if (const auto left = world.leaks(); !left.empty()) {
    fmt::print(stderr, "{}", left);
    TRIREME_CHECK(left.empty(), "what a dead rank held, or had others hold, is gone");
  }
  if (recorder != nullptr) TRIREME_CHECK(world.shut_down().empty(), "the job ends");
}

}  // namespace
}  // namespace trireme::sim

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace trireme;
  const auto messages = sim::messages_of(data, size);
  if (const char* folder = std::getenv("FUZZ_RECORD")) {
    // Not every run of the scene has messages of every type.
    constexpr std::uint64_t kRuns = 20;
    sim::Recorder recorder;
    for (std::uint64_t seed = 1; seed <= kRuns; ++seed) sim::run_world(messages, seed, &recorder);
    recorder.write(folder);
    return 0;
  }
  sim::run_world(messages);
  return 0;
}
