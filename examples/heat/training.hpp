#pragma once

#include <mpi.h>

#include <cstdint>
#include <memory>
#include <trireme/array.hpp>
#include <trireme/ml/communicator.hpp>
#include <vector>

#include "surrogate.hpp"

namespace heat {

/// Makes the members' group over MPI, for the trainer of this process; every rank of `comm` calls it. Gradients are
/// added up in the order of the ranks, so that a run gives the same network bit for bit.
void make_training_group(MPI_Comm comm);

/// The actor that trains this rank's copy of the surrogate on the fields that the solver of its rank publishes, read
/// where the solver wrote them; the copies' gradients are averaged while the backward pass goes on.
///
/// One for each rank, placed there after make_training_group(). All must be given the fields of the same steps.
class SurrogateTrainer {
 public:
  explicit SurrogateTrainer(std::uint64_t spacing);

  /// Tests on the change since the field before, then learns from it; the first field is only kept (0 cells tested).
  /// Returns the mistakes of all members together.
  Mistakes learn(std::uint64_t columns, const trireme::Array<double>& block);

 private:
  Averaging averaging();

  std::shared_ptr<trireme::ml::Communicator> group_;
  std::vector<trireme::ml::Work> under_way_;
  Surrogate surrogate_;
  trireme::Array<double> before_;
  bool first_ = true;
};

}  // namespace heat
