// Task Bench's patterns as tasks and references: one task submits the whole grid, every point is a task whose inputs
// are references to the outputs of the timestep before.
#include "benchmarks/workloads/metg.hpp"

#include <algorithm>

#include "benchmarks/cpp/common.hpp"
#include "benchmarks/harness/process.hpp"
#include "benchmarks/workloads/kernel.hpp"
#include "benchmarks/workloads/patterns.hpp"

namespace {

using namespace trireme::bench;

// Before the runtime binds its threads.
const auto kCores = static_cast<int>(allowed_cores().size());

/// What a task hands on: who wrote it, so that every reader can check that it got what it asked for.
struct Output {
  std::int64_t timestep = -1;
  std::int64_t column = -1;
};

struct Place {
  Pattern pattern = Pattern::trivial;
  std::int32_t width = 0;
  std::int64_t timestep = 0;
  std::int64_t column = 0;
  std::uint64_t iterations = 0;
};

template <class... Inputs>
Output point(const Place& place, const Inputs&... inputs) {
  if constexpr (sizeof...(Inputs) > 0) {
    const Columns in = Grid(place.pattern, place.width).inputs(place.timestep, static_cast<int>(place.column));
    int i = 0;
    const auto check = [&](const Output& input) {
      expect(input.timestep == place.timestep - 1 && input.column == in.column[i++], "input of a task");
    };
    (check(inputs), ...);
  }
  volatile double sink = busy_kernel(place.iterations, 1);
  static_cast<void>(sink);
  return {place.timestep, place.column};
}

using OutputRef = trireme::Ref<Output>;

OutputRef submit_point(const Place& place, const Columns& in, const std::vector<OutputRef>& before) {
  switch (in.count) {
    case 0:
      return trireme::submit<&point<>>(place);
    case 1:
      return trireme::submit<&point<Output>>(place, before[in.column[0]]);
    case 2:
      return trireme::submit<&point<Output, Output>>(place, before[in.column[0]], before[in.column[1]]);
    default:
      return trireme::submit<&point<Output, Output, Output>>(place, before[in.column[0]], before[in.column[1]],
                                                             before[in.column[2]]);
  }
}

/// How many timesteps the submitter is ahead of what has been computed, at most: as the runtimes do that Task Bench
/// compares, it keeps the graph that waits in the caches.
constexpr std::size_t kWindow = 64;

double grid_seconds(const Place& whole, std::int64_t timesteps) {
  const Grid grid(whole.pattern, whole.width);
  return seconds_of([&] {
    std::vector<std::vector<OutputRef>> rows(kWindow);
    const std::vector<OutputRef> none;
    Place place = whole;
    for (std::int64_t t = 0; t < timesteps; ++t) {
      place.timestep = t;
      auto& row = rows[t % kWindow];
      for (const auto& ref : row) trireme::get(ref);
      row.clear();
      const auto& before = t == 0 ? none : rows[(t - 1) % kWindow];
      for (int c = 0; c < grid.active(t); ++c) {
        place.column = c;
        row.push_back(submit_point(place, grid.inputs(t, c), before));
      }
    }
    for (const auto& row : rows) {
      for (const auto& ref : row) trireme::get(ref);
    }
  });
}

double kernel_rate() {
  constexpr std::uint64_t kIterations = 20'000'000;
  volatile double sink = 0;
  return static_cast<double>(kIterations) / seconds_of([&] { sink = busy_kernel(kIterations, 1); });
}

int cores_here() { return kCores; }

struct Machine {
  int cores = 0;
  double peak = 0;  ///< kernel rounds a second on all cores while all of them run: the best of three
};

Machine measure_machine() {
  Machine machine;
  std::vector<int> cores;
  for (trireme::Rank r = 0; r < trireme::rank_count(); ++r) {
    cores.push_back(trireme::get(trireme::submit_with<&cores_here>(on_rank(r))));
    machine.cores += cores.back();
  }
  for (int i = 0; i < 3; ++i) {
    std::vector<trireme::Ref<double>> rates;
    for (trireme::Rank r = 0; r < trireme::rank_count(); ++r) {
      for (int c = 0; c < cores[r]; ++c) rates.push_back(trireme::submit_with<&kernel_rate>(on_rank(r)));
    }
    double sum = 0;
    for (const auto& rate : rates) sum += trireme::get(rate);
    machine.peak = std::max(machine.peak, sum);
  }
  return machine;
}

Place grid_of(const Arguments& arguments, int cores) {
  const auto pattern = parse_pattern(arguments.text("pattern", "stencil_1d"));
  expect(pattern.has_value(), "pattern: expected trivial, stencil_1d, fft or tree");
  Place whole;
  whole.pattern = *pattern;
  whole.width = static_cast<std::int32_t>(arguments.number("width", static_cast<std::uint64_t>(std::max(8, cores))));
  return whole;
}

/// One grid of `timesteps` with tasks of `iterations` rounds, for profiles: core-nanoseconds a task.
std::optional<double> one_grid(const Arguments& arguments) {
  Place whole = grid_of(arguments, kCores);
  whole.iterations = arguments.number("iterations", 1);
  const auto timesteps = static_cast<std::int64_t>(arguments.number("timesteps", 200'000));
  const double seconds = trireme::get(trireme::submit_with<&grid_seconds>(on_rank(0), whole, timesteps));
  return kCores * seconds / static_cast<double>(timesteps * whole.width) * 1e9;
}

std::optional<double> metg(const Arguments& arguments) {
  const Machine machine = measure_machine();
  Place whole = grid_of(arguments, machine.cores);
  const MetgProblem problem{machine.cores, static_cast<double>(whole.width), machine.peak};
  return metg_us(problem, [&](std::uint64_t iterations, std::int64_t timesteps) {
    whole.iterations = iterations;
    return trireme::get(trireme::submit_with<&grid_seconds>(on_rank(0), whole, timesteps));
  });
}

}  // namespace

int main(int argc, char** argv) {
  trireme::Runtime runtime(argc, argv);
  Program program;
  program.add("metg", "us", metg);
  program.add("grid", "ns/task", one_grid);
  return program.run(argc, argv);
}
