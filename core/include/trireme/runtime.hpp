#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "trireme/actor.hpp"
#include "trireme/array.hpp"
#include "trireme/async.hpp"
#include "trireme/task.hpp"

namespace trireme {

/// What a rank brings. Zero or empty means: found out (cores by affinity and cgroup, memory by what is free).
struct RuntimeOptions {
  unsigned threads = 0;                     ///< compute threads; TRIREME_THREADS
  std::uint64_t arena_bytes = 0;            ///< TRIREME_ARENA_BYTES
  double gpus = -1;                         ///< below 0: those found
  std::map<std::string, double> resources;  ///< custom ones; TRIREME_RESOURCES="licence=2,disk=1"
  std::map<std::string, std::string> labels;
  bool pin = true;  ///< compute threads to cores; TRIREME_PIN=0
};

/// The runtime of this process: a rank of the job that mpirun or srun started, or a job of one.
///
/// On rank 0 the constructor returns and the program goes on; on the others it serves until rank 0's Runtime is
/// destroyed, then ends the process (std::exit(0)). Nothing needs a Runtime object in hand: get, put, submit, spawn
/// work as free functions, inside tasks too.
///
/// Threading: made and destroyed by one thread; everything else from any thread.
/// Errors:    Exception: build_mismatch, unavailable (no PMIx, no transport), invalid_argument.
/// Lifetime:  one at a time per process. References and actor handles must be gone before it.
class Runtime {
 public:
  /// Takes --trireme-threads=N, --trireme-arena=BYTES and --trireme-resources=LIST out of the arguments.
  Runtime(int& argc, char** argv, RuntimeOptions options = {});
  explicit Runtime(RuntimeOptions options = {});
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  Rank rank() const;
  std::uint32_t size() const;

  template <class T>
  Ref<std::decay_t<T>> put(T&& value) {
    return trireme::put(std::forward<T>(value));
  }
  template <class... Args>
  decltype(auto) get(Args&&... args) {
    return trireme::get(std::forward<Args>(args)...);
  }
  template <auto F, class... Args>
  auto submit(Args&&... args) {
    return trireme::submit<F>(std::forward<Args>(args)...);
  }
  template <class T, class... Args>
  Actor<T> spawn(Args&&... args) {
    return trireme::spawn<T>(std::forward<Args>(args)...);
  }

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

/// This process's place in the job. Errors: Exception unavailable without a Runtime.
Rank this_rank();
std::uint32_t rank_count();
bool rank_alive(Rank rank);

}  // namespace trireme
