// Groups of ranks. MPI is how they find each other, and what they are compared with; both sides call in the same way.
#include <mpi.h>

#include <cstring>
#include <vector>

#include "benchmarks/harness/harness.hpp"
#include "trireme/ml/communicator.hpp"

namespace {

using trireme::bench::Arguments;

trireme::ml::Communicator world() {
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const auto exchange = [size](std::span<const std::byte> mine,
                               std::int64_t) -> trireme::Result<std::vector<std::vector<std::byte>>> {
    constexpr int kRoom = 4096;  // a UCX address and a little more
    std::vector<std::byte> padded(kRoom);
    const auto bytes = static_cast<std::uint32_t>(mine.size());
    if (bytes + sizeof bytes > kRoom) return trireme::make_error(trireme::Errc::too_large, "a blob over 4 KiB");
    std::memcpy(padded.data(), &bytes, sizeof bytes);
    std::memcpy(padded.data() + sizeof bytes, mine.data(), bytes);
    std::vector<std::byte> flat(padded.size() * static_cast<std::size_t>(size));
    MPI_Allgather(padded.data(), kRoom, MPI_BYTE, flat.data(), kRoom, MPI_BYTE, MPI_COMM_WORLD);
    std::vector<std::vector<std::byte>> all;
    for (int i = 0; i < size; ++i) {
      const auto* part = flat.data() + static_cast<std::ptrdiff_t>(i) * kRoom;
      std::uint32_t length = 0;
      std::memcpy(&length, part, sizeof length);
      all.emplace_back(part + sizeof length, part + sizeof length + length);
    }
    return all;
  };
  return {static_cast<std::uint32_t>(rank), static_cast<std::uint32_t>(size), exchange};
}

std::optional<double> all_reduce(const Arguments& arguments) {
  const std::uint64_t bytes = arguments.number("size", 8);
  std::vector<double> data(bytes / sizeof(double), 1.0);
  const auto rounds = static_cast<int>(arguments.number("rounds", bytes < (1U << 16U)   ? 20000
                                                                  : bytes < (4U << 20U) ? 500
                                                                                        : 20));
  auto group = world();
  const auto reduce = [&](int n) {
    for (int i = 0; i < n; ++i) group.all_reduce(std::span(data), trireme::ml::ReduceOp::max);
  };
  reduce(rounds / 5);
  MPI_Barrier(MPI_COMM_WORLD);
  const double seconds = trireme::bench::seconds_of([&] { reduce(rounds); });
  if (group.rank() != 0) return std::nullopt;
  return seconds / rounds * 1e6;
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  trireme::bench::Program program;
  program.add("all_reduce", "us/operation", all_reduce);
  const int status = program.run(argc, argv);
  MPI_Finalize();
  return status;
}
