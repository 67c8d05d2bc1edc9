#pragma once

#include <doctest/doctest.h>
#include <mpi.h>

#include <cstddef>
#include <vector>

#include "trireme/ml/communicator.hpp"

namespace trireme::ml::test {

/// All-gather of blobs over MPI: what a launcher offers.
inline Exchange mpi_exchange(MPI_Comm comm) {
  return [comm](std::span<const std::byte> mine, std::int64_t) -> Result<std::vector<std::vector<std::byte>>> {
    int size = 0;
    MPI_Comm_size(comm, &size);
    const int bytes = static_cast<int>(mine.size());
    std::vector<int> counts(static_cast<std::size_t>(size));
    MPI_Allgather(&bytes, 1, MPI_INT, counts.data(), 1, MPI_INT, comm);
    std::vector<int> at(counts.size(), 0);
    for (std::size_t i = 1; i < counts.size(); ++i) at[i] = at[i - 1] + counts[i - 1];
    std::vector<std::byte> flat(static_cast<std::size_t>(at.back() + counts.back()));
    MPI_Allgatherv(mine.data(), bytes, MPI_BYTE, flat.data(), counts.data(), at.data(), MPI_BYTE, comm);
    std::vector<std::vector<std::byte>> all;
    for (std::size_t i = 0; i < counts.size(); ++i)
      all.emplace_back(flat.begin() + at[i], flat.begin() + at[i] + counts[i]);
    return all;
  };
}

inline std::uint32_t world_rank() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return static_cast<std::uint32_t>(rank);
}
inline std::uint32_t world_size() {
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return static_cast<std::uint32_t>(size);
}

inline Communicator world_group(CommunicatorOptions options = {}) {
  return Communicator(world_rank(), world_size(), mpi_exchange(MPI_COMM_WORLD), std::move(options));
}

}  // namespace trireme::ml::test
