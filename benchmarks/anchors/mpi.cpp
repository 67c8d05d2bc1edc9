// MPI between two ranks.
#include <mpi.h>

#include <vector>

#include "benchmarks/harness/harness.hpp"

namespace {

using trireme::bench::Arguments;

std::optional<double> ping_pong(const Arguments& arguments) {
  std::vector<char> message(arguments.number("size", 8));
  const auto rounds = static_cast<int>(arguments.number("rounds", 20000));
  const int bytes = static_cast<int>(message.size());
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const auto play = [&](int n) {
    for (int i = 0; i < n; ++i) {
      if (rank == 0) MPI_Send(message.data(), bytes, MPI_CHAR, 1, 0, MPI_COMM_WORLD);
      if (rank <= 1) MPI_Recv(message.data(), bytes, MPI_CHAR, 1 - rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      if (rank == 1) MPI_Send(message.data(), bytes, MPI_CHAR, 0, 0, MPI_COMM_WORLD);
    }
  };
  play(rounds / 10);
  MPI_Barrier(MPI_COMM_WORLD);
  const double seconds = trireme::bench::seconds_of([&] { play(rounds); });
  if (rank != 0) return std::nullopt;
  return seconds / rounds * 1e9;
}

std::optional<double> all_reduce(const Arguments& arguments) {
  const std::uint64_t bytes = arguments.number("size", 8);
  const auto count = static_cast<int>(bytes / sizeof(double));
  std::vector<double> data(static_cast<std::size_t>(count), 1.0);
  const auto rounds = static_cast<int>(arguments.number("rounds", bytes < (1U << 16U)   ? 20000
                                                                  : bytes < (4U << 20U) ? 500
                                                                                        : 20));
  const auto reduce = [&](int n) {
    for (int i = 0; i < n; ++i) {
      // In place, as training does it; the sum of sums would overflow.
      MPI_Allreduce(MPI_IN_PLACE, data.data(), count, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    }
  };
  reduce(rounds / 5);
  MPI_Barrier(MPI_COMM_WORLD);
  const double seconds = trireme::bench::seconds_of([&] { reduce(rounds); });
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank != 0) return std::nullopt;
  return seconds / rounds * 1e6;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  trireme::bench::Program program;
  program.add("ping_pong", "ns/round trip", ping_pong);
  program.add("all_reduce", "us/operation", all_reduce);
  const int status = program.run(argc, argv);
  MPI_Finalize();
  return status;
}
