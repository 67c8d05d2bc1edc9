#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.hpp"
#include "scheduler/deque.hpp"
#include "scheduler/executor.hpp"
#include "scheduler/executor_queue.hpp"
#include "scheduler/fiber.hpp"

namespace trireme::scheduler {

/// A thread that spins offers its core that often: longer than a call to another rank takes, which would else hold a
/// system call or two.
inline constexpr Nanos kYieldEach = 10 * kMicrosecond;

/// Works in the injection queue from which on no compute thread stands aside for a foreign one.
inline constexpr std::size_t kPile = 4096;

struct Worker;

/// Who a WaitPoint wakes. `wake` runs once per signal, on the signalling thread.
struct Waiter {
  void (*wake)(Waiter* self);
};

/// A fiber of one worker: running, waiting (registered in a WaitPoint), ready, or free (at the top of Worker::loop()).
struct TaskFiber : Waiter {
  std::unique_ptr<Fiber> stack;
  Worker* home = nullptr;
  TaskFiber* next = nullptr;  // in the ready list
  bool timed_out = false;
  bool timer_runs = false;
};

/// How the compute threads spend their time. Shared with the progress engine's probe, which may outlive the executor.
///
/// `state` counts searching and sleeping threads, and numbers the times a thread went from searching to work:
/// bits 0-15 searching, 16-31 sleeping, 32-63 epoch.
struct Activity {
  static constexpr std::uint64_t kSearching = 1;
  static constexpr std::uint64_t kSleeping = 1ULL << 16U;
  static constexpr std::uint64_t kEpoch = 1ULL << 32U;
  static unsigned searching(std::uint64_t state) { return state & 0xffffU; }
  static unsigned sleeping(std::uint64_t state) { return (state >> 16U) & 0xffffU; }
  static std::uint32_t epoch(std::uint64_t state) { return static_cast<std::uint32_t>(state >> 32U); }

  unsigned threads = 0;
  unsigned cores = 0;
  alignas(64) std::atomic<std::uint64_t> state{0};
  alignas(64) std::atomic<unsigned> retired{0};  // asleep because foreign threads compute in place
  std::atomic<unsigned> stalled{0};              // asleep because no fiber is left
  std::atomic<unsigned> in_place{0};             // foreign threads that compute
  std::atomic<unsigned> spinning_outside{0};     // foreign threads that spin in wait()

  /// Threads that want a core now.
  unsigned active() const {
    const unsigned asleep = sleeping(state.load(std::memory_order_relaxed)) + retired.load(std::memory_order_relaxed) +
                            stalled.load(std::memory_order_relaxed);
    const unsigned awake = threads > asleep ? threads - asleep : 0;
    return awake + in_place.load(std::memory_order_relaxed) + spinning_outside.load(std::memory_order_relaxed);
  }
  /// Threads that run work.
  unsigned busy() const {
    const std::uint64_t now = state.load(std::memory_order_relaxed);
    const unsigned idle = searching(now) + sleeping(now) + retired.load(std::memory_order_relaxed);
    return threads > idle ? threads - idle : 0;
  }
};

/// One compute thread.
struct alignas(64) Worker {
  Worker(Executor::Impl& owner, unsigned number);
  ~Worker();

  // Entries are Work addresses with `exportable` in bit 0, so that a thief can judge one without touching it.
  WorkStealingDeque<std::uintptr_t> deque;
  SharedQueue line;  // work that gave way: own thread first, thieves last
  // Pushed by signallers, taken as a whole by this thread.
  alignas(64) std::atomic<TaskFiber*> ready_inbox{nullptr};
  // See Worker::sleep().
  enum Park : std::uint32_t { kAwake, kAsleep, kBeingWoken, kRetired, kStalled, kWoken };
  std::atomic<std::uint32_t> park{kAwake};

  // Everything below belongs to this thread.
  alignas(64) Executor::Impl& pool;
  const unsigned index;
  TaskFiber* current = nullptr;
  TaskFiber* ready_first = nullptr;
  TaskFiber* ready_last = nullptr;
  TaskFiber* dying = nullptr;  // left for good, to be deleted by whoever runs next
  std::vector<TaskFiber*> free_fibers;
  struct Timer {
    TaskFiber* fiber;
    WaitPoint* point;
  };
  std::multimap<Nanos, Timer> timers;
  std::unique_ptr<Fiber> thread_stack;
  std::size_t waiting = 0;
  bool leaving = false;
  std::uint32_t turn = 0;
  std::uint32_t dead = 0;  ///< works run in place whose entries may still be in the deque
  void drop_dead();
  std::uint32_t random;
  // Looks at the transport between works, see poll_busy().
  std::uint32_t works_left = 1;
  std::uint32_t works_asked = 1;
  Nanos poll_pause = kMicrosecond;
  Nanos poll_cost = 0;  // of the last look that found nothing
  Nanos last_look = 0;
  Nanos last_poll = 0;
  // Written by this thread, read by stats().
  std::atomic<std::uint64_t> count_run{0}, count_stolen{0}, count_sleeps{0};
  std::thread thread;

  static Worker*& this_thread();
  static void count(std::atomic<std::uint64_t>& counter) {
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  static std::uintptr_t tag(Work* work) {
    return reinterpret_cast<std::uintptr_t>(work) | (work->exportable ? 1U : 0U);
  }
  static Work* untag(std::uintptr_t entry) { return reinterpret_cast<Work*>(entry & ~std::uintptr_t{1}); }

  // executor_worker.cpp: finding and running work
  void thread_main();
  void loop();
  void run(Work* work);
  /// After every work, also one that ran in place.
  void ran_one() {
    if (--works_left == 0) poll_busy();
  }
  void poll_busy();
  Work* next_work();
  Work* local();
  Work* from_shared();
  Work* steal();
  void steal_more(Worker& other);
  Work* search();
  void leave_search();
  void announce_idle(bool alone);
  void sleep();
  void retire_if_crowded();
  bool may_leave() const;
  bool should_wake() const;
  void wake(std::uint32_t from);
  /// A ready fiber or stop() concerns exactly this thread.
  void wake_up();
  /// From `asleep_as` until woken or the next timer or `limit`. Park must have been set and everything checked again.
  void doze(std::uint32_t asleep_as, Nanos limit);

  // executor_wait.cpp: fibers that wait
  bool wait(WaitPoint& point, Nanos deadline);
  TaskFiber* take_ready();
  void append_ready(TaskFiber* fiber);
  TaskFiber* make_fiber();
  /// nullptr at fibers_max, or when the system gives no memory map.
  TaskFiber* fresh_fiber();
  TaskFiber* stall();
  void go_on_with(TaskFiber* fiber);
  void arrived();
  /// True when a timer made a fiber ready.
  bool fire_timers();
  Nanos next_timer() const { return timers.empty() ? kForever : timers.begin()->first; }
  static void fiber_main(void* self);
  static void make_ready(Waiter* self);
};

struct Executor::Impl {
  Impl(ExecutorOptions wanted, ProgressEngine* engine);

  const ExecutorOptions options;
  ProgressEngine* const progress;
  const std::shared_ptr<Activity> activity;
  SharedQueue injection;
  std::vector<std::unique_ptr<Worker>> workers;
  std::atomic<bool> stopping{false};
  std::atomic<std::uint64_t> announced{UINT64_MAX};  // epoch * 2 + whether all threads were idle
  std::atomic<std::uint64_t> fibers_made{0}, fibers_alive{0}, wakes{0};
  std::atomic<bool> fibers_warned{false};
  bool started = false;

  /// After a push: wakes a sleeper, unless a searching thread will find it.
  void notify() {
    const std::uint64_t now = activity->state.load(std::memory_order_seq_cst);
    if (Activity::searching(now) == 0 && Activity::sleeping(now) != 0) [[unlikely]]
      wake_one();
  }
  void wake_one();
  void wake_retired();
  void claimed_outside();
  /// More waits than a thread that computes in place may keep from the compute threads: they share its core then.
  bool piled_up() const { return injection.size() >= kPile; }
  bool any_work() const;
  bool wait_outside(WaitPoint& point, Nanos deadline);
  unsigned withheld = 0;  // by withhold(), one caller at a time
  void begin_in_place();
  void end_in_place();
};

}  // namespace trireme::scheduler
