#pragma once

#include <cstdint>
#include <functional>

namespace trireme::bench {

/// Runs `timesteps` steps of a grid with `iterations` rounds of the kernel in each task; returns the seconds taken,
/// the same number in every process that takes part.
using GridRun = std::function<double(std::uint64_t iterations, std::int64_t timesteps)>;

struct MetgProblem {
  int cores = 1;            ///< cores the run uses
  double tasks_a_step = 1;  ///< tasks in a full timestep
  double peak = 0;          ///< kernel rounds a second on all cores together, with nothing else to do
};

/// METG(50%) of the Task Bench paper, in microseconds: cores x seconds / tasks at the smallest task that still
/// reaches half of the peak rate. Walks down from large tasks by four, then halves the last interval in the
/// logarithm; each point is the best of three short runs, since disturbance only ever slows a run down.
double metg_us(const MetgProblem& problem, const GridRun& run);

}  // namespace trireme::bench
