#pragma once

#include <atomic>
#include <cstdint>

namespace trireme::scheduler {

/// A unit of work for a compute thread. Intrusive: the executor never allocates for it.
///
/// A queue entry is one reference. Whoever wants to run the work must win `claim()`: the thread that pops it, or a
/// thread that waits for exactly this work and runs it in place. The loser's entry is dropped.
struct Work {
  enum class Do : std::uint8_t {
    run,   ///< claimed by this thread from a queue: run, then give up the queue's reference
    drop,  ///< claimed elsewhere before: only give up the queue's reference
  };
  using Action = void (*)(Work* self, Do what);

  explicit Work(Action act, bool may_leave = false) : action(act), exportable(may_leave) {}

  Action action;
  std::atomic<bool> claimed{false};
  /// The steal protocol may hand it to another rank. Constant while queued.
  bool exportable;

  bool claim() { return !claimed.exchange(true, std::memory_order_acq_rel); }
};

}  // namespace trireme::scheduler
