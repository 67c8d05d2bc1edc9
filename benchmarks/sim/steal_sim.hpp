#pragma once

#include <cstdint>

#include "network.hpp"
#include "scheduler/steal.hpp"
#include "workload.hpp"

namespace trireme::sim {

struct StealSetup {
  Machine machine;
  Workload workload;
  scheduler::StealOptions options;
  std::uint64_t seed = 1;
  Nanos start_after = kMillisecond;   ///< all ranks are idle for this long before the work appears
  bool hungry_when_all_idle = false;  ///< asks only when no core has work, instead of when one has none
};

struct StealOutcome {
  double efficiency = 0;  ///< total work / (cores x makespan)
  Nanos makespan = 0;     ///< from the appearance of work to the end of the last task
  std::uint64_t tasks = 0, events = 0;
  std::uint64_t messages = 0, bytes = 0;
  std::uint64_t messages_before = 0;      ///< until the work appeared: every rank runs dry once
  std::uint64_t messages_after = 0;       ///< after the last task ended, until nobody sends any more
  Nanos quiet_after = 0;                  ///< how long that took
  Nanos all_started = 0;                  ///< when 95% of the ranks had run their first task
  scheduler::StealProtocol::Stats stats;  ///< summed over ranks
  double cpu_in_messages = 0;             ///< receivers' time for messages / total work
};

/// Runs StealProtocol on every rank until no event is left, so the run itself shows that idle ranks fall silent.
StealOutcome simulate_steal(const StealSetup& setup);

}  // namespace trireme::sim
