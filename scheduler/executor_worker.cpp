#include <fmt/format.h>
#include <sched.h>

#include <algorithm>

#include "base/check.hpp"
#include "base/log.hpp"
#include "scheduler/executor_impl.hpp"
#include "scheduler/executor_parker.hpp"
#include "scheduler/progress.hpp"
#include "scheduler/thread_setup.hpp"

namespace trireme::scheduler {
namespace {

// Rounds of a vain search after which the thread counts as idle: a few microseconds.
constexpr unsigned kIdleRounds = 8;
// Every so many works the shared queues come first, so that a thread that feeds itself does not starve them.
constexpr std::uint32_t kFairness = 61;
// Works taken from the injection queue at once.
constexpr std::size_t kBatch = 32;
constexpr std::size_t kStealMore = 15;
// A busy thread looks after the transport between works: this soon after a look that found something, and twice as
// long after each that did not, up to the second figure. A transport whose look is a system call (UCX over TCP: 1 us)
// gets an eighth of the time at most.
constexpr Nanos kBusyPollMin = 1 * kMicrosecond;
constexpr Nanos kBusyPollMax = 16 * kMicrosecond;
constexpr Nanos kPauseOfCost = 8;
// Most works between two looks at the clock.
constexpr std::uint32_t kWorksMax = 64;

thread_local Worker* worker_of_this_thread = nullptr;

}  // namespace

Worker*& Worker::this_thread() { return worker_of_this_thread; }

Worker::Worker(Executor::Impl& owner, unsigned number) : pool(owner), index(number), random(number * 2654435761U + 1) {}

void Worker::thread_main() {
  name_this_thread(fmt::format("trireme-c{}", index).c_str());
  if (index < pool.options.cpus.size() && !pin_this_thread(pool.options.cpus[index])) {
    TRIREME_LOG(warning,
                "compute thread {} cannot be pinned to cpu {}: it is offline or outside this process's cpuset; it runs "
                "unpinned",
                index, pool.options.cpus[index]);
  }
  worker_of_this_thread = this;
  thread_stack = std::make_unique<Fiber>();
  current = make_fiber();  // counted from the start, so that no busier thread takes it away
  TRIREME_CHECK(current != nullptr,
                "no memory map for a compute thread's first stack: raise vm.max_map_count or the address space limit");
  thread_stack->switch_to(*current->stack);
  // Only the fiber that found nothing left comes back here; all others are free.
  free_fibers.push_back(current);
  current = nullptr;
  for (TaskFiber* fiber : free_fibers) {
    delete fiber;
    pool.fibers_alive.fetch_sub(1, std::memory_order_relaxed);
  }
  free_fibers.clear();
  worker_of_this_thread = nullptr;
}

void Worker::loop() {
  for (;;) {
    if (TaskFiber* fiber = take_ready()) {
      go_on_with(fiber);
    } else if (Work* work = next_work()) {
      run(work);
      ran_one();
      if (pool.activity->in_place.load(std::memory_order_relaxed) != 0) retire_if_crowded();
    } else if (leaving) {
      current->stack->switch_to(*thread_stack);
    }
  }
}

void Worker::run(Work* work) {
  if (!work->claim()) {
    work->action(work, Work::Do::drop);
    return;
  }
  count(count_run);
  work->action(work, Work::Do::run);
}

/// Messages wait for whoever polls, and while all threads compute nobody else does: a thief would wait for a task to
/// steal as long as this rank has tasks.
void Worker::poll_busy() {
  const Nanos now = SystemClock::read();
  const Nanos each = std::max<Nanos>(1, (now - last_look) / works_asked);
  last_look = now;
  if (now - last_poll >= poll_pause && pool.progress != nullptr) {
    const int events = pool.progress->try_poll();
    last_poll = last_look = SystemClock::read();
    if (events == 0) poll_cost = last_poll - now;
    // Not longer: the thread may have been off its core in between.
    const Nanos least = std::clamp(kPauseOfCost * poll_cost, kBusyPollMin, kBusyPollMax);
    poll_pause = events > 0 ? least : std::clamp(2 * poll_pause, least, kBusyPollMax);
  }
  const Nanos until = std::max<Nanos>(0, poll_pause - (last_look - last_poll));
  works_left = works_asked = static_cast<std::uint32_t>(std::clamp<Nanos>(until / each, 1, kWorksMax));
}

/// nullptr when a fiber became ready or the thread is to end.
Work* Worker::next_work() {
  if (!timers.empty() && fire_timers()) return nullptr;
  if (Work* work = local()) return work;
  if (Work* work = steal()) return work;
  return search();
}

Work* Worker::local() {
  if (++turn % kFairness == 0) {
    if (Work* work = from_shared()) return work;
  }
  if (const std::uintptr_t entry = deque.pop()) return untag(entry);
  return from_shared();
}

Work* Worker::from_shared() {
  Work* batch[kBatch];
  const bool line_first = (turn & 1U) != 0;
  if (line_first && line.pop(batch, 1) == 1) return batch[0];
  if (const std::size_t waiting_there = pool.injection.size()) {
    const std::size_t share = waiting_there / pool.workers.size() + 1;
    const std::size_t taken = pool.injection.pop(batch, share < kBatch ? share : kBatch);
    if (taken != 0) {
      for (std::size_t i = taken; i-- > 1;) deque.push(tag(batch[i]));
      if (taken > 1) pool.notify();
      return batch[0];
    }
  }
  return !line_first && line.pop(batch, 1) == 1 ? batch[0] : nullptr;
}

Work* Worker::steal() {
  const auto count_workers = static_cast<std::uint32_t>(pool.workers.size());
  random = random * 1664525U + 1013904223U;
  std::uint32_t victim = static_cast<std::uint32_t>((std::uint64_t{random} * count_workers) >> 32U);
  for (std::uint32_t i = 0; i < count_workers; ++i) {
    Worker& other = *pool.workers[victim];
    if (++victim == count_workers) victim = 0;
    if (&other == this) continue;
    if (const std::uintptr_t entry = other.deque.steal()) {
      count(count_stolen);
      steal_more(other);
      return untag(entry);
    }
    Work* work = nullptr;
    if (other.line.pop(&work, 1) == 1) {
      count(count_stolen);
      return work;
    }
  }
  return nullptr;
}

/// Up to half of what is left, while the lines of that deque are here: a thread that steals works one by one has every
/// line of it fetched for each.
void Worker::steal_more(Worker& other) {
  bool moved = false;
  for (std::size_t more = std::min(other.deque.size() / 2, kStealMore); more-- > 0;) {
    const std::uintptr_t entry = other.deque.steal();
    if (entry == 0) break;
    deque.push(entry);
    count(count_stolen);
    moved = true;
  }
  if (moved) pool.notify();
}

Work* Worker::search() {
  Activity& activity = *pool.activity;
  activity.state.fetch_add(Activity::kSearching, std::memory_order_seq_cst);
  Nanos until = 0;
  Nanos yield_at = 0;
  for (unsigned round = 1;; ++round) {
    if (!timers.empty()) fire_timers();
    if (ready_first != nullptr || ready_inbox.load(std::memory_order_relaxed) != nullptr) {
      leave_search();
      return nullptr;
    }
    Work* work = local();
    if (work == nullptr) work = steal();
    if (work != nullptr) {
      leave_search();
      return work;
    }
    if (may_leave()) {
      // Stays counted as a sleeper that nobody can wake.
      activity.state.fetch_add(Activity::kSleeping - Activity::kSearching, std::memory_order_seq_cst);
      leaving = true;
      return nullptr;
    }
    const bool spin = activity.active() <= activity.cores;
    if (spin && pool.progress != nullptr && pool.progress->try_poll() > 0) {
      round = 0;
      continue;
    }
    if (round == kIdleRounds) announce_idle(false);
    const Nanos now = SystemClock::read();
    if (round == 1) {
      until = now + pool.options.spin;
      yield_at = now + kYieldEach;
    }
    if (!spin || now >= until) {
      announce_idle(true);
      sleep();
      round = 0;
    } else if (now >= yield_at) {
      sched_yield();  // some thread outside may want this core
      yield_at = now + kYieldEach;
    } else {
      pause_cpu();
    }
  }
}

void Worker::leave_search() {
  Activity& activity = *pool.activity;
  const std::uint64_t before =
      activity.state.fetch_add(Activity::kEpoch - Activity::kSearching, std::memory_order_seq_cst);
  // Pushes relied on this searcher. If it was the last and leaves something behind, another one must come.
  if (Activity::searching(before) == 1 && Activity::sleeping(before) != 0 && pool.any_work()) pool.wake_one();
}

/// Each search that ended in work began a new epoch, so a number is announced at most once, and the last always.
void Worker::announce_idle(bool alone) {
  if (!pool.options.on_idle) return;
  const Activity& activity = *pool.activity;
  const std::uint64_t now = activity.state.load(std::memory_order_seq_cst);
  const unsigned idle =
      Activity::searching(now) + Activity::sleeping(now) + activity.retired.load(std::memory_order_relaxed);
  const bool all = idle >= activity.threads;
  if ((!all && !alone) || pool.any_work()) return;
  const std::uint64_t number = std::uint64_t{Activity::epoch(now)} * 2 + (all ? 1 : 0);
  std::uint64_t announced = pool.announced.load(std::memory_order_relaxed);
  if (announced == number) return;
  if (pool.announced.compare_exchange_strong(announced, number, std::memory_order_relaxed)) pool.options.on_idle(all);
}

bool Worker::may_leave() const {
  return pool.stopping.load(std::memory_order_seq_cst) && waiting == 0 && !pool.any_work();
}

bool Worker::should_wake() const {
  return ready_inbox.load(std::memory_order_seq_cst) != nullptr || ready_first != nullptr ||
         (pool.stopping.load(std::memory_order_seq_cst) && waiting == 0);
}

/// Why no wake-up is lost. All steps are seq_cst, so they stand in one order.
///   sleeper: (1) counts itself from searching to sleeping, (2) park = kAsleep, (3) looks at every queue again;
///   pusher:  (a) queues, (b) loads the counts, (c) when nobody searches, looks for a park == kAsleep.
/// If (b) saw no sleeper or a searcher, then (1) of that searcher comes later, hence its (3) sees (a); or it finds
/// other work, and then looks at the queues in leave_search(). If (c) missed this sleeper, (2) comes later, hence (3)
/// sees (a). A ready fiber concerns one thread only: its signaller pushes to the inbox, then loads park; (2) and (3)
/// answer that.
///
/// A waker moves park from kAsleep to kBeingWoken, corrects the counts, and only then lets go with kWoken, so
/// that the counts never show a thread twice.
void Worker::sleep() {
  Activity& activity = *pool.activity;
  const std::uint64_t before =
      activity.state.fetch_add(Activity::kSleeping - Activity::kSearching, std::memory_order_seq_cst);
  // Exactly the last one that polled hands over; what its handlers push is seen below.
  if (Activity::searching(before) == 1 && pool.progress != nullptr) pool.progress->leave_to_thread();
  park.store(kAsleep, std::memory_order_seq_cst);
  if (should_wake() || pool.any_work()) {
    wake(kAsleep);
  } else {
    count(count_sleeps);
    doze(kAsleep, kForever);
  }
}

void Worker::doze(std::uint32_t asleep_as, Nanos limit) {
  const Nanos timer = next_timer();
  if (timer < limit) limit = timer;
  for (;;) {
    const std::uint32_t now = park.load(std::memory_order_acquire);
    if (now == kWoken) break;
    if (now == asleep_as) {
      if (limit != kForever && SystemClock::read() >= limit) {
        wake(asleep_as);
        return;
      }
      futex_wait(park, asleep_as, limit);
    } else {
      sched_yield();  // kBeingWoken: a waker is between its two steps
    }
  }
  park.store(kAwake, std::memory_order_relaxed);
}

/// This thread takes itself out of `from`, unless a waker was faster.
void Worker::wake(std::uint32_t from) {
  std::uint32_t expected = from;
  if (park.compare_exchange_strong(expected, kAwake, std::memory_order_seq_cst)) {
    if (from == kAsleep) {
      pool.activity->state.fetch_add(Activity::kSearching - Activity::kSleeping, std::memory_order_seq_cst);
    }
    return;
  }
  doze(from, kForever);
}

void Worker::wake_up() {
  for (;;) {
    std::uint32_t seen = park.load(std::memory_order_seq_cst);
    if (seen != kAsleep && seen != kRetired && seen != kStalled) return;
    if (!park.compare_exchange_strong(seen, seen == kAsleep ? kBeingWoken : kWoken, std::memory_order_seq_cst))
      continue;
    if (seen == kAsleep) {
      pool.activity->state.fetch_add(Activity::kSearching - Activity::kSleeping, std::memory_order_seq_cst);
      park.store(kWoken, std::memory_order_seq_cst);
    }
    pool.wakes.fetch_add(1, std::memory_order_relaxed);
    futex_wake_one(park);
    return;
  }
}

/// At most one thread retires per foreign thread that computes, and none while works pile up: such a thread may make
/// them for hours. The order is that of sleep(): counted, parked, looked again; end_in_place() uncounts, then looks for
/// a park == kRetired. One that parks while the pile grows is woken by the next push.
void Worker::retire_if_crowded() {
  Activity& activity = *pool.activity;
  if (activity.active() <= activity.cores || ready_first != nullptr || pool.piled_up()) return;
  unsigned retired = activity.retired.load(std::memory_order_seq_cst);
  do {
    if (retired >= activity.in_place.load(std::memory_order_seq_cst)) return;
  } while (!activity.retired.compare_exchange_weak(retired, retired + 1, std::memory_order_seq_cst));
  if (!deque.looks_empty()) pool.notify();
  park.store(kRetired, std::memory_order_seq_cst);
  if (should_wake() ||
      activity.retired.load(std::memory_order_seq_cst) > activity.in_place.load(std::memory_order_seq_cst)) {
    wake(kRetired);
  } else {
    doze(kRetired, kForever);
  }
  activity.retired.fetch_sub(1, std::memory_order_seq_cst);
}

}  // namespace trireme::scheduler
