// The heat equation on a plate, solved in MPI, while actors of the runtime beside it watch the field: the solver
// publishes its block every few steps and goes on; an actor of the same node computes the block's statistics in the
// memory where the solver wrote it; one more actor joins the blocks and writes an HDF5 file. With --surrogate a network
// is trained on the same fields meanwhile, by one actor a rank that average their gradients.
#include <mpi.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <deque>
#include <exception>
#include <optional>
#include <string>
#include <trireme/embed.hpp>
#include <trireme/trireme.hpp>
#include <utility>
#include <vector>

#include "check.hpp"
#include "parallel.hpp"
#include "plot.hpp"
#include "series.hpp"
#include "training.hpp"

namespace {

using heat::BlockStatistics;
using heat::ParallelSolver;
using heat::Series;
using heat::SurrogateTrainer;

struct Options {
  std::size_t size = 512;
  std::uint64_t steps = 500;
  std::uint64_t every = 50;
  std::string output = "heat.h5";
  std::string memory = "in-place";
  std::string surrogate;
  bool check = false;
};

/// What the solver may be ahead of the statistics: bounds the memory that published fields take.
constexpr std::size_t kInFlight = 3;

/// One actor for each node, in its lowest rank; the others of the node find it by name.
trireme::Actor<BlockStatistics> node_statistics(const trireme::Embedded& runtime, MPI_Comm comm) {
  const auto leader = runtime.node_ranks().front();
  trireme::ActorOptions options;
  options.name = "statistics." + std::to_string(leader);
  options.placement = trireme::Placement::on(leader);
  trireme::Actor<BlockStatistics> statistics;
  if (runtime.rank() == leader) statistics = trireme::spawn_with<BlockStatistics>(options);
  MPI_Barrier(comm);
  if (!statistics) statistics = trireme::actor<BlockStatistics>(options.name);
  return statistics;
}

trireme::Actor<Series> series_of_run(const trireme::Embedded& runtime, MPI_Comm comm, const heat::Plate& plate,
                                     const std::string& output) {
  trireme::ActorOptions options;
  options.name = "series";
  options.placement = trireme::Placement::on(0);
  trireme::Actor<Series> series;
  if (runtime.rank() == 0)
    series = trireme::spawn_with<Series>(options, output, runtime.size(),
                                         heat::RunInfo{plate.size, runtime.size(), plate.dt});
  MPI_Barrier(comm);
  if (!series) series = trireme::actor<Series>(options.name);
  return series;
}

/// The trainer of this rank's copy of the surrogate; none when it was not asked for.
trireme::Actor<SurrogateTrainer> surrogate_trainer(const Options& options, const heat::Plate& plate, trireme::Rank rank,
                                                   MPI_Comm comm) {
  if (options.surrogate.empty()) return {};
  heat::make_training_group(comm);
  trireme::ActorOptions placed;
  placed.placement = trireme::Placement::on(rank);
  return trireme::spawn_with<SurrogateTrainer>(placed, heat::Patch::of(plate.rate, options.every).spacing);
}

/// What the actors have of one step, under way.
struct Analysis {
  std::uint64_t step;
  trireme::Ref<std::uint64_t> complete;
  std::optional<trireme::Ref<heat::Mistakes>> learned;
};

/// Waits for the analysis and notes how wrong the surrogate was.
void finish(const Analysis& analysis, std::vector<heat::SurrogateError>& errors) {
  trireme::get(analysis.complete);
  if (!analysis.learned) return;
  const auto mistakes = trireme::get(*analysis.learned);
  if (mistakes.cells == 0) return;  // of the first field nothing can be said yet
  errors.push_back(
      {analysis.step, std::sqrt(mistakes.squares / mistakes.cells), std::sqrt(mistakes.unchanged / mistakes.cells)});
}

/// Returns the errors of the surrogate, empty when there is none.
std::vector<heat::SurrogateError> solve(ParallelSolver& solver, const heat::Plate& plate, const Options& options,
                                        trireme::Rank rank, const trireme::Actor<BlockStatistics>& statistics,
                                        const trireme::Actor<Series>& series,
                                        const trireme::Actor<SurrogateTrainer>& trainer) {
  std::deque<Analysis> in_flight;
  std::vector<heat::SurrogateError> errors;
  for (std::uint64_t step = 1; step <= options.steps; ++step) {
    solver.advance();
    if (step % options.every != 0) continue;
    const auto field = trireme::put(solver.publish());
    const auto part = statistics.call<&BlockStatistics::analyse>(plate.size, field);
    Analysis analysis{step, series.call<&Series::add>(step, rank, part), {}};
    if (trainer) analysis.learned = trainer.call<&SurrogateTrainer::learn>(plate.size, field);
    in_flight.push_back(std::move(analysis));
    if (in_flight.size() > kInFlight) {
      finish(in_flight.front(), errors);
      in_flight.pop_front();
    }
  }
  for (const auto& analysis : in_flight) finish(analysis, errors);
  return errors;
}

/// The whole plate, on rank 0.
std::vector<double> gather(const ParallelSolver& solver, const heat::Plate& plate, MPI_Comm comm) {
  int rank = 0, ranks = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &ranks);
  std::vector<int> counts, starts;
  for (int r = 0; r < ranks; ++r) {
    const auto rows = heat::Rows::of(plate.size, r, ranks);
    counts.push_back(static_cast<int>(rows.count * plate.size));
    starts.push_back(static_cast<int>(rows.first * plate.size));
  }
  std::vector<double> whole(rank == 0 ? plate.size * plate.size : 0);
  const auto mine = solver.field();
  MPI_Gatherv(mine.data(), static_cast<int>(mine.size()), MPI_DOUBLE, whole.data(), counts.data(), starts.data(),
              MPI_DOUBLE, 0, comm);
  return whole;
}

void print_steps(const std::vector<heat::StepRecord>& steps) {
  std::printf("%8s %12s %10s %10s %10s %12s %14s\n", "step", "time", "min", "max", "mean", "variance", "total heat");
  for (const auto& record : steps) {
    const auto& m = record.moments;
    std::printf("%8llu %12.4e %10.3e %10.6f %10.6f %12.5e %14.6f\n", static_cast<unsigned long long>(record.step),
                record.time, m.min, m.max, m.mean, m.variance(), m.total);
  }
}

/// True when the parallel run and its actors found what a serial run finds.
bool check(const heat::Plate& plate, const Options& options, const std::vector<double>& field,
           const std::vector<heat::StepRecord>& steps) {
  const auto serial = heat::run_serially(plate, options.steps, options.every);
  auto wrong = heat::difference(field, serial.field);
  if (wrong.empty()) wrong = heat::difference(steps, serial.steps);
  if (wrong.empty()) {
    std::printf("check: the field equals a serial run's bit for bit, the statistics of %zu steps to %g\n", steps.size(),
                heat::kTolerance);
  } else {
    std::printf("check FAILED: %s\n", wrong.c_str());
  }
  return wrong.empty();
}

/// True when the surrogate has become better than at first, and better than saying that nothing changes.
bool report_surrogate(const std::vector<heat::SurrogateError>& errors, const std::string& path) {
  if (errors.size() < 2) {
    std::printf("the surrogate saw fewer than three fields: nothing to plot\n");
    return true;
  }
  heat::plot(path, errors);
  const auto &first = errors.front(), &last = errors.back();
  std::printf(
      "surrogate: error %.2e at step %llu (%.0f%% of saying that nothing changes), %.2e at step %llu (%.1f%%); plotted "
      "in "
      "%s\n",
      first.error, static_cast<unsigned long long>(first.step), 100 * first.error / first.unchanged, last.error,
      static_cast<unsigned long long>(last.step), 100 * last.error / last.unchanged, path.c_str());
  return last.error < first.error && last.error / last.unchanged < 0.5 * first.error / first.unchanged;
}

bool run(const Options& options, MPI_Comm comm) {
  auto beside = trireme::beside_a_program();
  // A trainer waits for the other ranks' in its thread; the statistics must not wait behind it.
  if (!options.surrogate.empty()) beside.threads = 2;
  auto runtime = trireme::embed(comm, beside);
  const auto plate = heat::Plate::of(options.size);
  const auto memory = options.memory == "in-place" ? ParallelSolver::Memory::in_place : ParallelSolver::Memory::copied;
  ParallelSolver solver(plate, comm, memory);
  const auto statistics = node_statistics(runtime, comm);
  const auto series = series_of_run(runtime, comm, plate, options.output);

  const auto trainer = surrogate_trainer(options, plate, runtime.rank(), comm);

  const auto errors = solve(solver, plate, options, runtime.rank(), statistics, series, trainer);

  unsigned long long bytes[2] = {solver.bytes_published(), solver.bytes_copied()};
  MPI_Allreduce(MPI_IN_PLACE, bytes, 2, MPI_UNSIGNED_LONG_LONG, MPI_SUM, comm);
  const auto field = options.check ? gather(solver, plate, comm) : std::vector<double>();
  // Every rank has waited for its parts, so the series is complete; the barrier says so to rank 0.
  MPI_Barrier(comm);
  if (runtime.rank() != 0) return true;

  const auto steps = trireme::get(series.call<&Series::steps>());
  const auto path = trireme::get(series.call<&Series::close>());
  std::printf("%zu x %zu cells, %llu steps, %u rank(s), %zu on the node of rank 0\n", plate.size, plate.size,
              static_cast<unsigned long long>(options.steps), runtime.size(), runtime.node_ranks().size());
  print_steps(steps);
  std::printf("published %.1f MB, of which the solver copied %.1f MB (--memory %s)\n", bytes[0] / 1e6, bytes[1] / 1e6,
              options.memory.c_str());
  std::printf("statistics are in %s\n", path.c_str());
  const bool learned = options.surrogate.empty() || report_surrogate(errors, options.surrogate);
  if (!learned) std::printf("the surrogate did not learn\n");
  return learned && (!options.check || check(plate, options, field, steps));
}

int parse(int argc, char** argv, Options& options, int rank, int ranks) {
  CLI::App app("2-D heat equation in MPI, with statistics actors beside it");
  app.add_option("--size", options.size, "cells along each edge of the plate")->capture_default_str();
  app.add_option("--steps", options.steps, "time steps")->capture_default_str();
  app.add_option("--every", options.every, "publish each so many steps")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40U))
      ->capture_default_str();
  app.add_option("--output", options.output, "file of the statistics")->capture_default_str();
  app.add_option("--memory", options.memory, "in-place: compute where all can read; copied: copy once when publishing")
      ->check(CLI::IsMember({"in-place", "copied"}))
      ->capture_default_str();
  app.add_option("--surrogate", options.surrogate, "train a network on the fields and plot its error to this SVG file");
  app.add_flag("--check", options.check, "compare with a serial run");
  try {
    app.parse(argc, argv);
    // gather() counts in int, as MPI does.
    if (options.size < 2 || options.size > 32'768 || options.size < static_cast<std::size_t>(ranks))
      throw CLI::ValidationError("--size", "between 2 and 32768, and at least the number of ranks");
    const auto plate = heat::Plate::of(options.size);
    const auto needed = 2 * heat::Patch::of(plate.rate, options.every).margin() + 1;
    if (!options.surrogate.empty() && options.size / static_cast<std::size_t>(ranks) < needed)
      throw CLI::ValidationError("--surrogate", "each rank needs " + std::to_string(needed) +
                                                    " rows for it: a larger --size, a smaller --every or fewer ranks");
  } catch (const CLI::ParseError& error) {
    if (rank == 0) return app.exit(error);
    return error.get_exit_code();
  }
  return -1;
}

}  // namespace

int main(int argc, char** argv) {
  int provided = MPI_THREAD_SINGLE, rank = 0, ranks = 1;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  Options options;
  int status = parse(argc, argv, options, rank, ranks);
  if (status < 0) {
    try {
      status = run(options, MPI_COMM_WORLD) ? 0 : 1;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "heat: rank %d: %s\n", rank, error.what());
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
  }
  MPI_Finalize();
  return status;
}
