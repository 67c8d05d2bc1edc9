#pragma once

#include <mpi.h>

#include <memory>

#include "transport/bootstrap.hpp"

namespace trireme::transport {

/// The ranks of `comm` become the ranks of the runtime. Collective over `comm`.
///
/// In a library of its own (trireme_bootstrap_mpi): nothing else of Trireme links MPI.
/// The communicator is duplicated, so that the bootstrap's messages can never match those of the caller, whatever the
/// caller does with `comm` at the same time.
///
/// Threading: the calls are made by a thread that may call MPI under the level it was initialised with.
/// Errors:    unavailable when MPI is not initialised or is finalised already; MPI's own text otherwise.
/// Lifetime:  finalize() before MPI_Finalize. MPI stays alive, so a killed rank ends the job as in any MPI program.
Result<std::unique_ptr<Bootstrap>> bootstrap_mpi(MPI_Comm comm);

}  // namespace trireme::transport
