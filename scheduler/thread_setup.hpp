#pragma once

#include <csignal>

namespace trireme::scheduler {

/// Shown by ps, top and gdb; at most 15 characters count.
void name_this_thread(const char* name);
/// Errors: false when the system refuses (the cpu is offline or outside the cpuset).
bool pin_this_thread(int os_cpu);

/// While it lives, threads made by this thread start with asynchronous signals blocked, so that the program's own
/// handlers run on the program's own threads.
class QuietSignals {
 public:
  QuietSignals();
  ~QuietSignals();
  QuietSignals(const QuietSignals&) = delete;
  QuietSignals& operator=(const QuietSignals&) = delete;

 private:
  sigset_t before_;
};

}  // namespace trireme::scheduler
