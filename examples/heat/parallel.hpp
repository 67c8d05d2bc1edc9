#pragma once

#include <mpi.h>

#include <trireme/array.hpp>
#include <vector>

#include "solver.hpp"

namespace heat {

/// This rank's rows of the plate, advanced with MPI, and its field published to the runtime.
///
/// With Memory::in_place the field is computed in memory that the other ranks of the node can read, and publishing it
/// copies nothing: a published buffer is never written again, the step after next gets a fresh one instead.
/// With Memory::copied the solver keeps its own two buffers and publishing copies the field once, into such memory;
/// what a program does that cannot choose where its field lies.
class ParallelSolver {
 public:
  enum class Memory { in_place, copied };
  ParallelSolver(const Plate& plate, MPI_Comm comm, Memory memory);

  void advance();
  /// The field with its ghost rows, to be put.
  trireme::Array<double> publish();

  const Rows& rows() const { return rows_; }
  std::span<const double> field() const { return inner(now(), plate_.size); }
  std::uint64_t bytes_published() const { return bytes_published_; }
  std::uint64_t bytes_copied() const { return bytes_copied_; }

 private:
  struct Buffer {
    std::vector<double> own;        // Memory::copied
    trireme::Array<double> shared;  // Memory::in_place
    bool published = false;
  };
  std::span<const double> now() const;
  std::span<double> writable(Buffer& buffer);
  void exchange_ghosts(std::span<double> block);

  Plate plate_;
  MPI_Comm comm_;
  Memory memory_;
  int up_ = MPI_PROC_NULL, down_ = MPI_PROC_NULL;
  Rows rows_;
  Buffer now_, next_;
  std::uint64_t bytes_published_ = 0, bytes_copied_ = 0;
};

}  // namespace heat
