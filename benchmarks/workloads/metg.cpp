#include "benchmarks/workloads/metg.hpp"

#include <algorithm>
#include <cmath>

namespace trireme::bench {
namespace {

constexpr double kRunSeconds = 0.015;
constexpr int kRunsPerPoint = 3;
constexpr int kHalvings = 5;
constexpr double kLargestTaskSeconds = 1e-3;

struct Point {
  std::uint64_t iterations = 0;
  double efficiency = 0;
  double granularity_us = 0;
};

Point measure(const MetgProblem& problem, const GridRun& run, std::uint64_t iterations) {
  // Long enough to be timed, whatever the overhead: the first short run tells how long a step takes.
  std::int64_t timesteps = 16;
  double seconds = run(iterations, timesteps);
  while (seconds < kRunSeconds / 2) {
    timesteps = static_cast<std::int64_t>(static_cast<double>(timesteps) *
                                          std::clamp(kRunSeconds / std::max(seconds, 1e-9), 2.0, 16.0));
    seconds = run(iterations, timesteps);
  }
  for (int i = 1; i < kRunsPerPoint; ++i) seconds = std::min(seconds, run(iterations, timesteps));
  const double tasks = problem.tasks_a_step * static_cast<double>(timesteps);
  return {iterations, tasks * static_cast<double>(iterations) / seconds / problem.peak,
          problem.cores * seconds / tasks * 1e6};
}

}  // namespace

double metg_us(const MetgProblem& problem, const GridRun& run) {
  auto iterations = static_cast<std::uint64_t>(kLargestTaskSeconds * problem.peak / problem.cores);
  Point good = measure(problem, run, iterations);
  if (good.efficiency < 0.5) return good.granularity_us;  // Already too fine: an upper bound would be a guess.
  Point bad = good;
  while (bad.efficiency >= 0.5 && iterations > 1) {
    good = bad;
    iterations = std::max<std::uint64_t>(1, iterations / 4);
    bad = measure(problem, run, iterations);
  }
  if (bad.efficiency >= 0.5) return bad.granularity_us;
  for (int i = 0; i < kHalvings; ++i) {
    const auto middle = static_cast<std::uint64_t>(
        std::sqrt(static_cast<double>(good.iterations) * static_cast<double>(bad.iterations)));
    if (middle <= bad.iterations || middle >= good.iterations) break;
    const Point point = measure(problem, run, middle);
    (point.efficiency >= 0.5 ? good : bad) = point;
  }
  return good.granularity_us;
}

}  // namespace trireme::bench
