#include <fmt/format.h>

#include <cstring>

#include "core/actors.hpp"
#include "core/current.hpp"
#include "core/decode_call.hpp"
#include "core/rank_core.hpp"
#include "trireme/actor.hpp"
#include "trireme/async.hpp"

namespace trireme::core {

namespace {
thread_local RankCore* thread_core = nullptr;
std::atomic<RankCore*> process_core{nullptr};
}  // namespace

RankCore* current_or_null() {
  return thread_core != nullptr ? thread_core : process_core.load(std::memory_order_acquire);
}

RankCore& current() {
  auto* core = current_or_null();
  if (core == nullptr) {
    detail::ErrorInfo info;
    info.code = Errc::unavailable;
    info.message =
        "there is no runtime in this process: make a trireme::Runtime first, and use references only while it lives";
    throw Exception(info);
  }
  return *core;
}

RankCore* set_current(RankCore* core) { return std::exchange(thread_core, core); }
void set_process_core(RankCore* core) { process_core.store(core, std::memory_order_release); }

namespace {

/// Blocks until `start` has called what it was given, under the token.
template <class F>
void ask_protocol(RankCore& core, F start) {
  scheduler::WaitPoint point;
  post(*core.context().host, [&] { start([&point] { point.signal(); }); });
  core.context().host->wait(point, kForever);
}

bool ordinary(const Resources& resources, const Placement& placement, double default_cpus) {
  return placement.kind == Placement::Kind::automatic && placement.labels.empty() &&
         resources.cpus.value_or(default_cpus) == default_cpus && resources.gpus == 0 && resources.memory == 0 &&
         resources.custom.empty();
}

}  // namespace

}  // namespace trireme::core

namespace trireme {

Topology topology() {
  auto& core = core::current();
  Topology report;
  core::ask_protocol(core, [&](auto done) {
    if (core.describe) report = core.describe();
    done();
  });
  return report;
}

}  // namespace trireme

namespace trireme::detail {

using core::current;

void task_action(scheduler::Work* work, scheduler::Work::Do what) {
  auto* task = static_cast<TaskBase*>(work);
  if (what == scheduler::Work::Do::run) task->invocation->invoke(task, nullptr);
  task->release();
}

void free_extra(Invocation::Extra* extra) noexcept { delete extra; }

void attach_elements(Invocation* call) {
  if (call->extra == nullptr) call->extra = new Invocation::Extra;
  call->extra->elements = call->invocation->make_elements(call);
}

void fail_invocation(Invocation* call, ErrorInfo error) {
  if (call->extra != nullptr) {
    for (const auto& element : call->extra->elements) {
      if (!element->ready()) element->complete_error(error);
    }
  }
  call->invocation->drop_args(call);
  call->complete_error(std::move(error));
}

namespace {
/// The runtime, or without one an exception, with the reference that was to be handed over given up.
core::RankCore& current_or_release(Invocation* call) {
  if (core::current_or_null() == nullptr) call->release();
  return current();
}
}  // namespace

void submit_task(TaskBase* task, bool deps) { current_or_release(task).submit(task, deps); }

void submit_placed(TaskBase* task, const TaskOptions& options) {
  auto& core = current_or_release(task);
  if (task->extra == nullptr) task->extra = new Invocation::Extra;
  task->extra->options = options;
  if (core::ordinary(options.resources, options.placement, 1)) return core.submit(task, true);
  task->extra->placed = true;
  task->claimed.store(true, std::memory_order_relaxed);
  core::post(*core.context().host, [&core, task] { core.tasks().submit_placed(task); });
}

void on_ready(Cell* cell, Waiter* waiter) {
  // Once it is added, the waiter may fire on another thread and drop what kept the cell (a coroutine that goes on).
  const auto keep_alive = CellRef::share(cell);
  if (!cell->add_waiter(waiter)) return waiter->fire(waiter);
  // After the waiter is in place, see Refs::make_entry().
  if (!cell->exported()) return;
  auto& core = current();
  core::post(*core.context().host, [&core, keep = CellRef::share(cell)] { core.refs().need(keep.get()); });
}

namespace {

/// Runs here what makes the value, if nobody has begun that and there is stack for it: deeper than that, an awaited
/// task starts on a stack of its own. Whether the cell is ready now.
bool run_in_place(core::Host& host, Cell* cell) {
  TRIREME_CHECK(!host.holds_token(), "a blocking get in protocol code");
  if (!host.has_stack()) return false;
  if (cell->kind() == CellKind::task) {
    auto* task = static_cast<TaskBase*>(cell);
    if (host.pop_if_newest(task)) {
      host.begin_in_place();
      task->invocation->invoke(task, nullptr);
      host.end_in_place();
      task->release();
    } else if (host.claim(task)) {
      host.begin_in_place();
      task->invocation->invoke(task, nullptr);
      host.end_in_place();
    }
  } else if (cell->kind() == CellKind::call) {
    if (auto* target = static_cast<CallBase*>(cell)->target) target->help(cell);
  }
  return cell->ready();
}

/// Has what lies in other ranks fetched, now or once it is known where it lies.
void want(std::span<Cell* const> cells) {
  auto& core = current();
  if (core.context().size == 1) return;
  std::vector<CellRef> elsewhere;
  for (auto* cell : cells) {
    // In this order, see Refs::make_entry().
    if (cell->want() && cell->exported()) elsewhere.push_back(CellRef::share(cell));
  }
  if (elsewhere.empty()) return;
  core::post(*core.context().host, [&core, elsewhere = std::move(elsewhere)] {
    for (const auto& each : elsewhere) core.refs().need(each.get());
  });
}

}  // namespace

bool wait_ready(Cell* cell, std::int64_t deadline_ns) {
  if (cell->ready()) return true;
  auto& host = *current().context().host;
  if (deadline_ns == kForever) {
    if (run_in_place(host, cell)) return true;
    struct PointWaiter final : Waiter {
      scheduler::WaitPoint point;
    } waiter;
    waiter.fire = [](Waiter* w) { static_cast<PointWaiter*>(w)->point.signal(); };
    on_ready(cell, &waiter);
    host.wait(waiter.point, kForever);
    return true;
  }
  Cell* cells[] = {cell};
  wait_some(cells, 1, deadline_ns);
  return cell->ready();
}

bool InOrder::wait_next() {
  auto* cell = cells_.front();
  cells_ = cells_.subspan(1);
  if (cell->ready()) return true;
  if (!all_wanted_) {
    if (deadline_ns_ == kForever && run_in_place(*current().context().host, cell)) return true;
    all_wanted_ = true;
    want(cells_);
  }
  return wait_ready(cell, deadline_ns_);
}

void wait_some(std::span<Cell* const> cells, std::size_t count, std::int64_t deadline_ns) {
  auto& host = *current().context().host;
  TRIREME_CHECK(!host.holds_token(), "a blocking wait in protocol code");
  count = std::min(count, cells.size());
  std::size_t ready = 0;
  for (const auto* cell : cells) ready += cell->ready() ? 1U : 0U;
  if (ready >= count) return;
  struct Group {
    scheduler::WaitPoint point;
    std::atomic<std::int64_t> left{0};
  };
  struct GroupWaiter final : Waiter {
    std::shared_ptr<Group> group;
  };
  // The group outlives a deadline: cells that become ready later still fire.
  auto group = std::make_shared<Group>();
  group->left.store(static_cast<std::int64_t>(count), std::memory_order_relaxed);
  for (auto* cell : cells) {
    auto* waiter = new GroupWaiter;
    waiter->group = group;
    waiter->fire = [](Waiter* w) {
      const std::unique_ptr<GroupWaiter> self(static_cast<GroupWaiter*>(w));
      if (self->group->left.fetch_sub(1, std::memory_order_acq_rel) == 1) self->group->point.signal();
    };
    waiter->drop = [](Waiter* w) { delete static_cast<GroupWaiter*>(w); };
    on_ready(cell, waiter);
  }
  host.wait(group->point, deadline_ns);
}

void require_ref(const CellRef& cell) {
  if (cell) return;
  ErrorInfo info;
  info.code = Errc::invalid_argument;
  info.message = "an empty Ref was used: it was default-constructed or moved from";
  throw Exception(info);
}

std::int64_t deadline_after(Duration timeout) {
  const auto now = SystemClock::read();
  return timeout.count() >= kForever - now ? kForever : now + std::max<std::int64_t>(timeout.count(), 0);
}

void throw_timeout(std::int64_t waited_ns) {
  ErrorInfo info;
  info.code = Errc::timeout;
  info.message = fmt::format("the value was not there within {} ms", static_cast<double>(waited_ns) / 1e6);
  throw TimeoutError(info);
}

void throw_decode_error(const std::type_info& wanted, std::size_t bytes) {
  ErrorInfo info;
  info.code = Errc::type_mismatch;
  info.message = fmt::format(
      "a value of {} bytes does not decode to {}, the type of its reference: it was made as another "
      "type, or by a rank that runs another build",
      bytes, core::type_text(wanted));
  throw Exception(info);
}

void resume_later(std::coroutine_handle<> handle) {
  struct Resume final : scheduler::Work {
    explicit Resume(std::coroutine_handle<> h) : Work(&Resume::act), handle(h) {}
    std::coroutine_handle<> handle;
    static void act(scheduler::Work* work, Do) {
      const std::unique_ptr<Resume> self(static_cast<Resume*>(work));
      self->handle.resume();
    }
  };
  current().context().host->push(new Resume(handle));
}

CellRef spawn_actor(CallBase* construct, const ActorOptions& options, const char* type) {
  // The construction's own cell is nobody's result.
  const auto own = CellRef::adopt(construct);
  auto& core = current_or_release(construct);
  auto& host = *core.context().host;
  if (options.max_concurrency < 1) {
    construct->release();
    ErrorInfo info;
    info.code = Errc::invalid_argument;
    info.message = fmt::format("max_concurrency is {}, at least 1 is needed", options.max_concurrency);
    throw Exception(info);
  }
  std::vector<Cell*> deps(construct->invocation->deps(construct, nullptr));
  construct->invocation->deps(construct, deps.data());
  bool deps_ready = true;
  for (const auto* dep : deps) deps_ready = deps_ready && dep->ready();
  const auto& placement = options.placement;
  const bool here =
      core.context().size == 1 || (placement.kind == Placement::Kind::rank && placement.rank == core.context().self);
  Placement anywhere;
  if (here && deps_ready && options.name.empty() && !options.detached &&
      core::ordinary(options.resources, anywhere, 0) && placement.labels.empty() &&
      (placement.kind == Placement::Kind::automatic || placement.kind == Placement::Kind::rank)) {
    return core.actors().spawn_here(construct, options.max_concurrency);
  }
  if (options.name.empty()) {
    auto ref = CellRef::adopt(new ActorCell);
    core::post(host, [&core, keep = ref, construct, options] {
      auto* actor = static_cast<ActorCell*>(keep.get());
      if (options.detached) core.actors().detach(actor);
      core.actors().spawn_placed(actor, construct, options);
    });
    return ref;
  }
  CellRef ref;
  std::unique_ptr<ErrorInfo> refused;
  scheduler::WaitPoint point;
  core.actors().spawn_named(core.names(), construct, options, type, [&](CellRef actor, const ErrorInfo* error) {
    if (error != nullptr) refused = std::make_unique<ErrorInfo>(*error);
    ref = std::move(actor);
    point.signal();
  });
  host.wait(point, kForever);
  if (refused) throw_error(*refused);
  return ref;
}

namespace {

/// A handle that came as an argument may be anything: its sender said that it is an actor's.
void require_actor(const CellRef& cell) {
  require_ref(cell);
  if (cell->kind() == CellKind::actor) return;
  ErrorInfo info;
  info.code = Errc::type_mismatch;
  info.message = "a handle was used as an actor's, and what it refers to is none: whoever sent it, sent something else";
  throw Exception(info);
}

}  // namespace

void call_actor(const CellRef& actor, CallBase* call, bool deps) {
  if (!actor || actor->kind() != CellKind::actor) {
    call->release();
    require_actor(actor);
  }
  auto& core = current_or_release(call);
  std::vector<CellRef> refs;
  if (deps) {
    std::vector<Cell*> cells(call->invocation->deps(call, nullptr));
    call->invocation->deps(call, cells.data());
    for (auto* cell : cells) refs.push_back(CellRef::share(cell));
  }
  core.actors().call(static_cast<ActorCell*>(actor.get()), call, refs);
}

void kill_actor(const CellRef& actor) {
  require_actor(actor);
  auto& core = current();
  core::post(*core.context().host, [&core, actor] { core.actors().kill(static_cast<ActorCell*>(actor.get())); });
}

CellRef find_actor(const std::string& name, const char* type) {
  auto& core = current();
  CellRef found;
  std::unique_ptr<ErrorInfo> failed;
  core::ask_protocol(core, [&](auto done) {
    core.names().get(name, type, [&, done](CellRef actor, const ErrorInfo* error) {
      if (error != nullptr) failed = std::make_unique<ErrorInfo>(*error);
      found = std::move(actor);
      done();
    });
  });
  if (failed) throw_error(*failed);
  return found;
}

Rank actor_rank(const CellRef& actor) {
  require_actor(actor);
  wait_ready(actor.get(), kForever);
  if (actor->form() == CellForm::error) throw_error(actor->error());
  Rank rank = kNoRank;
  std::memcpy(&rank, actor->value().view().data(), sizeof rank);
  return rank;
}

}  // namespace trireme::detail
