#include "core/foreign_task.hpp"

#include <fmt/format.h>

#include "core/current.hpp"
#include "core/decode_call.hpp"
#include "core/rank_core.hpp"
#include "trireme/task.hpp"

namespace trireme::core {

namespace {

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

ForeignTask::ForeignTask(Tasks& tasks, TaskSpec&& task, scheduler::HolderId holder, bool may_leave)
    : Work(&ForeignTask::action, may_leave), spec(std::move(task)), tasks_(tasks), holder_(holder) {
  detail::Waiter::fire = [](detail::Waiter* waiter) { static_cast<ForeignTask*>(waiter)->ended(); };
  scheduler::Command::run = [](scheduler::Command* command) { static_cast<ForeignTask*>(command)->hand_over(); };
}

void ForeignTask::action(scheduler::Work* work, Do what) {
  TRIREME_CHECK(what == Do::run, "a foreign task was claimed by somebody who does not know it");
  static_cast<ForeignTask*>(work)->begin();
}

void ForeignTask::begin() {
  auto* invocation = decode_call(tasks_.context_, spec.id.owner, spec.function, spec.args, outcome_.error);
  if (invocation == nullptr) return post();
  // Born with two references, ours and the queue's: the latter is given up here.
  invocation_ = CellRef::adopt(invocation);
  invocation->release();
  // It holds what it needs of them, and lets go of that as it goes on.
  spec.args = {};
  if (spec.split && !attach_elements()) return post();
  // From here on this object may be gone. The outcome is posted before invoke() returns: what runs the task may say
  // then that it is not here any more (Cancels::here).
  const auto keep = invocation_;
  auto& holders = tasks_.holders_;
  auto& host = *tasks_.context_.host;
  const auto holder = holder_;
  const bool in_group = spec.demand.strategy == scheduler::Strategy::placement_group;
  TRIREME_CHECK(invocation->add_waiter(this), "a task ended before it began");
  if (holder == 0) return invocation->invocation->invoke(invocation, nullptr);
  // A task that starts under the token may find another on its thread.
  const auto before = running_holder();
  set_running_holder({&holders, holder, in_group});
  invocation->invocation->invoke(invocation, nullptr);
  set_running_holder(before);
  // A coroutine that waits needs no CPU, and takes none for its short steps.
  if (!invocation->ready() && !invocation->invocation->elsewhere)
    core::post(host, [&holders, holder] { holders.lend_cpu(holder); });
}

bool ForeignTask::attach_elements() {
  auto* invocation = this->invocation();
  detail::attach_elements(invocation);
  if (invocation->extra->elements.size() == spec.returns) return true;
  outcome_.error = std::make_unique<detail::ErrorInfo>();
  outcome_.error->code = Errc::type_mismatch;
  outcome_.error->message = fmt::format("{} returns {} values here, {} were asked for: the ranks run different code",
                                        invocation->function->name, invocation->extra->elements.size(), spec.returns);
  return false;
}

void ForeignTask::ended() {
  outcome_ = outcome_of(invocation(), spec.split);
  post();
}

void ForeignTask::post() {
  invocation_ = {};
  tasks_.context_.host->post(this);
}

void ForeignTask::hand_over() {
  const std::unique_ptr<ForeignTask> self(this);
  if (holder_ != 0) tasks_.holders_.release(holder_);
  --tasks_.foreign_;
  tasks_.finish(spec.id, spec.attempt, std::move(outcome_));
}

}  // namespace trireme::core
