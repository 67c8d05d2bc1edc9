#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>

#include "base/check.hpp"
#include "base/log.hpp"
#include "scheduler/executor_impl.hpp"
#include "scheduler/executor_parker.hpp"
#include "scheduler/progress.hpp"

namespace trireme::scheduler {
namespace {

// Fibers a thread keeps for later; beyond that their memory goes back to the system.
constexpr std::size_t kFreeFibers = 256;
constexpr Nanos kStallWarning = 10 * kSecond;

/// Sleeps on a futex in a foreign thread. Taken from a pool that is never freed: a signaller may still touch it after
/// the wait is over, which then is an early return for its next user at worst.
struct OutsideWaiter : Waiter {
  std::atomic<std::uint32_t> word{0};
  OutsideWaiter* next = nullptr;

  OutsideWaiter() : Waiter{&ring} {}
  static void ring(Waiter* self) {
    auto* waiter = static_cast<OutsideWaiter*>(self);
    waiter->word.store(1, std::memory_order_release);  // pairs with the exchange in wait_outside()
    futex_wake_one(waiter->word);
  }
};

struct OutsidePool {
  SpinLock lock;
  OutsideWaiter* free = nullptr;
};
OutsidePool& outside_pool() {
  static auto* pool = new OutsidePool;
  return *pool;
}

struct OutsideHandle {
  OutsideWaiter* waiter;
  OutsideHandle() {
    OutsidePool& pool = outside_pool();
    pool.lock.lock();
    waiter = pool.free;
    if (waiter != nullptr) pool.free = waiter->next;
    pool.lock.unlock();
    if (waiter == nullptr) waiter = new OutsideWaiter;
  }
  ~OutsideHandle() {
    OutsidePool& pool = outside_pool();
    pool.lock.lock();
    waiter->next = pool.free;
    pool.free = waiter;
    pool.lock.unlock();
  }
};

const std::byte* lowest_of_thread() {
  pthread_attr_t attributes;
  TRIREME_CHECK(pthread_getattr_np(pthread_self(), &attributes) == 0, "this thread's stack is not known");
  void* low = nullptr;
  std::size_t bytes = 0;
  pthread_attr_getstack(&attributes, &low, &bytes);
  pthread_attr_destroy(&attributes);
  return static_cast<const std::byte*>(low);
}

/// Open begin_in_place() brackets of this thread.
thread_local unsigned in_place_depth = 0;

}  // namespace

void WaitPoint::signal() {
  const std::uintptr_t before = state_.exchange(kSignalled, std::memory_order_acq_rel);
  TRIREME_DCHECK(before != kSignalled, "WaitPoint signalled twice");
  if (before == kEmpty || before == kDetached) return;
  auto* waiter = reinterpret_cast<Waiter*>(before);
  waiter->wake(waiter);
}

bool WaitPoint::enlist(std::uintptr_t waiter) {
  std::uintptr_t before = state_.load(std::memory_order_acquire);
  while (before != kSignalled) {
    TRIREME_DCHECK(before == kEmpty || before == kDetached, "two wait for the same WaitPoint");
    if (state_.compare_exchange_weak(before, waiter, std::memory_order_acq_rel, std::memory_order_acquire)) return true;
  }
  return false;
}

bool Worker::wait(WaitPoint& point, Nanos deadline) {
  TaskFiber* me = current;
  // Before the switch already: the signaller only queues the fiber, and nobody but this thread takes it from there.
  if (!point.enlist(reinterpret_cast<std::uintptr_t>(static_cast<Waiter*>(me)))) return true;
  me->timed_out = false;
  std::multimap<Nanos, Timer>::iterator timer;
  if (deadline != kForever) {
    timer = timers.emplace(deadline, Timer{me, &point});
    me->timer_runs = true;
  }
  ++waiting;
  TaskFiber* next = take_ready();
  if (next == nullptr && !free_fibers.empty()) {
    next = free_fibers.back();
    free_fibers.pop_back();
  }
  if (next == nullptr) next = fresh_fiber();
  if (next == nullptr) next = stall();
  if (next != me) {
    current = next;
    me->stack->switch_to(*next->stack);
    arrived();
  }
  --waiting;
  if (me->timer_runs) {
    timers.erase(timer);
    me->timer_runs = false;
  }
  return !me->timed_out;
}

TaskFiber* Worker::take_ready() {
  if (ready_inbox.load(std::memory_order_relaxed) != nullptr) {
    // acquire: pairs with the push in make_ready().
    TaskFiber* list = ready_inbox.exchange(nullptr, std::memory_order_acquire);
    TaskFiber* in_order = nullptr;
    while (list != nullptr) {
      TaskFiber* next = list->next;
      list->next = in_order;
      in_order = list;
      list = next;
    }
    while (in_order != nullptr) {
      TaskFiber* next = in_order->next;
      append_ready(in_order);
      in_order = next;
    }
  }
  TaskFiber* fiber = ready_first;
  if (fiber != nullptr) {
    ready_first = fiber->next;
    if (ready_first == nullptr) ready_last = nullptr;
  }
  return fiber;
}

void Worker::append_ready(TaskFiber* fiber) {
  fiber->next = nullptr;
  (ready_last != nullptr ? ready_last->next : ready_first) = fiber;
  ready_last = fiber;
}

void Worker::make_ready(Waiter* self) {
  auto* fiber = static_cast<TaskFiber*>(self);
  Worker* home = fiber->home;
  fiber->next = home->ready_inbox.load(std::memory_order_relaxed);
  // Publishes what the signaller wrote to take_ready(); seq_cst because of sleep(), step (3).
  while (!home->ready_inbox.compare_exchange_weak(fiber->next, fiber, std::memory_order_seq_cst,
                                                  std::memory_order_relaxed)) {
  }
  if (home != this_thread()) home->wake_up();
}

TaskFiber* Worker::make_fiber() {
  auto fiber = std::make_unique<TaskFiber>();
  fiber->wake = &make_ready;
  fiber->home = this;
  fiber->stack = Fiber::create(pool.options.fiber_stack_bytes, &fiber_main, fiber.get());
  if (fiber->stack == nullptr) return nullptr;
  pool.fibers_made.fetch_add(1, std::memory_order_relaxed);
  return fiber.release();
}

TaskFiber* Worker::fresh_fiber() {
  if (pool.fibers_alive.fetch_add(1, std::memory_order_relaxed) < pool.options.fibers_max) {
    if (TaskFiber* fiber = make_fiber()) return fiber;
  }
  pool.fibers_alive.fetch_sub(1, std::memory_order_relaxed);
  return nullptr;
}

/// No fiber is left to run other work on: waits on the present stack for one that goes on, itself included.
TaskFiber* Worker::stall() {
  Activity& activity = *pool.activity;
  if (!pool.fibers_warned.exchange(true, std::memory_order_relaxed)) {
    TRIREME_LOG(
        warning,
        "{} tasks wait at the same time, and no further stack can be had (fibers_max = {}): no new task starts on a "
        "thread whose task waits until one of them goes on. If they wait for tasks that have not started, raise "
        "fibers_max, and vm.max_map_count to more than twice that",
        pool.fibers_alive.load(std::memory_order_relaxed), pool.options.fibers_max);
  }
  Nanos warn_at = SystemClock::read() + kStallWarning;
  for (;;) {
    if (TaskFiber* fiber = take_ready()) return fiber;
    if (!timers.empty() && fire_timers()) continue;
    if (pool.progress != nullptr && pool.progress->try_poll() > 0) continue;
    const Nanos now = SystemClock::read();
    if (now >= warn_at) {
      warn_at = now + kStallWarning;
      if (pool.any_work()) {
        TRIREME_LOG(
            warning,
            "compute thread {} has stood for {} s: {} of its tasks wait, no stack is left for those still queued; "
            "raise fibers_max (now {}) and vm.max_map_count",
            index, kStallWarning / kSecond, waiting, pool.options.fibers_max);
      }
    }
    activity.stalled.fetch_add(1, std::memory_order_seq_cst);
    if (pool.progress != nullptr) pool.progress->leave_to_thread();
    park.store(kStalled, std::memory_order_seq_cst);
    if (ready_inbox.load(std::memory_order_seq_cst) != nullptr) {
      wake(kStalled);
    } else {
      doze(kStalled, warn_at);
    }
    activity.stalled.fetch_sub(1, std::memory_order_seq_cst);
  }
}

/// From the top of loop() to a ready fiber; returns when this fiber is used again.
void Worker::go_on_with(TaskFiber* fiber) {
  TaskFiber* me = current;
  if (free_fibers.size() < kFreeFibers) {
    free_fibers.push_back(me);
  } else {
    dying = me;
  }
  current = fiber;
  me->stack->switch_to(*fiber->stack);
  arrived();
}

void Worker::arrived() {
  if (dying == nullptr) return;
  delete dying;
  dying = nullptr;
  pool.fibers_alive.fetch_sub(1, std::memory_order_relaxed);
}

void Worker::fiber_main(void* self) {
  Worker* home = static_cast<TaskFiber*>(self)->home;
  home->arrived();
  home->loop();
}

bool Worker::fire_timers() {
  bool fired = false;
  const Nanos now = SystemClock::read();
  while (!timers.empty() && timers.begin()->first <= now) {
    const Timer timer = timers.begin()->second;
    timers.erase(timers.begin());
    timer.fiber->timer_runs = false;
    auto registered = reinterpret_cast<std::uintptr_t>(static_cast<Waiter*>(timer.fiber));
    // Fails when it has been signalled: then the fiber is on its way to the inbox.
    if (timer.point->state_.compare_exchange_strong(registered, WaitPoint::kDetached, std::memory_order_acq_rel)) {
      timer.fiber->timed_out = true;
      append_ready(timer.fiber);
      fired = true;
    }
  }
  return fired;
}

bool Executor::Impl::wait_outside(WaitPoint& point, Nanos deadline) {
  Activity& shared = *activity;
  const unsigned depth = in_place_depth;
  if (depth != 0) end_in_place();
  // Polls as long as that takes no core from anybody.
  if (progress != nullptr) {
    shared.spinning_outside.fetch_add(1, std::memory_order_relaxed);
    Nanos now = SystemClock::read();
    Nanos until = now + options.spin;
    Nanos yield_at = now + kYieldEach;
    while (!point.signalled() && shared.active() <= shared.cores) {
      const int events = progress->try_poll();
      now = SystemClock::read();
      if (now >= deadline) break;
      if (events > 0) {
        until = now + options.spin;
        continue;
      }
      if (now >= until) break;
      if (now >= yield_at) {
        sched_yield();
        yield_at = now + kYieldEach;
      }
      pause_cpu();
    }
    shared.spinning_outside.fetch_sub(1, std::memory_order_relaxed);
    if (!point.signalled()) progress->leave_to_thread();
  }
  bool signalled = true;
  thread_local OutsideHandle handle;
  OutsideWaiter& waiter = *handle.waiter;
  const auto registered = reinterpret_cast<std::uintptr_t>(static_cast<Waiter*>(&waiter));
  if (point.enlist(registered)) {
    for (;;) {
      // Cleared before the look at the point: a ring that is wiped out here came after its signal, which is then seen.
      waiter.word.exchange(0, std::memory_order_acq_rel);
      if (point.signalled()) break;
      if (deadline != kForever && SystemClock::read() >= deadline) {
        std::uintptr_t expected = registered;
        signalled = !point.state_.compare_exchange_strong(expected, WaitPoint::kDetached, std::memory_order_acq_rel,
                                                          std::memory_order_acquire);
        break;
      }
      futex_wait(waiter.word, 0, deadline);
    }
  }
  if (depth != 0) begin_in_place();
  return signalled;
}

void Executor::Impl::begin_in_place() { activity->in_place.fetch_add(1, std::memory_order_seq_cst); }

void Executor::Impl::end_in_place() {
  Activity& shared = *activity;
  const unsigned left = shared.in_place.fetch_sub(1, std::memory_order_seq_cst) - 1;
  if (shared.retired.load(std::memory_order_seq_cst) > left) wake_retired();
}

void Executor::Impl::wake_retired() {
  for (const auto& worker : workers) {
    if (worker->park.load(std::memory_order_seq_cst) == Worker::kRetired) {
      worker->wake_up();
      return;
    }
  }
}

void Executor::withhold(unsigned threads) {
  for (; impl_->withheld < threads; ++impl_->withheld) impl_->begin_in_place();
  for (; impl_->withheld > threads; --impl_->withheld) impl_->end_in_place();
}

void Executor::begin_in_place() {
  if (on_compute_thread() || in_place_depth++ != 0) return;
  impl_->begin_in_place();
}

void Executor::end_in_place() {
  if (Worker* me = Worker::this_thread(); me != nullptr && &me->pool == impl_.get()) return me->ran_one();
  if (--in_place_depth != 0) return;
  impl_->end_in_place();
}

std::size_t Executor::stack_left() const {
  const auto* here = static_cast<const std::byte*>(__builtin_frame_address(0));
  if (const Worker* me = Worker::this_thread(); me != nullptr && me->current != nullptr) {
    return static_cast<std::size_t>(here - me->current->stack->low());
  }
  thread_local const std::byte* const low = lowest_of_thread();
  return low < here ? static_cast<std::size_t>(here - low) : 0;
}

void Executor::wait(WaitPoint& point) { wait_until(point, kForever); }

bool Executor::wait_until(WaitPoint& point, Nanos deadline) {
  if (point.signalled()) return true;
  TRIREME_CHECK(impl_->progress == nullptr || !impl_->progress->holds_token(),
                "a wait in code that runs under the progress token would stop the rank: hand the rest to a task");
  if (on_compute_thread()) return Worker::this_thread()->wait(point, deadline);
  return impl_->wait_outside(point, deadline);
}

}  // namespace trireme::scheduler
