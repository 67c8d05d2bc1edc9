#include "core/tasks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/foreign_task.hpp"
#include "core/when_local.hpp"
#include "trireme/task.hpp"

namespace trireme::core {

namespace {

// What a task_done says.
constexpr std::uint8_t kFailed = 1;
constexpr std::uint8_t kReports = 2;

}  // namespace

void Tasks::fail_task(detail::TaskBase* task, detail::ErrorInfo error) {
  detail::fail_invocation(task, std::move(error));
  task->release();
}

void Tasks::run_here(detail::TaskBase* task) {
  task->claimed.store(false, std::memory_order_release);
  context_.host->push(task);
  if (on_work) on_work();
}

TaskSpec Tasks::spec_of(detail::TaskBase* task) {
  TaskSpec spec;
  spec.split = task->extra != nullptr && !task->extra->elements.empty();
  spec.returns = spec.split ? static_cast<std::uint16_t>(task->extra->elements.size()) : 1;
  spec.id = refs_.new_id(spec.returns);
  spec.function = task->function->id;
  spec.args = task->invocation->encode_args(task, spec.deps);
  return spec;
}

Tasks::Pending& Tasks::expect_task(detail::TaskBase* task) {
  auto spec = spec_of(task);
  // An argument that leads back to the result (through an actor that keeps it) would keep both for ever.
  task->invocation->drop_args(task);
  auto& pending = pending_[spec.id.index];
  if (spec.split)
    pending.results = task->extra->elements;
  else
    pending.results.push_back(CellRef::share(task));
  pending.retries_left = task->extra != nullptr ? task->extra->options.max_retries : TaskOptions{}.max_retries;
  pending.spec = std::move(spec);
  return pending;
}

void Tasks::send_task(const TaskSpec& spec, Rank to) {
  auto out = context_.begin(MessageType::task);
  out.id(spec.id);
  out.varint(spec.attempt);
  out.varint(spec.hops);
  out.varint(spec.returns);
  out.put(static_cast<std::uint8_t>((spec.split ? 1 : 0) | (spec.placed ? 2 : 0) | (spec.args.buffer ? 4 : 0)));
  out.put(spec.function);
  out.varint(spec.deps);
  if (spec.placed) {
    out.varint(spec.bounced);
    out.put(spec.bundle);
    spec.demand.encode(out);
  }
  out.blob(spec.args.view());
  refs_.write(out, spec.args.refs, to, spec.deps);
  context_.send(to);
}

void Tasks::on_task(Rank from, Reader& in) {
  TaskSpec spec;
  spec.id = in.id();
  spec.attempt = static_cast<std::uint32_t>(in.varint());
  spec.hops = static_cast<std::uint32_t>(in.varint());
  const auto returns = in.varint();
  const auto flags = in.get<std::uint8_t>();
  spec.function = in.get<std::uint64_t>();
  const auto deps = in.varint();
  spec.split = (flags & 1U) != 0;
  spec.placed = (flags & 2U) != 0;
  if (spec.placed) {
    spec.bounced = static_cast<std::uint32_t>(in.varint());
    spec.bundle = in.get<std::int32_t>();
    spec.demand = scheduler::Demand::decode(in);
  }
  const auto args = in.blob();
  spec.args.bytes.assign(args.begin(), args.end());
  spec.args.refs = refs_.read(in, from, deps);
  if (!in.done() || returns == 0 || returns > UINT16_MAX || deps > spec.args.refs.size() ||
      spec.id.owner >= context_.size)
    return in.fail();
  spec.returns = static_cast<std::uint16_t>(returns);
  spec.deps = static_cast<std::uint32_t>(deps);
  if (spec.id.owner == context_.self && from != context_.self) {
    // One of ours comes back. An earlier attempt of it must not run any more, nor one that is here already.
    const auto at = pending_.find(spec.id.index);
    if (at == pending_.end() || at->second.kind != Pending::Kind::task || at->second.spec.attempt != spec.attempt ||
        at->second.spec.placed || at->second.where == context_.self)
      return;
    at->second.where = context_.self;
    at->second.via = kNoRank;
    at->second.spec.hops = spec.hops;
    // What runs is the task as we know it, whatever became of it on its way.
    spec = at->second.spec;
  }
  accept(std::move(spec));
}

void Tasks::accept(TaskSpec&& spec) {
  ++foreign_;
  if (!spec.placed) return run_foreign(std::move(spec), 0);
  if (spec.bundle < 0) reports_.owe(spec.id.owner);
  auto shared = std::make_shared<TaskSpec>(std::move(spec));
  auto holder = std::make_shared<scheduler::HolderId>(0);
  auto start = [this, shared, holder](Holders::Answer answer) {
    if (answer == Holders::Answer::granted) return run_foreign(std::move(*shared), *holder);
    --foreign_;
    if (answer == Holders::Answer::elsewhere) return bounce(*shared);
    Outcome outcome;
    outcome.error = std::make_unique<detail::ErrorInfo>(
        runtime_error(context_, Errc::unschedulable,
                      fmt::format("asked {} on rank {}, which has {} in all", shared->demand.text(), context_.self,
                                  holders_.pool().total().text())));
    finish(shared->id, shared->attempt, std::move(outcome));
  };
  *holder = holders_.next();
  holders_.offer(shared->demand, shared->bundle, shared->bounced, std::move(start));
}

/// Back to its owner, for another rank to run it.
void Tasks::bounce(const TaskSpec& spec) {
  if (spec.id.owner == context_.self) {
    reports_.refresh_own();
    const auto at = pending_.find(spec.id.index);
    if (at == pending_.end() || at->second.spec.attempt != spec.attempt) return;
    return place_elsewhere(at->second, context_.self);
  }
  if (!context_.alive(spec.id.owner)) return;
  auto out = context_.begin(MessageType::task_bounced);
  out.id(spec.id);
  out.varint(spec.attempt);
  reports_.put(out, spec.id.owner);
  context_.send(spec.id.owner);
}

void Tasks::run_foreign(TaskSpec&& spec, scheduler::HolderId holder) {
  const auto& refs = spec.args.refs;
  const auto deps = std::span(refs).first(spec.deps);
  const bool all_here = std::all_of(deps.begin(), deps.end(), [](const CellRef& dep) {
    return dep->ready() && dep->form() != detail::CellForm::error;
  });
  if (all_here) return queue_foreign(std::move(spec), holder);
  std::vector<CellRef> wait(deps.begin(), deps.end());
  auto shared = std::make_shared<TaskSpec>(std::move(spec));
  when_local(context_, refs_, std::move(wait), [this, shared, holder](const detail::ErrorInfo* error) {
    if (error == nullptr) return queue_foreign(std::move(*shared), holder);
    if (holder != 0) holders_.release(holder);
    --foreign_;
    Outcome outcome;
    outcome.error = std::make_unique<detail::ErrorInfo>(*error);
    finish(shared->id, shared->attempt, std::move(outcome));
  });
}

void Tasks::queue_foreign(TaskSpec&& spec, scheduler::HolderId holder) {
  const bool starts = spec.placed && context_.starters.contains(spec.function);
  // Tasks that hold resources of this rank stay here.
  auto* task = new ForeignTask(*this, std::move(spec), holder, holder == 0);
  if (starts) return ForeignTask::action(task, scheduler::Work::Do::run);
  context_.host->push(task);
  if (on_work) on_work();
}

std::uint32_t Tasks::give(Rank thief, std::uint32_t count) {
  std::vector<scheduler::Work*> works;
  context_.host->take_exportable(count, works);
  for (auto* work : works) {
    if (work->action == &detail::task_action) {
      auto* task = static_cast<detail::TaskBase*>(work);
      auto& pending = expect_task(task);
      pending.where = thief;
      send_task(pending.spec, thief);
      task->release();
    } else {
      std::unique_ptr<ForeignTask> task(static_cast<ForeignTask*>(work));
      --foreign_;
      auto& spec = task->spec;
      ++spec.hops;
      if (spec.id.owner == context_.self) {
        if (const auto at = pending_.find(spec.id.index);
            at != pending_.end() && at->second.spec.attempt == spec.attempt) {
          at->second.where = thief;
          at->second.via = kNoRank;
          at->second.spec.hops = spec.hops;
        }
      } else if (thief != spec.id.owner) {
        auto out = context_.begin(MessageType::task_moved);
        out.id(spec.id);
        out.varint(spec.attempt);
        out.varint(spec.hops);
        out.varint(thief);
        context_.send(spec.id.owner);
      }
      send_task(spec, thief);
    }
  }
  return static_cast<std::uint32_t>(works.size());
}

void Tasks::on_moved(Rank from, Reader& in) {
  const auto id = in.id();
  const auto attempt = in.varint();
  const auto hops = static_cast<std::uint32_t>(in.varint());
  const auto where = static_cast<Rank>(in.varint());
  // The owner is not told of what comes to itself.
  if (!in.done() || id.owner != context_.self || where >= context_.size || where == context_.self) return in.fail();
  const auto at = pending_.find(id.index);
  // Two ranks that passed it on tell so on two links: what is later in truth may be earlier here.
  if (at == pending_.end() || at->second.spec.attempt != attempt || hops <= at->second.spec.hops) return;
  // What has come back here is on no way: only a rank that never had it says so.
  if (at->second.stays() || at->second.where == context_.self) return;
  at->second.spec.hops = hops;
  at->second.where = where;
  at->second.via = from;
  if (!context_.alive(where)) retry(id.index, where);
}

std::uint64_t Tasks::expect_call(detail::Invocation* call, CellRef actor, Rank where) {
  const bool split = call->extra != nullptr && !call->extra->elements.empty();
  const auto id = refs_.new_id(split ? call->extra->elements.size() : 1);
  auto& pending = pending_[id.index];
  pending.kind = Pending::Kind::call;
  pending.spec.id = id;
  if (split)
    pending.results = call->extra->elements;
  else
    pending.results.push_back(CellRef::share(call));
  pending.keep = std::move(actor);
  pending.where = where;
  return id.index;
}

void Tasks::finish(ObjectId id, std::uint32_t attempt, Outcome outcome) {
  if (id.owner != context_.self) return send_outcome(id.owner, id, attempt, std::move(outcome));
  const auto at = pending_.find(id.index);
  if (at == pending_.end() || at->second.spec.attempt != attempt) return;
  complete(at->second, std::move(outcome));
}

void Tasks::send_outcome(Rank to, ObjectId id, std::uint32_t attempt, Outcome outcome) {
  if (!context_.alive(to)) return;
  auto out = context_.begin(MessageType::task_done);
  out.id(id);
  out.varint(attempt);
  const bool news = reports_.has_news(to);
  out.put(static_cast<std::uint8_t>((outcome.error ? kFailed : 0) | (news ? kReports : 0)));
  if (news) reports_.put(out, to);
  if (outcome.error) {
    encode_error(out, *outcome.error);
  } else {
    out.varint(outcome.values.size());
    for (std::size_t i = 0; i < outcome.values.size(); ++i) {
      auto& value = outcome.values[i];
      refs_.write_value(out, value, to);
      // Only what lies in this rank's own arena needs holding; a result that is somebody else's buffer has its owner.
      if (value.buffer) refs_.hold({id.owner, id.index + i}, std::move(value.buffer));
    }
  }
  context_.send(to);
}

void Tasks::complete(Pending& found, Outcome outcome) {
  // Out of the table first: completing runs waiters, which may submit.
  const auto node = pending_.extract(found.spec.id.index);
  const auto& pending = node.mapped();
  if (!outcome.error && outcome.values.size() != pending.results.size()) {
    outcome.error = std::make_unique<detail::ErrorInfo>(
        runtime_error(context_, Errc::malformed, "a result has the wrong number of values"));
  }
  for (std::size_t i = 0; i < pending.results.size(); ++i) {
    if (outcome.error)
      pending.results[i]->complete_error(*outcome.error);
    else
      pending.results[i]->complete(std::move(outcome.values[i]));
  }
}

void Tasks::free_there(Rank holder, ObjectId result) {
  auto out = context_.begin(MessageType::free_result);
  out.id(result);
  context_.send(holder);
}

void Tasks::on_done(Rank from, Reader& in) {
  const auto id = in.id();
  const auto attempt = in.varint();
  const auto flags = in.get<std::uint8_t>();
  const bool failed = (flags & kFailed) != 0;
  if (!in.ok() || id.owner != context_.self || flags > (kFailed | kReports)) return in.fail();
  if ((flags & kReports) != 0) reports_.take(in, from);
  Outcome outcome;
  std::vector<Refs::Incoming> values;
  if (failed) {
    outcome.error = std::make_unique<detail::ErrorInfo>(decode_error(in));
  } else {
    const auto count = in.count(2);
    for (std::uint64_t i = 0; i < count && in.ok(); ++i) values.push_back(refs_.read_value(in, from));
  }
  if (!in.done()) return in.fail();
  const auto at = pending_.find(id.index);
  if (at == pending_.end() || at->second.spec.attempt != attempt ||
      ((at->second.stays() || at->second.where == context_.self) && at->second.where != from) ||
      (!failed && values.size() != at->second.results.size())) {
    // Nobody waits for it any more, or not from there: what is held there goes.
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (values[i].location) free_there(from, {id.owner, id.index + i});
    }
    return;
  }
  if (failed) return complete(at->second, std::move(outcome));
  const auto node = pending_.extract(at);
  const auto& pending = node.mapped();
  for (std::size_t i = 0; i < values.size(); ++i) {
    auto& incoming = values[i];
    if (incoming.location && pending.results[i]->ready()) {
      // Cancelled meanwhile.
      free_there(from, {id.owner, id.index + i});
    } else if (incoming.location) {
      refs_.complete_located(pending.results[i].get(), *incoming.location, {id.owner, id.index + i},
                             std::move(incoming.value.refs));
    } else {
      pending.results[i]->complete(std::move(incoming.value));
    }
  }
}

void Tasks::retry(std::uint64_t index, Rank dead) {
  auto& pending = pending_.at(index);
  if (pending.kind == Pending::Kind::call) {
    Outcome outcome;
    outcome.error = std::make_unique<detail::ErrorInfo>(
        runtime_error(context_, Errc::actor_died, fmt::format("rank {}, which hosted the actor, died", dead)));
    return complete(pending, std::move(outcome));
  }
  if (pending.retries_left == 0) {
    Outcome outcome;
    outcome.error = std::make_unique<detail::ErrorInfo>(runtime_error(
        context_, Errc::worker_lost, fmt::format("rank {} died with the task and max_retries is used up", dead)));
    return complete(pending, std::move(outcome));
  }
  if (pending.retries_left > 0) --pending.retries_left;
  ++pending.spec.attempt;
  pending.spec.hops = 0;
  pending.via = kNoRank;
  if (pending.spec.demand.strategy == scheduler::Strategy::placement_group) {
    pending.where = kNoRank;
    return place_in_group(index);
  }
  if (pending.spec.placed) return place_pending(index);
  pending.where = context_.self;
  TaskSpec copy = pending.spec;
  accept(std::move(copy));
}

void Tasks::on_rank_dead(Rank dead) {
  std::vector<std::uint64_t> lost;
  for (auto& [index, pending] : pending_) {
    if (pending.where == dead || pending.via == dead) lost.push_back(index);
  }
  std::sort(lost.begin(), lost.end());
  for (const auto index : lost) {
    if (pending_.contains(index)) retry(index, dead);
  }
}

void Tasks::drop_pending() {
  // They go when nothing here can be found any more: what they hold may lead back.
  const auto pending = std::exchange(pending_, {});
  holders_.drop_waiting();
}

std::string Tasks::dump() const {
  std::string text;
  for (const auto& [index, pending] : pending_) {
    text +=
        fmt::format("{} {}.{} attempt {} hops {} at rank {} retries {} deps {} function {:016x} results",
                    pending.kind == Pending::Kind::task ? "task" : "call", context_.self, index, pending.spec.attempt,
                    pending.spec.hops, pending.where, pending.retries_left, pending.spec.deps, pending.spec.function);
    for (const auto& result : pending.results) text += result->ready() ? " ready" : " open";
    text += '\n';
  }
  return text;
}

}  // namespace trireme::core
