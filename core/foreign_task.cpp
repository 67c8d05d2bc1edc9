#include "core/foreign_task.hpp"

#include <fmt/format.h>

#include "core/current.hpp"
#include "core/decode_call.hpp"
#include "core/rank_core.hpp"
#include "trireme/task.hpp"

namespace trireme::core {

namespace {

struct Finisher final : detail::Waiter {
  CellRef invocation;
  bool split = false;
  std::function<void(Outcome)> done;

  static void on_end(detail::Waiter* waiter) {
    std::unique_ptr<Finisher> self(static_cast<Finisher*>(waiter));
    auto* call = static_cast<detail::Invocation*>(self->invocation.get());
    self->done(outcome_of(call, self->split));
  }
};

detail::Value wire_form(Cell* cell) {
  if (cell->form() == detail::CellForm::typed) return cell->ops()->encode(cell);
  return cell->value();
}

}  // namespace

Outcome outcome_of(detail::Invocation* invocation, bool split) {
  Outcome outcome;
  if (invocation->form() == detail::CellForm::error) {
    outcome.error = std::make_unique<detail::ErrorInfo>(invocation->error());
    return outcome;
  }
  try {
    if (split && invocation->extra != nullptr) {
      for (const auto& element : invocation->extra->elements) outcome.values.push_back(wire_form(element.get()));
    } else {
      outcome.values.push_back(wire_form(invocation));
    }
  } catch (...) {
    outcome.values.clear();
    outcome.error = std::make_unique<detail::ErrorInfo>(detail::current_exception_info(invocation->function->name));
  }
  return outcome;
}

void run_invocation(detail::Invocation* invocation, void* object, bool split, std::uint16_t returns,
                    std::function<void(Outcome)> done) {
  if (split) {
    detail::attach_elements(invocation);
    if (invocation->extra->elements.size() != returns) {
      Outcome outcome;
      outcome.error = std::make_unique<detail::ErrorInfo>();
      outcome.error->code = Errc::type_mismatch;
      outcome.error->message = fmt::format("{} returns {} values here, {} were asked for: the ranks run different code",
                                           invocation->function->name, invocation->extra->elements.size(), returns);
      return done(std::move(outcome));
    }
  }
  invocation->invocation->invoke(invocation, object);
  if (invocation->ready()) return done(outcome_of(invocation, split));
  auto finisher = std::make_unique<Finisher>();
  finisher->invocation = CellRef::share(invocation);
  finisher->split = split;
  finisher->done = std::move(done);
  finisher->fire = &Finisher::on_end;
  auto* raw = finisher.release();
  if (!invocation->add_waiter(raw)) Finisher::on_end(raw);
}

namespace {

thread_local Running running;

}  // namespace

RunningHolder running_holder() { return running.holder; }
Running set_running(Running now) { return std::exchange(running, now); }
const RunningCalls::Call* running_call() { return running.call; }
const RunningCalls::Call* set_running_call(const RunningCalls::Call* call) { return std::exchange(running.call, call); }

LentCpu::LentCpu(Host& host) : host_(host), waits_(std::exchange(running, {})) {
  const auto [tasks, holder] = waits_.holder;
  if (tasks != nullptr) post(host_, [tasks = tasks, holder = holder] { tasks->lend_cpu(holder); });
}

LentCpu::~LentCpu() {
  const auto [tasks, holder] = waits_.holder;
  if (tasks != nullptr) post(host_, [tasks = tasks, holder = holder] { tasks->reclaim_cpu(holder); });
  running = waits_;
}

ForeignTask::ForeignTask(Tasks& tasks, TaskSpec task, scheduler::HolderId holder, bool may_leave)
    : Work(&ForeignTask::action, may_leave), spec(std::move(task)), tasks_(tasks), holder_(holder) {}

void ForeignTask::action(scheduler::Work* work, Do what) {
  TRIREME_CHECK(what == Do::run, "a foreign task was claimed by somebody who does not know it");
  std::unique_ptr<ForeignTask> self(static_cast<ForeignTask*>(work));
  self->run();
}

void ForeignTask::run() {
  auto& tasks = tasks_;
  auto finish = [&tasks, id = spec.id, attempt = spec.attempt, holder = holder_](Outcome outcome) {
    auto shared = std::make_shared<Outcome>(std::move(outcome));
    post(*tasks.context_.host, [&tasks, id, attempt, holder, shared] {
      if (holder != 0) tasks.release_holder(holder);
      --tasks.foreign_;
      tasks.finish(id, attempt, std::move(*shared));
    });
  };
  Outcome failed;
  auto* invocation = decode_call(tasks.context_, spec.id.owner, spec.function, spec.args, failed.error);
  if (invocation == nullptr) return finish(std::move(failed));
  // Born with two references, ours and the queue's: both are given up here, a coroutine keeps its own.
  const auto keep = CellRef::adopt(invocation);
  invocation->release();
  if (holder_ == 0) return run_invocation(invocation, nullptr, spec.split, spec.returns, std::move(finish));
  running.holder = {&tasks, holder_};
  run_invocation(invocation, nullptr, spec.split, spec.returns, std::move(finish));
  running.holder = {};
  // A coroutine that waits needs no CPU, and takes none for its short steps.
  if (!invocation->ready() && !invocation->invocation->elsewhere)
    post(*tasks.context_.host, [&tasks, holder = holder_] { tasks.lend_cpu(holder); });
}

}  // namespace trireme::core
