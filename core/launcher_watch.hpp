#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

namespace trireme::core {

/// The process that started this rank: mpirun, orted, prted, slurmstepd. It is the nearest ancestor that does not carry
/// this rank's PMIx identity in its environment, so shells and wrappers between it and the rank are passed over.
///
/// Errors: none when there is no such process to see (no PMIx identity, a process namespace of the rank's own).
std::optional<pid_t> find_launcher();

/// Ends this process once its launcher is gone, as the launcher itself would have: SIGTERM, and SIGKILL when that has
/// not ended it within `kGraceMs`. PMIx cannot tell, since the runtime lets go of it at the start (docs/decisions/001),
/// and the kernel's signal at a parent's death follows the thread that forked, which may be any of the launcher's.
///
/// Threading: a thread of its own that sleeps.
/// Lifetime:  the watch ends with the object.
class LauncherWatch {
 public:
  static constexpr int kGraceMs = 5'000;

  /// The launcher is held from here on: when it ends before this returns, that is seen too.
  explicit LauncherWatch(pid_t launcher);
  ~LauncherWatch();
  LauncherWatch(const LauncherWatch&) = delete;
  LauncherWatch& operator=(const LauncherWatch&) = delete;

 private:
  void run();
  /// True when the launcher ended, false when the watch is to end.
  bool wait_for_end();

  pid_t launcher_;
  int process_ = -1;  ///< pidfd; -1 before Linux 5.3, then the process is looked for once a second
  int stop_ = -1;     ///< eventfd
  std::thread thread_;
};

/// For a process that is a rank all its life, before and after its runtimes too (`trireme run`): watches until it ends.
/// Once is enough. False: there is no launcher to see. Threading: any thread.
bool watch_launcher_for_good();
/// Whether this process does, so that nobody else has to.
bool launcher_is_watched();

}  // namespace trireme::core
