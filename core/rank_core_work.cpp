#include "core/rank_core.hpp"

namespace trireme::core {

/// What fires a task when the last of its arguments is there. One block of memory, with a waiter for each argument.
struct RankCore::WaitingTask {
  struct Argument : detail::Waiter {
    WaitingTask* of = nullptr;
  };
  RankCore* core = nullptr;
  detail::TaskBase* task = nullptr;
  std::size_t bytes = 0;

  static WaitingTask* make(RankCore* core, detail::TaskBase* task, std::size_t arguments) {
    const std::size_t bytes = sizeof(WaitingTask) + arguments * sizeof(Argument);
    return new (take_block(bytes)) WaitingTask{core, task, bytes};
  }
  Argument* argument(std::size_t i) { return new (reinterpret_cast<Argument*>(this + 1) + i) Argument; }

  /// `arguments` more are there.
  void arrive(std::uint32_t arguments) {
    // acq_rel: the last to arrive sees what all completers wrote.
    if (task->deps_left.fetch_sub(arguments, std::memory_order_acq_rel) != arguments) return;
    auto* const ready = task;
    auto* const by = core;
    give_block(this, bytes);
    const auto take = ready->invocation->take;
    if (take == nullptr || !take(ready)) by->submit(ready, false);
  }
};

void RankCore::submit(detail::TaskBase* task, bool deps) {
  if (deps && wait_for_arguments(task)) return;
  // release: whoever claims it sees its arguments complete.
  task->claimed.store(false, std::memory_order_release);
  context_.host->push(task);
  work_queued();
}

bool RankCore::wait_for_arguments(detail::TaskBase* task) {
  constexpr std::size_t kFew = 8;
  Cell* few[kFew];
  std::vector<Cell*> many;
  const std::size_t count = task->invocation->deps(task, nullptr);
  if (count > kFew) many.resize(count);
  const std::span<Cell*> cells(count > kFew ? many.data() : few, count);
  task->invocation->deps(task, cells.data());
  std::uint32_t missing = 0;
  bool all_here = true;
  for (auto*& cell : cells) {
    if (cell->ready()) {
      cell = nullptr;
      continue;
    }
    ++missing;
    all_here = all_here && !cell->exported();
  }
  if (missing == 0) return false;
  // Nobody may run it in place before its arguments are here.
  task->claimed.store(true, std::memory_order_relaxed);
  if (!all_here) {
    post(*context_.host, [this, task] { tasks_.submit_waiting(task); });
    return true;
  }
  auto* const waiting = WaitingTask::make(this, task, missing);
  // One more than there are, so that the task cannot start before all waiters are in place.
  task->deps_left.store(missing + 1, std::memory_order_relaxed);
  std::uint32_t arrived = 1;
  std::size_t next = 0;
  for (auto* cell : cells) {
    if (cell == nullptr) continue;
    auto* const argument = waiting->argument(next++);
    argument->of = waiting;
    argument->fire = [](detail::Waiter* w) { static_cast<WaitingTask::Argument*>(w)->of->arrive(1); };
    if (!cell->add_waiter(argument)) {
      ++arrived;
    } else if (cell->exported()) {
      // Since the look above; see Refs::make_entry().
      post(*context_.host, [this, keep = CellRef::share(cell)] { refs_.need(keep.get()); });
    }
  }
  waiting->arrive(arrived);
  return true;
}

void RankCore::work_queued() {
  // Ranks that ran dry wait here, or this rank itself had told the others that it is idle.
  if (thieves_wait_.load(std::memory_order_relaxed) || idle_.load(std::memory_order_relaxed)) {
    if (idle_.exchange(false, std::memory_order_relaxed) || thieves_wait_.load(std::memory_order_relaxed))
      post(*context_.host, [this] { steal_.on_local_work(steal_link_.stealable(), context_.clock->now()); });
  }
}

void RankCore::tell_steal_of_work() {
  idle_.store(false, std::memory_order_relaxed);
  steal_.on_local_work(steal_link_.stealable(), context_.clock->now());
}

void RankCore::went_idle() {
  // Without CPUs nothing is taken from others either.
  if (context_.size == 1 || pool_.total().cpu_units() == 0) return;
  idle_.store(true, std::memory_order_relaxed);
  post(*context_.host, [this] {
    if (context_.host->queued() != 0) return tell_steal_of_work();
    steal_.on_local_idle(context_.clock->now());
  });
}

}  // namespace trireme::core
