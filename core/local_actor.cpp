#include "core/local_actor.hpp"

#include <algorithm>
#include <memory>

#include "base/clock.hpp"

namespace trireme::detail {

namespace {

/// After this time other work of the thread gets its turn; looked at between every so many items. An actor that had to
/// wait longer with items in its mailbox may go on as long as it waited, so that a sink keeps up with long senders
/// instead of filling memory, but no longer than the maximum.
constexpr Nanos kSlice = kMillisecond;
constexpr Nanos kSliceMax = 10 * kMillisecond;
constexpr int kItemsBetweenLooks = 32;

MailItem::Ran run_call_item(MailItem* item, LocalActor& actor) {
  auto* call = static_cast<CallBase*>(item);
  call->runner = &actor;
  call->invocation->invoke(call, actor.object.data);
  if (!call->ready() && !actor.object.pipelined) {
    // The coroutine uses the object: should the actor's owner die, nobody else holds it.
    actor.retain();
    actor.settle();
    // acq_rel: pairs with async_call_ended(); whoever comes second goes on with the actor.
    if (call->async_state.exchange(1, std::memory_order_acq_rel) == 0) return MailItem::Ran::suspended;
    actor.release();
  }
  call->release([&] { actor.take_back(*call); });
  return MailItem::Ran::done;
}

void fail_call(MailItem* item, const ErrorInfo& error) {
  auto* call = static_cast<CallBase*>(item);
  fail_invocation(call, error);
  call->release();
}

struct EndItem final : MailItem {
  EndItem() : MailItem(&kOps) {}
  static Ran run(MailItem* item, LocalActor&) {
    delete static_cast<EndItem*>(item);
    return Ran::done;
  }
  static void fail(MailItem* item, const ErrorInfo&) { delete static_cast<EndItem*>(item); }
  static constexpr Ops kOps{run, fail};
};

struct ConstructItem final : MailItem {
  explicit ConstructItem(CallBase* made) : MailItem(&kOps), call(made) {}
  CallBase* call;
  static Ran run(MailItem* item, LocalActor& actor) {
    const std::unique_ptr<ConstructItem> self(static_cast<ConstructItem*>(item));
    auto* call = self->call;
    call->runner = &actor;
    call->invocation->invoke(call, nullptr);
    if (!call->ready()) {
      actor.retain();
      auto* last = new Constructed;
      last->actor = &actor;
      last->call = call;
      if (call->add_waiter(last)) return Ran::suspended;
      delete last;
      actor.release();
    }
    finish(call, actor);
    return Ran::done;
  }
  /// The end of a constructor that runs in another process.
  struct Constructed final : Waiter {
    Constructed() {
      fire = [](Waiter* waiter) {
        const std::unique_ptr<Constructed> self(static_cast<Constructed*>(waiter));
        finish(self->call, *self->actor);
        self->actor->call_ended();
        self->actor->release();
      };
    }
    LocalActor* actor = nullptr;
    CallBase* call = nullptr;
  };
  static void finish(CallBase* call, LocalActor& actor) {
    if (call->form() == CellForm::error) {
      auto error = call->error();
      error.message =
          "the actor's constructor failed: " + (error.type.empty() ? "" : error.type + ": ") + error.message;
      error.code = Errc::actor_died;
      error.type.clear();
      actor.die(std::move(error));
    } else {
      actor.object = *static_cast<const Object*>(call->typed());
    }
    call->release();
  }
  static void fail(MailItem* item, const ErrorInfo& error) {
    const std::unique_ptr<ConstructItem> self(static_cast<ConstructItem*>(item));
    fail_call(self->call, error);
  }
  static constexpr Ops kOps{run, fail};
};

/// One call of an actor with concurrency, on its own.
struct CallWork final : scheduler::Work {
  CallWork(LocalActor& a, MailItem* i) : Work(&CallWork::action), actor(a), item(i) { actor.retain(); }
  LocalActor& actor;
  MailItem* item;
  static void action(scheduler::Work* work, Do) {
    const std::unique_ptr<CallWork> self(static_cast<CallWork*>(work));
    if (self->item->mail_ops->run(self->item, self->actor) == MailItem::Ran::done) self->actor.call_ended();
    self->actor.release();
  }
};

}  // namespace

const MailItem::Ops kCallMail{run_call_item, fail_call};

MailItem::Ran run_call(CallBase* call, LocalActor& actor) { return run_call_item(call, actor); }

MailItem* make_construct_item(CallBase* call) { return new ConstructItem(call); }

LocalActor::LocalActor(core::Host& host, int max_concurrency)
    : Work(&LocalActor::action), max_concurrency_(max_concurrency), host_(host) {}

LocalActor::~LocalActor() {
  destroy_object();
  delete dead_.load(std::memory_order_acquire);
}

void LocalActor::release() {
  if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

void LocalActor::destroy_object() {
  if (auto* data = std::exchange(object.data, nullptr))
    (dead() && object.abort != nullptr ? object.abort : object.destroy)(data);
  if (on_end) std::exchange(on_end, nullptr)();
}

void LocalActor::schedule() {
  retain();
  if (object.pipelined) {
    run(nullptr);
    return release();
  }
  // release: whoever claims it next sees what the last run left.
  claimed.store(false, std::memory_order_release);
  host_.push(this);
}

void LocalActor::deliver(MailItem* item) {
  auto state = mail_.load(std::memory_order_relaxed);
  do {
    item->mail_next = state <= kEmpty ? nullptr : reinterpret_cast<MailItem*>(state);
    // release: publishes the item to the runner's exchange. acquire: a push that finds kIdle sees what the last run
    // left.
  } while (!mail_.compare_exchange_weak(state, reinterpret_cast<std::uintptr_t>(item), std::memory_order_acq_rel,
                                        std::memory_order_relaxed));
  if (state != kIdle) return;
  // The exchange that found it idle has the last run's writes, `object` among them.
  schedule();
}

void LocalActor::end() { deliver(new EndItem); }

void LocalActor::kill(ErrorInfo error) {
  auto fresh = std::make_unique<ErrorInfo>(std::move(error));
  ErrorInfo* none = nullptr;
  if (dead_.compare_exchange_strong(none, fresh.get(), std::memory_order_acq_rel)) fresh.release();
  // A runner is needed to fail what waits and to destroy the object. An item that waits for arguments no longer
  // matters.
  if (stalled_.exchange(nullptr, std::memory_order_seq_cst) != nullptr) {
    schedule();
    return;
  }
  end();
}

void LocalActor::die(ErrorInfo error) {
  auto fresh = std::make_unique<ErrorInfo>(std::move(error));
  ErrorInfo* none = nullptr;
  if (dead_.compare_exchange_strong(none, fresh.get(), std::memory_order_acq_rel)) fresh.release();
}

void LocalActor::action(scheduler::Work* work, Do what) {
  auto* self = static_cast<LocalActor*>(work);
  if (what == Do::run) self->run(nullptr);
  self->release();
}

void LocalActor::help(Cell* cell) {
  if (max_concurrency_ > 1) return;
  // A queue entry that finds the work claimed is dropped; entries are interchangeable, each schedule() allows one run.
  const bool popped = host_.pop_if_newest(this);
  if (!popped && !host_.claim(this)) return;
  retain();
  host_.begin_in_place();
  run(cell);
  host_.end_in_place();
  if (popped) release();
  release();
}

bool LocalActor::go_idle() {
  settle();
  if (dead() && running_.load(std::memory_order_acquire) == 0) destroy_object();
  std::uintptr_t empty = kEmpty;
  return mail_.compare_exchange_strong(empty, kIdle, std::memory_order_acq_rel);
}

/// False when the runner must leave: the item waits for something, or a coroutine is under way.
bool LocalActor::run_item(MailItem* item) {
  if (auto* error = dead_.load(std::memory_order_acquire)) {
    item->mail_ops->fail(item, *error);
    return true;
  }
  if (max_concurrency_ > 1 && object.data != nullptr) {
    running_.fetch_add(1, std::memory_order_acq_rel);
    auto* work = new CallWork(*this, item);
    host_.push(work);
    return true;
  }
  return item->mail_ops->run(item, *this) == MailItem::Ran::done;
}

void LocalActor::run(const Cell* until) {
  Nanos slice_end = 0;
  for (int done = 0;;) {
    bool leave = false;
    if (until != nullptr && until->ready()) {
      if (head_ == nullptr && go_idle()) return;
      leave = true;
    }
    if (done == kItemsBetweenLooks) {
      done = 0;
      const Nanos now = SystemClock::read();
      if (slice_end == 0) slice_end = now + std::clamp(left_ == 0 ? 0 : now - left_, kSlice, kSliceMax);
      leave |= now >= slice_end;
    }
    if (leave) {
      left_ = slice_end == 0 ? 0 : SystemClock::read();
      settle();
      retain();
      if (object.pipelined) {
        // Its items only start something: no compute thread is needed for the rest either.
        return core::post(host_, [this] {
          run(nullptr);
          release();
        });
      }
      claimed.store(false, std::memory_order_release);
      return host_.push_back_of_line(this);
    }
    if (head_ == nullptr) {
      // acquire: the items' content. The list is newest first.
      auto list = mail_.exchange(kEmpty, std::memory_order_acq_rel);
      if (list <= kEmpty) {
        if (go_idle()) return;
        continue;
      }
      for (auto* item = reinterpret_cast<MailItem*>(list); item != nullptr;) {
        auto* next = item->mail_next;
        item->mail_next = head_;
        head_ = item;
        item = next;
      }
    }
    auto* item = head_;
    const bool is_end = item->mail_ops == &EndItem::kOps;
    if (auto* deps = item->mail_deps.get();
        deps != nullptr && deps->left.load(std::memory_order_acquire) != 0 && !dead()) {
      settle();
      // seq_cst on both sides: either we see the last argument, or dep_arrived() (or kill()) sees that we stalled.
      stalled_.store(deps, std::memory_order_seq_cst);
      if (deps->left.load(std::memory_order_seq_cst) != 0 && !dead()) return;
      if (stalled_.exchange(nullptr, std::memory_order_seq_cst) != deps) return;  // somebody else took it up
    }
    if (max_concurrency_ > 1 && object.data != nullptr && !dead()) {
      const bool full = running_.load(std::memory_order_seq_cst) >= (is_end ? 1 : max_concurrency_);
      if (full) {
        blocked_.store(true, std::memory_order_seq_cst);
        // Either we see that a call ended, or it sees that we are blocked.
        if (running_.load(std::memory_order_seq_cst) >= (is_end ? 1 : max_concurrency_)) return;
        if (!blocked_.exchange(false, std::memory_order_seq_cst)) return;
      }
    }
    head_ = item->mail_next;
    if (is_end) {
      item->mail_ops->run(item, *this);
      if (running_.load(std::memory_order_acquire) == 0) destroy_object();
      continue;
    }
    if (!run_item(item)) return;
    ++done;
  }
}

void LocalActor::call_ended() {
  if (max_concurrency_ > 1) {
    // The last call of a dead actor sees to the object.
    if (running_.fetch_sub(1, std::memory_order_seq_cst) == 1 && dead()) end();
    if (blocked_.exchange(false, std::memory_order_seq_cst)) schedule();
    return;
  }
  schedule();
}

void LocalActor::dep_arrived(MailDeps& deps) {
  if (deps.left.fetch_sub(1, std::memory_order_seq_cst) != 1) return;
  auto* expected = &deps;
  if (stalled_.compare_exchange_strong(expected, nullptr, std::memory_order_seq_cst)) schedule();
}

void watch_deps(LocalActor& actor, MailItem* item, std::span<const CellRef> deps,
                const std::function<void(Cell*)>& need) {
  struct DepWaiter final : Waiter {
    LocalActor* actor = nullptr;
    std::shared_ptr<MailDeps> deps;
  };
  for (const auto& dep : deps) {
    if (dep->ready()) continue;
    if (!item->mail_deps) item->mail_deps = std::make_shared<MailDeps>();
    auto* waiter = new DepWaiter;
    waiter->actor = &actor;
    waiter->deps = item->mail_deps;
    waiter->fire = [](Waiter* w) {
      const std::unique_ptr<DepWaiter> self(static_cast<DepWaiter*>(w));
      self->actor->dep_arrived(*self->deps);
      self->actor->release();
    };
    // The actor was killed, its items failed, and nobody asks for the argument any more.
    waiter->drop = [](Waiter* w) {
      const std::unique_ptr<DepWaiter> self(static_cast<DepWaiter*>(w));
      self->actor->release();
    };
    actor.retain();
    item->mail_deps->left.fetch_add(1, std::memory_order_relaxed);
    if (!dep->add_waiter(waiter)) {
      delete waiter;
      actor.release();
      item->mail_deps->left.fetch_sub(1, std::memory_order_relaxed);
      continue;
    }
    need(dep.get());
  }
}

void release_target(CallBase* call) noexcept {
  if (call->target != nullptr) call->target->release();
}

void async_call_ended(Cell* cell) {
  if (cell->kind() != CellKind::call) return;
  auto* call = static_cast<CallBase*>(cell);
  // acq_rel: pairs with run_call().
  if (call->async_state.exchange(2, std::memory_order_acq_rel) != 1) return;
  auto* runner = call->runner;
  call->release();
  if (runner == nullptr) return;
  runner->call_ended();
  runner->release();
}

}  // namespace trireme::detail
