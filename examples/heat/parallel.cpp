#include "parallel.hpp"

#include <utility>

namespace heat {

ParallelSolver::ParallelSolver(const Plate& plate, MPI_Comm comm, Memory memory)
    : plate_(plate), comm_(comm), memory_(memory) {
  int rank = 0, ranks = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &ranks);
  rows_ = Rows::of(plate.size, rank, ranks);
  if (rank > 0) up_ = rank - 1;
  if (rank + 1 < ranks) down_ = rank + 1;
  for (auto* buffer : {&now_, &next_}) {
    if (memory == Memory::in_place) {
      buffer->shared = trireme::Array<double>(block_cells(plate, rows_));
    } else {
      buffer->own.resize(block_cells(plate, rows_));
    }
  }
  const auto block = writable(now_);
  set_initial(plate_, rows_, block);
  exchange_ghosts(block);
}

std::span<const double> ParallelSolver::now() const {
  return memory_ == Memory::in_place ? now_.shared.view() : std::span<const double>(now_.own);
}

std::span<double> ParallelSolver::writable(Buffer& buffer) {
  if (memory_ == Memory::copied) return buffer.own;
  // Readers may still look at what was published; its memory is freed when the last of them is done.
  if (std::exchange(buffer.published, false)) buffer.shared = trireme::Array<double>(block_cells(plate_, rows_));
  return buffer.shared.writable();
}

void ParallelSolver::advance() {
  const auto next = writable(next_);
  step(plate_, now(), next);
  // Before the field may be published: afterwards nothing writes to it any more, ghost rows included.
  exchange_ghosts(next);
  std::swap(now_, next_);
}

trireme::Array<double> ParallelSolver::publish() {
  bytes_published_ += now().size_bytes();
  if (memory_ == Memory::in_place) {
    now_.published = true;
    return now_.shared;
  }
  bytes_copied_ += now().size_bytes();
  return trireme::Array<double>(now());
}

void ParallelSolver::exchange_ghosts(std::span<double> block) {
  const std::size_t n = plate_.size;
  const int count = static_cast<int>(n);
  double* const first = &block[n];
  double* const last = &block[block.size() - 2 * n];
  MPI_Sendrecv(first, count, MPI_DOUBLE, up_, 0, last + n, count, MPI_DOUBLE, down_, 0, comm_, MPI_STATUS_IGNORE);
  MPI_Sendrecv(last, count, MPI_DOUBLE, down_, 1, first - n, count, MPI_DOUBLE, up_, 1, comm_, MPI_STATUS_IGNORE);
  mirror(n, block, up_ == MPI_PROC_NULL, down_ == MPI_PROC_NULL);
}

}  // namespace heat
