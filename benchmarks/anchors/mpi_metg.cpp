// MPI under Task Bench's patterns: columns are dealt to the ranks in blocks; inputs of other ranks come as messages.
#include <mpi.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "benchmarks/harness/harness.hpp"
#include "benchmarks/workloads/kernel.hpp"
#include "benchmarks/workloads/metg.hpp"
#include "benchmarks/workloads/patterns.hpp"

namespace {

using namespace trireme::bench;

/// What a task hands on: who wrote it, so that every reader can check that it got what it asked for.
struct Output {
  std::int64_t timestep = -1;
  std::int64_t column = -1;
};

class MpiGrid {
 public:
  explicit MpiGrid(const Grid& grid) : grid_(grid) {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks_);
    first_ = first_of(rank_);
    end_ = first_of(rank_ + 1);
    const auto mine = static_cast<std::size_t>(end_ - first_);
    for (auto& outputs : outputs_) outputs.resize(mine);
    inputs_.resize(mine);
  }

  double run(std::uint64_t iterations, std::int64_t timesteps) {
    MPI_Barrier(MPI_COMM_WORLD);
    double seconds = seconds_of([&] {
      for (std::int64_t t = 0; t < timesteps; ++t) step(iterations, t);
    });
    MPI_Allreduce(MPI_IN_PLACE, &seconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    return seconds;
  }

 private:
  int first_of(int rank) const { return rank * grid_.width() / ranks_; }
  int owner(int column) const { return ((column + 1) * ranks_ - 1) / grid_.width(); }
  bool is_mine(int column) const { return column >= first_ && column < end_; }
  int tag(int from, int to) const { return from * grid_.width() + to; }

  void step(std::uint64_t iterations, std::int64_t t) {
    const auto& before = outputs_[(t + 1) % 2];
    auto& now = outputs_[t % 2];
    requests_.clear();
    const int active_end = std::min(end_, grid_.active(t));
    for (int c = first_; c < active_end; ++c) {
      const Columns in = grid_.inputs(t, c);
      for (int i = 0; i < in.count; ++i) {
        Output& slot = inputs_[c - first_][i];
        if (is_mine(in.column[i])) {
          slot = before[in.column[i] - first_];
        } else {
          MPI_Irecv(&slot, sizeof slot, MPI_BYTE, owner(in.column[i]), tag(in.column[i], c), MPI_COMM_WORLD,
                    &requests_.emplace_back());
        }
      }
    }
    if (t > 0) {
      for (int c = first_; c < std::min(end_, grid_.active(t - 1)); ++c) {
        const Columns out = grid_.outputs(t - 1, c);
        for (int i = 0; i < out.count; ++i) {
          if (is_mine(out.column[i])) continue;
          MPI_Isend(&before[c - first_], sizeof(Output), MPI_BYTE, owner(out.column[i]), tag(c, out.column[i]),
                    MPI_COMM_WORLD, &requests_.emplace_back());
        }
      }
    }
    MPI_Waitall(static_cast<int>(requests_.size()), requests_.data(), MPI_STATUSES_IGNORE);
    for (int c = first_; c < active_end; ++c) {
      const Columns in = grid_.inputs(t, c);
      for (int i = 0; i < in.count; ++i) check(inputs_[c - first_][i], t - 1, in.column[i]);
      sink_ = busy_kernel(iterations, sink_);
      now[c - first_] = {t, c};
    }
  }

  static void check(const Output& input, std::int64_t timestep, int column) {
    if (input.timestep == timestep && input.column == column) return;
    std::fprintf(stderr, "wrong input: asked for (%lld, %d), got (%lld, %lld)\n", static_cast<long long>(timestep),
                 column, static_cast<long long>(input.timestep), static_cast<long long>(input.column));
    MPI_Abort(MPI_COMM_WORLD, 1);
  }

  Grid grid_;
  int rank_ = 0;
  int ranks_ = 1;
  int first_ = 0;
  int end_ = 0;
  std::vector<Output> outputs_[2];
  std::vector<std::array<Output, 3>> inputs_;
  std::vector<MPI_Request> requests_;
  volatile double sink_ = 0;
};

/// Kernel rounds a second on all ranks together, while all of them run: the best of three.
double peak_rate() {
  constexpr std::uint64_t kIterations = 20'000'000;
  double best = 0;
  for (int i = 0; i < 3; ++i) {
    MPI_Barrier(MPI_COMM_WORLD);
    volatile double sink = 0;
    double rate = static_cast<double>(kIterations) / seconds_of([&] { sink = busy_kernel(kIterations, 1); });
    MPI_Allreduce(MPI_IN_PLACE, &rate, 1, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
    best = std::max(best, rate);
  }
  return best;
}

std::optional<double> metg(const Arguments& arguments) {
  int rank = 0;
  int ranks = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  const std::string name = arguments.text("pattern", "stencil_1d");
  const auto pattern = parse_pattern(name);
  if (!pattern) {
    std::fprintf(stderr, "pattern=%s: expected trivial, stencil_1d, fft or tree\n", name.c_str());
    std::exit(2);
  }
  const int width = static_cast<int>(arguments.number("width", static_cast<std::uint64_t>(std::max(8, ranks))));
  MpiGrid grid(Grid(*pattern, width));
  const MetgProblem problem{ranks, static_cast<double>(width), peak_rate()};
  const double us = metg_us(problem, [&](std::uint64_t n, std::int64_t t) { return grid.run(n, t); });
  if (rank != 0) return std::nullopt;
  return us;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  trireme::bench::Program program;
  program.add("metg", "us", metg);
  const int status = program.run(argc, argv);
  MPI_Finalize();
  return status;
}
