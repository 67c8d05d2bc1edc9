#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/clock.hpp"
#include "scheduler/work.hpp"

namespace trireme::scheduler {

class ProgressEngine;

/// A one-shot event that one fiber or thread waits for. Lives on the waiter's stack.
///
/// signal() from any thread, exactly once; it does not touch the WaitPoint after the waiter may have gone on. What was
/// written before signal() is visible after wait().
class WaitPoint {
 public:
  WaitPoint() = default;
  WaitPoint(const WaitPoint&) = delete;
  WaitPoint& operator=(const WaitPoint&) = delete;
  void signal();
  bool signalled() const { return state_.load(std::memory_order_acquire) == kSignalled; }

 private:
  friend class Executor;
  friend struct Worker;
  // The word is empty, one of these, or the address of the registered Waiter.
  static constexpr std::uintptr_t kEmpty = 0, kSignalled = 1, kDetached = 2;
  /// False when it has been signalled.
  bool enlist(std::uintptr_t waiter);
  // Release by the signaller, acquire by the waiter; and the other way round for the registration.
  std::atomic<std::uintptr_t> state_{kEmpty};
};

struct ExecutorOptions {
  unsigned threads = 1;
  std::vector<int> cpus;                      ///< OS cpu per thread to pin to; empty = not pinned
  unsigned cores = 0;                         ///< of this rank: no more threads than that spin; 0 = as many as threads
  std::size_t fiber_stack_bytes = 256 << 10;  ///< reserved, touched lazily; guard page below
  std::size_t fibers_max = 28'000;            ///< two memory maps each; Linux allows 65,530 by default
  Nanos spin = 50 * kMicrosecond;             ///< idle threads poll this long before they sleep
  /// true: all compute threads of the rank found nothing (once per transition); false: one did, spun in vain, and goes
  /// to sleep beside others that run something long. By an idle thread, no lock held; may push and post, must not wait.
  std::function<void(bool all)> on_idle;
};

/// The rank's compute threads: one lock-free deque each (Chase and Lev 2005, with the orders of Le et al. 2013),
/// an injection queue for other threads, fibers so that waiting never blocks a thread.
///
/// Why waiting cannot deadlock the rank: a task that waits first tries to run exactly what it waits for in place
/// (caller's job, through Work::claim); else its fiber is set aside and the thread goes on with other work on a fresh
/// fiber. No task ever runs on top of an unrelated one, so nothing can be buried under what waits for it.
/// A fiber resumes on the thread where it waited: thread_local variables stay valid.
///
/// When fibers_max tasks wait at the same time (or the system refuses another stack), a thread whose task waits starts
/// nothing new until one of its waiting fibers goes on. That limits how much is begun and not finished, and is harmless
/// while the tasks wait for replies. Should all of them wait for tasks that are still queued, the rank stands: a
/// warning says so at once and again every ten seconds, with what to raise. (Running other work on top of the waiting
/// stack instead could bury the very task it waits for, and would stand without a word.)
///
/// Threads outside (the driver's main thread, a simulation's own threads) never run unrelated work: while they wait
/// they poll for progress, then sleep. While one of them runs awaited work in place, one compute thread more than
/// cores would be active; that one retires at its next task boundary (see begin_in_place).
///
/// Threading: every method from any thread unless it says otherwise. wait() never under the progress token.
/// Errors:    start() aborts when the system refuses a thread or the first stacks; a cpu that cannot be pinned is a
/// warning. Lifetime:  `progress` outlives the executor. Works are owned by whoever pushed them, see Work.
class Executor {
 public:
  Executor(ExecutorOptions options, ProgressEngine* progress);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  void start();
  /// No push() or signal() may come any more, except from works that still run. Runs what is queued, then joins the
  /// threads.
  void stop();

  /// To this compute thread's own deque (LIFO for itself, FIFO for thieves), or to the injection queue.
  void push(Work* work);
  /// Behind everything queued on this thread: for work that gave way (actor after its slice).
  void push_back_of_line(Work* work);
  /// If the newest entry of this thread's deque is `work`, takes it off and claims it (no drop will come, the caller
  /// now has the queue's reference). Else false: try claim() alone.
  bool pop_if_newest(Work* work);
  /// work->claim() for running it in place. Its entry in a queue stays: this thread drops what lies dead on top of its
  /// own deque when it next takes off a newest entry, so that a task that submits and waits in a loop leaves nothing
  /// behind.
  bool claim(Work* work);
  /// Brackets work that a foreign thread runs in place, so that no more threads than cores compute. May nest; a wait()
  /// inside the bracket suspends it. On a compute thread the end is a point between works: it may look at messages.
  void begin_in_place();
  void end_in_place();
  /// Keeps so many compute threads away from work (they retire at their next task boundary), for tasks that hold more
  /// than one CPU. Fibers that wait on such a thread still go on. By one caller at a time.
  void withhold(unsigned threads);
  /// Bytes left on the running stack. Work that waits for work that waits ... goes in place only while there is room.
  std::size_t stack_left() const;

  /// Blocks the calling fiber or thread until signalled.
  void wait(WaitPoint& point);
  /// False when the deadline (SystemClock) passed first; the WaitPoint is then detached and signal() on it is harmless,
  /// but it must still outlive a signal() that may come. It may be waited for again.
  bool wait_until(WaitPoint& point, Nanos deadline);

  /// Takes up to `count` exportable works, oldest first, and claims them; for the steal protocol.
  std::size_t take_exportable(std::size_t count, std::vector<Work*>& out);
  /// Approximate number of queued works.
  std::size_t queued() const;
  unsigned threads() const;
  bool on_compute_thread() const;
  unsigned idle_threads() const;

  /// Approximate while threads run. `sleeps`: of compute threads; `wakes`: asked for with a system call.
  struct Stats {
    std::uint64_t run = 0, stolen = 0, fibers_made = 0, fibers_alive = 0, sleeps = 0, wakes = 0;
  };
  Stats stats() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::scheduler
