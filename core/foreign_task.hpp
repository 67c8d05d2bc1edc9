#pragma once

#include "core/running.hpp"
#include "core/tasks.hpp"

namespace trireme::core {

/// Outcome of a finished invocation; encodes, and copies large values into the arena.
Outcome outcome_of(detail::Invocation* invocation, bool split);

/// A task of another rank (or one of ours that came back) in this rank's queues, still encoded: it is decoded by the
/// thread that runs it, and goes on as it is when it is stolen again. It waits for the end of what it runs, then for
/// the token, and hands the outcome over: one object from arrival to answer.
///
/// Lifetime: deletes itself once the outcome is handed over; whoever takes it out of a queue unrun deletes it.
class ForeignTask final : public scheduler::Work, private detail::Waiter, private scheduler::Command {
 public:
  ForeignTask(Tasks& tasks, TaskSpec&& spec, scheduler::HolderId holder, bool exportable);
  TaskSpec spec;
  static void action(scheduler::Work* work, Do what);

 private:
  detail::Invocation* invocation() const { return static_cast<detail::Invocation*>(invocation_.get()); }
  void begin();
  bool attach_elements();
  void ended();
  void post();
  void hand_over();

  Tasks& tasks_;
  const scheduler::HolderId holder_;
  CellRef invocation_;
  Outcome outcome_;
};

}  // namespace trireme::core
