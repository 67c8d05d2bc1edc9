#include "tests/ranks/everywhere.hpp"

#include <fmt/format.h>

#include "core/current.hpp"
#include "core/rank_core.hpp"

namespace trireme::test {

namespace {

template <class F>
auto under_token(F look) {
  auto& core = core::current();
  decltype(look(core)) seen;
  scheduler::WaitPoint done;
  core::post(*core.context().host, [&] {
    seen = look(core);
    done.signal();
  });
  core.context().host->wait(done, kForever);
  return seen;
}

}  // namespace

Counts counts_here() {
  return under_token([](core::RankCore& core) {
    return Counts{core.refs().entries(), core.refs().held(), core.actors().hosted()};
  });
}
std::string dump_here() {
  return under_token([](core::RankCore& core) { return core.refs().dump(); });
}

bool nothing_left(std::string& left) {
  // Releases are under way when handles are gone; they arrive within a bounded number of messages.
  constexpr int kRounds = 2000;
  for (int round = 0; round < kRounds; ++round) {
    left.clear();
    for (Rank rank = 0; rank < rank_count(); ++rank) {
      if (!rank_alive(rank)) continue;
      const auto counts = get(submit_with<&counts_here>(on(rank)));
      if (counts == Counts{}) continue;
      left += fmt::format("rank {}: {} objects, {} results, {} actors\n", rank, counts.objects, counts.results,
                          counts.actors);
      if (round == kRounds - 1) left += get(submit_with<&dump_here>(on(rank)));
    }
    if (left.empty()) return true;
  }
  return false;
}

}  // namespace trireme::test
