#include "core/foreign_call.hpp"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "core/decode_call.hpp"
#include "core/foreign_task.hpp"
#include "trireme/task.hpp"

namespace trireme::core {

void ForeignCall::answer(Tasks& tasks, Context& context, ObjectId id, Outcome outcome) {
  if (!id) return;
  auto shared = std::make_shared<Outcome>(std::move(outcome));
  post(*context.host, [&tasks, id, shared] { tasks.finish(id, 0, std::move(*shared)); });
}

struct ForeignCall::Finisher final : detail::Waiter {
  detail::CallBase* call = nullptr;  // completes while it is alive: the waiter fires from within
  Tasks* tasks = nullptr;
  Context* context = nullptr;
  ObjectId id;
  bool split = false;
};

ForeignCall::Ran ForeignCall::run(MailItem* item, detail::LocalActor& actor) {
  const std::unique_ptr<ForeignCall> self(static_cast<ForeignCall*>(item));
  Outcome failed;
  auto* decoded = decode_call(self->context, self->from, self->function, self->args, failed.error);
  if (decoded == nullptr) {
    if (self->construct) {
      failed.error->code = Errc::actor_died;
      actor.die(std::move(*failed.error));
    } else
      self->answer(std::move(failed));
    return Ran::done;
  }
  // Born with two references; one is the runner's.
  const auto keep = CellRef::adopt(decoded);
  auto* call = static_cast<detail::CallBase*>(decoded);
  if (self->construct) {
    auto* make = detail::make_construct_item(call);
    return make->mail_ops->run(make, actor);
  }
  if (self->returns != 0) {
    detail::attach_elements(call);
    if (call->extra->elements.size() != self->returns) {
      failed.error = std::make_unique<detail::ErrorInfo>(
          runtime_error(self->context, Errc::type_mismatch,
                        fmt::format("{} returns {} values here, {} were asked for: the ranks run different code",
                                    call->function->name, call->extra->elements.size(), self->returns)));
      self->answer(std::move(failed));
      return Ran::done;
    }
  }
  auto* finisher = new Finisher;
  finisher->call = call;
  finisher->split = self->returns != 0;
  finisher->tasks = &self->tasks;
  finisher->context = &self->context;
  finisher->id = self->id;
  finisher->fire = [](detail::Waiter* waiter) {
    const std::unique_ptr<Finisher> done(static_cast<Finisher*>(waiter));
    answer(*done->tasks, *done->context, done->id, outcome_of(done->call, done->split));
  };
  call->add_waiter(finisher);
  return detail::run_call(call, actor);
}

void ForeignCall::fail(MailItem* item, const detail::ErrorInfo& error) {
  const std::unique_ptr<ForeignCall> self(static_cast<ForeignCall*>(item));
  Outcome outcome;
  outcome.error = std::make_unique<detail::ErrorInfo>(error);
  self->answer(std::move(outcome));
}

const ForeignCall::Ops ForeignCall::kOps{run, fail};

}  // namespace trireme::core
