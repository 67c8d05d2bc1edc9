#include "scheduler/executor.hpp"

#include "base/check.hpp"
#include "scheduler/executor_impl.hpp"
#include "scheduler/executor_parker.hpp"
#include "scheduler/progress.hpp"
#include "scheduler/thread_setup.hpp"

namespace trireme::scheduler {
namespace {

// Works looked at per queue and call of take_exportable().
constexpr std::size_t kExportWindow = 1024;
// Works that must stay and stand before exportable ones are moved to the injection queue, this many per deque and call.
constexpr int kMovedMax = 64;
// A thread outside that has run this many works in place drops their entries from the injection queue.
constexpr std::size_t kDeadOutside = 256;

}  // namespace

Worker::~Worker() = default;

Executor::Impl::Impl(ExecutorOptions wanted, ProgressEngine* engine)
    : options(std::move(wanted)), progress(engine), activity(std::make_shared<Activity>()) {
  TRIREME_CHECK(options.threads >= 1 && options.threads < 0x8000, "an executor needs 1 to 32767 threads");
  activity->threads = options.threads;
  fibers_alive.store(options.threads, std::memory_order_relaxed);  // the first of each thread
  activity->cores = options.cores != 0 ? options.cores : options.threads;
  // Until start() all threads count as sleeping, with nobody to wake.
  activity->state.store(options.threads * Activity::kSleeping, std::memory_order_relaxed);
  for (unsigned i = 0; i < options.threads; ++i) workers.push_back(std::make_unique<Worker>(*this, i));
  if (progress != nullptr) {
    progress->set_core_free_probe([shared = activity] { return shared->active() < shared->cores; });
  }
}

void Executor::Impl::wake_one() {
  for (const auto& worker : workers) {
    std::uint32_t asleep = Worker::kAsleep;
    if (worker->park.load(std::memory_order_seq_cst) != asleep) continue;
    if (!worker->park.compare_exchange_strong(asleep, Worker::kBeingWoken, std::memory_order_seq_cst)) continue;
    activity->state.fetch_add(Activity::kSearching - Activity::kSleeping, std::memory_order_seq_cst);
    worker->park.store(Worker::kWoken, std::memory_order_seq_cst);
    wakes.fetch_add(1, std::memory_order_relaxed);
    futex_wake_one(worker->park);
    return;
  }
}

bool Executor::Impl::any_work() const {
  if (!injection.looks_empty()) return true;
  for (const auto& worker : workers) {
    if (!worker->deque.looks_empty() || !worker->line.looks_empty()) return true;
  }
  return false;
}

Executor::Executor(ExecutorOptions options, ProgressEngine* progress)
    : impl_(std::make_unique<Impl>(std::move(options), progress)) {}

Executor::~Executor() { stop(); }

void Executor::start() {
  Impl& pool = *impl_;
  TRIREME_CHECK(!pool.started, "Executor::start() called twice");
  pool.started = true;
  // All count as busy now; each finds its way from there.
  pool.activity->state.fetch_sub(pool.options.threads * Activity::kSleeping, std::memory_order_seq_cst);
  const QuietSignals quiet;
  for (const auto& worker : pool.workers) worker->thread = std::thread([each = worker.get()] { each->thread_main(); });
}

void Executor::stop() {
  Impl& pool = *impl_;
  if (!pool.started || pool.stopping.exchange(true, std::memory_order_seq_cst)) return;
  for (const auto& worker : pool.workers) worker->wake_up();
  for (const auto& worker : pool.workers) worker->thread.join();
}

void Executor::push(Work* work) {
  Worker* me = Worker::this_thread();
  if (me != nullptr && &me->pool == impl_.get()) {
    me->deque.push(Worker::tag(work));
  } else {
    impl_->injection.push(work);
    if (impl_->activity->retired.load(std::memory_order_relaxed) != 0 && impl_->piled_up()) impl_->wake_retired();
  }
  impl_->notify();
}

void Executor::push_back_of_line(Work* work) {
  Worker* me = Worker::this_thread();
  (me != nullptr && &me->pool == impl_.get() ? me->line : impl_->injection).push(work);
  impl_->notify();
}

bool Executor::pop_if_newest(Work* work) {
  Worker* me = Worker::this_thread();
  if (me == nullptr || &me->pool != impl_.get() || !me->deque.pop_if(Worker::tag(work))) return false;
  if (work->claim()) {
    if (me->dead != 0) me->drop_dead();
    return true;
  }
  work->action(work, Work::Do::drop);
  return false;
}

bool Executor::claim(Work* work) {
  if (!work->claim()) return false;
  Worker* me = Worker::this_thread();
  if (me != nullptr && &me->pool == impl_.get()) {
    ++me->dead;
  } else {
    impl_->claimed_outside();
  }
  return true;
}

/// The compute threads may be busy, or retired because this thread computes: nobody else would drop these entries.
void Executor::Impl::claimed_outside() {
  thread_local std::size_t dead = 0;
  // Half of the queue: a look at all of it costs two of its entries per work.
  if (++dead < kDeadOutside || dead < injection.size() / 2) return;
  dead = 0;
  std::vector<Work*> claimed;
  claimed.reserve(kDeadOutside);
  injection.pop_claimed(claimed);
  for (Work* work : claimed) work->action(work, Work::Do::drop);
}

void Worker::drop_dead() {
  while (dead != 0) {
    const std::uintptr_t entry = deque.pop();
    Work* work = untag(entry);
    if (entry == 0 || !work->claimed.load(std::memory_order_acquire)) {
      // Those that are left lie deeper, or in another thread's deque.
      dead = 0;
      if (entry != 0) {
        deque.push(entry);
        pool.notify();  // a thread that looked meanwhile did not see it
      }
      return;
    }
    --dead;
    work->action(work, Work::Do::drop);
  }
}

std::size_t Executor::take_exportable(std::size_t count, std::vector<Work*>& out) {
  Impl& pool = *impl_;
  const std::size_t first = out.size();
  const auto taken = [&] { return out.size() - first; };
  const auto keep_claimed = [&](std::size_t from) {
    std::size_t kept = from;
    for (std::size_t i = from; i < out.size(); ++i) {
      if (out[i]->claim()) {
        out[kept++] = out[i];
      } else {
        out[i]->action(out[i], Work::Do::drop);
      }
    }
    out.resize(kept);
  };
  const auto from_queue = [&](SharedQueue& queue) {
    while (taken() < count) {
      const std::size_t before = out.size();
      if (queue.pop_exportable(count - taken(), kExportWindow, out) == 0) break;
      keep_claimed(before);
    }
  };
  from_queue(pool.injection);
  bool moved = false;
  for (const auto& worker : pool.workers) {
    for (int stay = 0; taken() < count && stay < kMovedMax;) {
      const std::uintptr_t entry = worker->deque.steal();
      if (entry == 0) break;
      Work* work = Worker::untag(entry);
      if ((entry & 1U) == 0) {
        pool.injection.push(work);
        moved = true;
        ++stay;
        continue;
      }
      out.push_back(work);
      keep_claimed(out.size() - 1);
    }
    from_queue(worker->line);
  }
  if (moved) pool.notify();
  return taken();
}

std::size_t Executor::queued() const {
  std::size_t total = impl_->injection.size();
  for (const auto& worker : impl_->workers) total += worker->deque.size() + worker->line.size();
  return total;
}

unsigned Executor::threads() const { return impl_->options.threads; }

bool Executor::on_compute_thread() const {
  Worker* me = Worker::this_thread();
  return me != nullptr && &me->pool == impl_.get();
}

unsigned Executor::idle_threads() const { return impl_->activity->threads - impl_->activity->busy(); }

Executor::Stats Executor::stats() const {
  Stats sum;
  for (const auto& worker : impl_->workers) {
    sum.run += worker->count_run.load(std::memory_order_relaxed);
    sum.stolen += worker->count_stolen.load(std::memory_order_relaxed);
    sum.sleeps += worker->count_sleeps.load(std::memory_order_relaxed);
  }
  sum.fibers_made = impl_->fibers_made.load(std::memory_order_relaxed);
  sum.fibers_alive = impl_->fibers_alive.load(std::memory_order_relaxed);
  sum.wakes = impl_->wakes.load(std::memory_order_relaxed);
  return sum;
}

}  // namespace trireme::scheduler
