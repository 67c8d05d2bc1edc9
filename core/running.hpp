#pragma once

#include "core/holders.hpp"
#include "core/running_calls.hpp"

namespace trireme::core {

/// The holder of resources whose task runs on this thread; no holders: none.
struct RunningHolder {
  Holders* holders = nullptr;
  scheduler::HolderId holder = 0;
  bool in_group = false;  ///< they are a placement group's, which may be taken back (Holders::when_revoked)
};
RunningHolder running_holder();

/// What is noted of what a thread runs.
struct Running {
  RunningHolder holder;
  const RunningCalls::Call* call = nullptr;
};
/// For a host that moves tasks between threads by itself (the simulation); returns what was before.
Running set_running(Running now);
void set_running_holder(RunningHolder holder);
const RunningCalls::Call* set_running_call(const RunningCalls::Call* call);

/// While it lives, the task that runs on this thread waits: its CPUs are lent (Holders::lend_cpu).
///
/// A fiber goes on on the thread where it waited, so what the thread runs is noted per thread and put aside here.
class LentCpu {
 public:
  explicit LentCpu(Host& host);
  ~LentCpu();
  LentCpu(const LentCpu&) = delete;
  LentCpu& operator=(const LentCpu&) = delete;

 private:
  Host& host_;
  const Running waits_;
};

}  // namespace trireme::core
