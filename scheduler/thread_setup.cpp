#include "scheduler/thread_setup.hpp"

#include <pthread.h>
#include <sched.h>

#include <initializer_list>

namespace trireme::scheduler {

void name_this_thread(const char* name) { pthread_setname_np(pthread_self(), name); }

bool pin_this_thread(int os_cpu) {
  cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(os_cpu) + 1);
  if (set == nullptr) return false;
  const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(os_cpu) + 1);
  CPU_ZERO_S(bytes, set);
  CPU_SET_S(static_cast<std::size_t>(os_cpu), bytes, set);
  const bool pinned = sched_setaffinity(0, bytes, set) == 0;
  CPU_FREE(set);
  return pinned;
}

QuietSignals::QuietSignals() {
  sigset_t blocked;
  sigfillset(&blocked);
  // A fault is delivered to the thread that made it; blocked, it would end the process without its handler.
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGPROF}) sigdelset(&blocked, fault);
  pthread_sigmask(SIG_BLOCK, &blocked, &before_);
}

QuietSignals::~QuietSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

}  // namespace trireme::scheduler
