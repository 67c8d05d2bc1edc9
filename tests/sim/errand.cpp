#include "tests/sim/errand.hpp"

#include <algorithm>
#include <cstring>

#include "core/current.hpp"
#include "core/foreign_task.hpp"
#include "core/rank_core.hpp"
#include "trireme/runtime.hpp"

namespace trireme::sim {

using detail::CallBase;
using detail::Cell;
using detail::CellRef;
using detail::Invocation;
using detail::TaskBase;

namespace {

/// How many tasks a clerk does at a time.
constexpr std::uint32_t kAtOnce = 2;

Clerk& clerk_here() { return *ledger->world.at(this_rank()).clerk; }

/// An errand as an invocation, with the references that it needs.
template <class Base>
struct ErrandBlock final : Base {
  ErrandBlock(Errand e, std::vector<CellRef> r, const detail::FunctionEntry* function)
      : Base(&kCellOps, &kOps, function, &detail::task_action), errand(e), refs(std::move(r)) {}
  Errand errand;
  std::vector<CellRef> refs;
  bool create = false;
  detail::Object object;  // of a creation

  static const detail::FunctionEntry& entry();
  static Invocation* decode(const detail::Value& args, std::uint32_t& /*decoded*/) {
    Errand errand;
    if (args.view().size() != sizeof errand) throw detail::DecodeError{};
    std::memcpy(&errand, args.view().data(), sizeof errand);
    return new ErrandBlock(errand, args.refs, &entry());
  }
  static detail::Value encode_args(const Invocation* base, std::uint32_t& deps) {
    const auto* self = static_cast<const ErrandBlock*>(base);
    deps = static_cast<std::uint32_t>(self->refs.size());
    detail::Value value;
    value.bytes.resize(sizeof self->errand);
    std::memcpy(value.bytes.data(), &self->errand, sizeof self->errand);
    value.refs = self->refs;
    return value;
  }
  static std::size_t deps(const Invocation* base, Cell** out) {
    const auto* self = static_cast<const ErrandBlock*>(base);
    for (std::size_t i = 0; out != nullptr && i < self->refs.size(); ++i) out[i] = self->refs[i].get();
    return self->refs.size();
  }
  static std::vector<CellRef> make_elements(const Invocation*) { return {}; }
  static void drop_args(Invocation* base) { static_cast<ErrandBlock*>(base)->refs.clear(); }
  static void destroy(Cell* cell) noexcept {
    auto* self = static_cast<ErrandBlock*>(cell);
    if (self->extra != nullptr) detail::free_extra(self->extra);
    if constexpr (std::is_same_v<Base, CallBase>) detail::release_target(self);
    delete self;
  }
  static const void* typed(const Cell* cell) noexcept { return &static_cast<const ErrandBlock*>(cell)->object; }
  static detail::Value encode(const Cell* cell) { return cell->value(); }

  static void invoke(Invocation* base, void* object) {
    auto* self = static_cast<ErrandBlock*>(base);
    if (self->ready()) return drop_args(self);  // cancelled while it waited
    const bool chore = self->errand.chore;
    if (self->create) {
      auto desk = std::make_unique<std::shared_ptr<Desk>>(std::make_shared<Desk>(self->errand.key));
      ledger->built(self->errand.key);
      self->object = {desk.release(), &close, chore ? nullptr : &abort, !chore};
      return self->complete_typed();
    }
    if (chore) {
      do_chore(self, object == nullptr ? nullptr : static_cast<std::shared_ptr<Desk>*>(object)->get());
      // The rank's other threads are not asleep: what they do now must find the outcome posted.
      return ledger->world.at(this_rank()).host->poll();
    }
    std::vector<Ref<Blob>> deps;
    for (const auto& ref : self->refs) deps.emplace_back(ref);
    std::shared_ptr<Desk> desk;
    if (object != nullptr) desk = *static_cast<std::shared_ptr<Desk>*>(object);
    clerk_here().run(CellRef::share(self), self->errand, std::move(deps), std::move(desk));
  }
  static void do_chore(ErrandBlock* self, const Desk* desk) {
    const auto fail = [self](Errc code, const char* why) {
      detail::fail_invocation(self, core::runtime_error(core::current().context(), code, why));
    };
    const auto& errand = self->errand;
    const core::RunningCalls::Call running(clerk_here().chores(), errand.key);
    if (!running.may_begin()) return fail(Errc::cancelled, "it was cancelled before it began here");
    std::vector<Outcome> values;
    try {
      for (const auto& ref : self->refs) values.push_back({false, check_blob(get(Ref<Blob>(ref)))});
    } catch (const Exception& error) {
      return detail::fail_invocation(self, error.info());
    }
    if (desk != nullptr) {
      if (errand.call.actor != desk->key) ledger->fail("a chore reached another desk");
      ledger->called(errand.call, desk->instance);
    } else {
      ledger->ran(errand.ticket);
    }
    const auto outcome = eval_errand(errand.value, values);
    ledger->world.at(this_rank()).host->compute(errand.time);
    if (core::running_call() != &running) ledger->fail("a chore takes another one for itself");
    // Some never ask.
    if (running.asked() && errand.value % 4 != 0) return fail(Errc::cancelled, "it was interrupted");
    if (outcome.failed) {
      detail::ErrorInfo error;
      error.code = Errc::task_failed;
      error.message = std::to_string(outcome.value);
      return detail::fail_invocation(self, std::move(error));
    }
    auto value = detail::encode_value<Blob>(make_blob(outcome.value));
    drop_args(self);
    self->complete(std::move(value));
  }
  static void close(void* data) {
    const std::unique_ptr<std::shared_ptr<Desk>> desk(static_cast<std::shared_ptr<Desk>*>(data));
    --ledger->objects[(*desk)->rank];
  }
  static void abort(void* data) {
    ledger->world.at((*static_cast<std::shared_ptr<Desk>*>(data))->rank)
        .clerk->fail_all(**static_cast<std::shared_ptr<Desk>*>(data));
    close(data);
  }

  static constexpr detail::CellOps kCellOps{destroy, typed, encode};
  static constexpr detail::InvocationOps kOps{invoke, encode_args, deps, make_elements, drop_args, true};
};

Invocation* decode_create(const detail::Value& args, std::uint32_t& decoded) {
  auto* made = static_cast<ErrandBlock<CallBase>*>(ErrandBlock<CallBase>::decode(args, decoded));
  made->create = true;
  return made;
}
const auto& task_entry = detail::register_named("sim errand", &ErrandBlock<TaskBase>::decode);
const auto& call_entry = detail::register_named("sim desk call", &ErrandBlock<CallBase>::decode);
const auto& create_entry = detail::register_named("sim desk", &decode_create);

template <>
const detail::FunctionEntry& ErrandBlock<TaskBase>::entry() {
  return task_entry;
}
template <>
const detail::FunctionEntry& ErrandBlock<CallBase>::entry() {
  return call_entry;
}

std::vector<CellRef> cells_of(const std::vector<Ref<Blob>>& refs) {
  std::vector<CellRef> cells;
  for (const auto& ref : refs) cells.push_back(ref.cell());
  return cells;
}

/// Null when the cell is not the result of an errand that this rank made.
const Errand* errand_of(const Cell* cell) {
  if (cell->kind() != detail::CellKind::task && cell->kind() != detail::CellKind::call) return nullptr;
  const auto* function = static_cast<const Invocation*>(cell)->function;
  if (function == &task_entry)
    return &static_cast<const ErrandBlock<TaskBase>*>(static_cast<const TaskBase*>(cell))->errand;
  if (function == &call_entry)
    return &static_cast<const ErrandBlock<CallBase>*>(static_cast<const CallBase*>(cell))->errand;
  return nullptr;
}

/// Keys as the protocol has them: of chores, the ledger's with this bit.
constexpr std::uint64_t kChore = std::uint64_t{1} << 63;

void cancel_in(core::RankCore& core, const CellRef& result, core::CancelOptions options) {
  if (result->ready()) return;
  const auto* errand = errand_of(result.get());
  if (errand == nullptr) return core.cancels().at_owner(result, options);
  const bool force = options.force && errand->chore;
  core.cancels().everywhere(errand->key | (errand->chore ? kChore : 0), options,
                            [&context = core.context(), result, force](bool found) {
                              if (!found) return core::cancel_cells(context, {result});
                              if (force) core::cancel_cells(context, {result}, "nobody waits for its end");
                            });
}

}  // namespace

Desk::Desk(std::uint64_t k) : key(k), instance(++ledger->instances), rank(this_rank()) { ++ledger->objects[rank]; }

Clerk::Clerk(World& world, Rank self, std::uint64_t seed) : world_(world), self_(self), rng_(seed) {}

void Clerk::fail(const Job& job, Errc code, const char* why) {
  auto& context = world_.at(self_).core->context();
  core::post(*context.host, [&context, call = job.call, code, why] {
    detail::fail_invocation(static_cast<Invocation*>(call.get()), core::runtime_error(context, code, why));
  });
}

void Clerk::run(CellRef call, Errand errand, std::vector<Ref<Blob>> deps, std::shared_ptr<Desk> desk) {
  auto job = std::make_shared<Job>(Job{std::move(call), errand, std::move(deps), std::move(desk)});
  if (cancelled_.take(errand.key)) return fail(*job, Errc::cancelled, "it was cancelled before it began here");
  jobs_.push_back(std::move(job));
  pump();
}

void Clerk::pump() {
  for (const auto& job : jobs_) {
    if (job->state != Job::State::queued || (job->desk ? job->desk->busy : tasks_open_ >= kAtOnce)) continue;
    job->state = Job::State::opening;
    if (job->desk)
      job->desk->busy = true;
    else
      ++tasks_open_;
    world_.network.schedule(self_, world_.network.now() + static_cast<Nanos>(rng_.below(5'000)),
                            [this, job] { host().run_aside([this, job] { open(job); }); });
  }
}

/// On a strand. The job is known here until its outcome is on its way: with less (core::Cancels::here) it is taken for
/// one that never began.
void Clerk::open(const std::shared_ptr<Job>& job) {
  work(job);
  jobs_.remove(job);
}

/// What a worker does.
void Clerk::work(const std::shared_ptr<Job>& job) {
  using State = Job::State;
  auto* call = static_cast<Invocation*>(job->call.get());
  std::vector<Outcome> values;
  const auto done = [&] {
    leave(job);
    job->deps.clear();
  };
  for (const auto& dep : job->deps) {
    if (job->state == State::gone) break;
    try {
      values.push_back({false, check_blob(get(dep))});
    } catch (const Exception& error) {
      const bool gone = job->state == State::gone;
      done();
      if (!gone) detail::fail_invocation(call, error.info());
      return;
    }
  }
  if (job->state == State::gone) return done();
  job->state = State::running;
  const auto& errand = job->errand;
  if (job->desk) {
    if (errand.call.actor != job->desk->key) ledger->fail("an errand reached another desk");
    ledger->called(errand.call, job->desk->instance);
  } else {
    ledger->ran(errand.ticket);
  }
  const auto outcome = eval_errand(errand.value, values);
  host().compute(errand.time);
  const bool interrupted = job->interrupted && rng_.chance(0.7);
  detail::Value value;
  if (!outcome.failed && !interrupted) value = detail::encode_value<Blob>(make_blob(outcome.value));
  const bool gone = job->state == State::gone;
  // Before it completes: what waits for that may kill the desk.
  done();
  if (gone) return;
  if (interrupted) return fail(*job, Errc::cancelled, "it was interrupted");
  if (outcome.failed) {
    detail::ErrorInfo error;
    error.code = Errc::task_failed;
    error.message = std::to_string(outcome.value);
    return detail::fail_invocation(call, std::move(error));
  }
  call->invocation->drop_args(call);
  call->complete(std::move(value));
}

void Clerk::leave(const std::shared_ptr<Job>& job) {
  if (job->desk)
    job->desk->busy = false;
  else
    --tasks_open_;
  if (job->state != Job::State::gone) job->state = Job::State::ended;
  pump();
}

bool Clerk::cancel(std::uint64_t key) {
  const auto at = std::find_if(jobs_.begin(), jobs_.end(), [&](const auto& job) { return job->errand.key == key; });
  if (at == jobs_.end()) {
    cancelled_.remember(key);
    return false;
  }
  const auto job = *at;
  if (job->state == Job::State::running || job->state == Job::State::ended) {
    job->interrupted = true;
    return true;
  }
  jobs_.erase(at);
  give_up(*job, Errc::cancelled, "it was cancelled before it began here");
  return true;
}

Bytes Clerk::note() const {
  Bytes note;
  Writer out(note);
  out.blob(cancelled_.write());
  out.blob(chores_.note());
  return note;
}

void Clerk::hear(BytesView note) {
  Reader in(note);
  cancelled_.read(in.blob());
  chores_.hear(in.blob());
}

void Clerk::fail_all(const Desk& desk) {
  std::vector<std::shared_ptr<Job>> lost;
  for (const auto& job : jobs_)
    if (job->desk.get() == &desk && job->state != Job::State::ended) lost.push_back(job);
  for (const auto& job : lost) {
    // What one holds goes with it, and with that may come the question for another.
    if (job->state == Job::State::gone) continue;
    give_up(*job, Errc::actor_died, "the desk was killed");
    jobs_.remove(job);
  }
}

void Clerk::give_up(Job& job, Errc code, const char* why) {
  // One that is opening or running leaves by itself.
  if (job.state == Job::State::queued) job.deps.clear();
  job.state = Job::State::gone;
  fail(job, code, why);
}

Ref<Blob> submit_errand(const TaskOptions* options, Errand errand, const std::vector<Ref<Blob>>& deps) {
  errand.deps = static_cast<std::uint32_t>(deps.size());
  auto* task = new ErrandBlock<TaskBase>(errand, cells_of(deps), &task_entry);
  Ref<Blob> result(CellRef::adopt(task));
  if (options == nullptr)
    detail::submit_task(task, !deps.empty());
  else
    detail::submit_placed(task, *options);
  return result;
}

Ref<detail::Nothing> open_desk(const ActorOptions& options, std::uint64_t key, bool chores) {
  Errand errand;
  errand.key = key;
  errand.chore = chores;
  auto* create = new ErrandBlock<CallBase>(errand, {}, &create_entry);
  create->create = true;
  return Ref<detail::Nothing>(detail::spawn_actor(create, options, "desk"));
}

Ref<Blob> call_desk(const Ref<detail::Nothing>& desk, Errand errand, const std::vector<Ref<Blob>>& deps) {
  errand.deps = static_cast<std::uint32_t>(deps.size());
  auto* call = new ErrandBlock<CallBase>(errand, cells_of(deps), &call_entry);
  Ref<Blob> result(CellRef::adopt(call));
  detail::call_actor(desk.cell(), call, !deps.empty());
  return result;
}

void cancel_errand(const Ref<Blob>& result, bool force) { cancel_in(core::current(), result.cell(), {force, false}); }

void enable_cancelling(core::RankCore& core, Clerk& clerk) {
  core.cancels().here = [&clerk](std::uint64_t key, core::CancelOptions) {
    return (key & kChore) != 0 ? clerk.cancel_chore(key & ~kChore) : clerk.cancel(key);
  };
  core.cancels().result = [&core](const CellRef& result, core::CancelOptions options) {
    cancel_in(core, result, options);
  };
  core.membership().note = [&clerk] { return clerk.note(); };
  core.on_note = [&clerk](BytesView note) { clerk.hear(note); };
}

void cancel_for(Order order, Ref<Blob> result, bool force) {
  ledger->ran(order.ticket);
  cancel_errand(result, force);
}

Ref<Blob> errand_for(Order order, Errand errand) {
  ledger->ran(order.ticket);
  return submit_errand(nullptr, errand, {});
}

Outcome eval_errand(std::uint64_t value, const std::vector<Outcome>& deps) {
  for (const auto& dep : deps) {
    if (dep.failed) return dep;
    value = mix(value, dep.value);
  }
  return eval_leaf(value);
}

}  // namespace trireme::sim
