#pragma once

#include <mpi.h>

#include <memory>
#include <vector>

#include "trireme/runtime.hpp"

namespace trireme {

/// What suits a program whose own threads need the cores: one compute thread, pinned nowhere. The environment variables
/// of RuntimeOptions do not apply here; the program decides. (TRIREME_NODE_ID and TRIREME_ARENA_BYTES do.)
inline RuntimeOptions beside_a_program() {
  RuntimeOptions options;
  options.threads = 1;
  options.pin = false;
  return options;
}

/// The runtime beside an MPI program, which keeps its main loop, its MPI and its cores.
///
///     MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
///     {
///       trireme::Embedded runtime = trireme::embed(MPI_COMM_WORLD);   // returns on every rank
///       trireme::Array<double> field(cells);                           // memory every rank of the node can read
///       for (...) { ...; auto ref = trireme::put(field); ... }         // publishes in place, copies nothing
///     }                                                                // every rank comes here, then it ends
///     MPI_Finalize();
///
/// Unlike under a Runtime, every rank goes on with its own program; all of them may put, get, submit and spawn.
///
/// Threading: embed(), finish() and the destructor by the thread that may call MPI (MPI_THREAD_FUNNELED is enough);
///            the runtime's threads never call MPI. Everything else from any thread. While the program computes, the
///            runtime has one thread for messages, asleep when there are none, and `options.threads` for tasks and
///            actors; they run on the cores the process was given, so a launcher that binds each rank to one core
///            (mpirun's default) makes them share that core: use --bind-to none, or give a rank a core more.
/// Errors:    embed() throws Exception: unavailable (MPI not initialised), build_mismatch, already_exists.
/// Lifetime:  between MPI_Init and MPI_Finalize; one at a time per process. References, arrays and actor handles must
///            be gone before it. A rank that ends without coming to finish() leaves the others waiting there, as at any
///            MPI barrier.
class Embedded {
 public:
  Embedded(Embedded&&) noexcept;
  /// Ends the runtime that is overwritten.
  Embedded& operator=(Embedded&&) noexcept;
  ~Embedded();

  /// Ends the runtime: collective. Waits, asleep and serving the others, until every rank has come here. Twice is once.
  void finish();

  Rank rank() const;
  std::uint32_t size() const;
  /// The ranks that share memory with this one, itself included, ascending: what one puts, the others read in place.
  const std::vector<Rank>& node_ranks() const;

 private:
  friend Embedded embed(MPI_Comm comm, const RuntimeOptions& options);
  struct Impl;
  explicit Embedded(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Starts the runtime on the ranks of `comm`. Collective; `comm` is duplicated and stays the program's.
Embedded embed(MPI_Comm comm, const RuntimeOptions& options = beside_a_program());

}  // namespace trireme
