#pragma once

#include <cstdint>

#include "network.hpp"

namespace trireme::sim {

/// Some ranks submit tasks of {GPU: 1}; every rank has GPUs; nothing else knows who is free.
struct PlacementSetup {
  Machine machine;  ///< cores count as GPUs
  std::uint32_t submitters = 16;
  std::uint32_t tasks_per_gpu = 20;
  Nanos task = 10 * kMillisecond;
  double spread = 0.2;
  std::uint32_t task_bytes = 256;
  double outstanding = 2;  ///< tasks that the submitters together keep out there, per GPU
  std::uint64_t seed = 1;
};

struct PlacementOutcome {
  double efficiency = 0;  ///< total work / (GPUs x makespan)
  Nanos makespan = 0;
  std::uint64_t tasks = 0, messages = 0, bytes = 0, bounces = 0, queued = 0, messages_after = 0, events = 0;
};

/// Runs ClusterView::choose() on the submitters and PlacementQueue on all ranks, messages through the real encoding.
PlacementOutcome simulate_placement(const PlacementSetup& setup);

}  // namespace trireme::sim
