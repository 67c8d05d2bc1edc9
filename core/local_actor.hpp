#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <utility>

#include "core/context.hpp"
#include "trireme/detail/invocation.hpp"

namespace trireme::detail {

/// An actor in the rank that hosts it: the object, a mailbox, and the work item that runs it.
///
/// The mailbox is one word: kIdle (nobody runs it), kEmpty (somebody runs it, nothing waits), or the newest of a list
/// of items. The push that finds kIdle queues the actor's work, so an actor is in at most one queue and runs on one
/// thread at a time; the runner takes the whole list at once and works it off in order. An idle actor costs its own
/// memory only.
///
/// With max_concurrency > 1 the runner starts each call as work of its own, up to that many.
///
/// Threading: deliver() and kill() from any thread; the rest by the runner.
/// Lifetime:  counted: handles of this rank, the table of hosted actors, and a scheduled run hold it.
struct LocalActor final : scheduler::Work {
  explicit LocalActor(core::Host& host, int max_concurrency);

  void retain() { refs_.fetch_add(1, std::memory_order_relaxed); }
  void release();

  /// Takes the item over.
  void deliver(MailItem* item);
  /// Calls that wait fail with `error`, as do later ones; a running one ends by itself.
  void kill(ErrorInfo error);
  /// The last item: destroys the object after everything before it.
  void end();
  /// A call that the runner left behind (coroutine) has ended.
  void call_ended();
  /// An argument of the item at the head arrived.
  void dep_arrived(MailDeps& deps);
  bool dead() const { return dead_.load(std::memory_order_acquire) != nullptr; }
  const ErrorInfo& death() const { return *dead_.load(std::memory_order_acquire); }
  /// A thread that waits for `cell`, the result of a call in the mailbox, runs the actor in place until it is ready,
  /// when nobody else runs it. What is before the call in the mailbox has to run first anyway.
  void help(Cell* cell);
  /// The constructor threw: as kill(), from the runner.
  void die(ErrorInfo error);

  /// From the runner, when the last handle of the call is about to go: what the call held of this actor goes back with
  /// that of others. A count that both senders and the runner wrote for each call would go from core to core twice a
  /// call.
  void take_back(CallBase& call) {
    if (call.target != this || max_concurrency_ > 1) return;
    call.target = nullptr;
    ++released_;
  }
  /// Before the runner leaves the actor to another one: gives back what take_back() took. The runner holds a count.
  void settle() {
    if (released_ != 0) refs_.fetch_sub(std::exchange(released_, 0), std::memory_order_acq_rel);
  }

  Object object;

 private:
  static constexpr std::uintptr_t kIdle = 0;
  static constexpr std::uintptr_t kEmpty = 1;
  ~LocalActor();
  static void action(scheduler::Work* work, Do what);
  void run(const Cell* until);
  bool go_idle();
  bool run_item(MailItem* item);
  void schedule();
  void destroy_object();

  // The runner's, every item. Senders write the last two words of all, so these lie in other cache lines.
  MailItem* head_ = nullptr;  // items taken, in order
  std::atomic<ErrorInfo*> dead_{nullptr};
  std::uint32_t released_ = 0;  // counts of refs_ that calls which ran held: given back together, see settle()
  const int max_concurrency_;
  Nanos left_ = 0;  // when the last run left items behind because its time was over
  core::Host& host_;

  std::atomic<MailDeps*> stalled_{nullptr};  // the runner waits for these arguments of its head item
  std::atomic<int> running_{0};              // calls under way, with concurrency
  std::atomic<bool> blocked_{false};         // concurrency: the runner left because max_concurrency calls run

 public:
  /// Runs once the object is destroyed (resources go back). Set before the first delivery.
  std::function<void()> on_end;

 private:
  std::atomic<std::uint32_t> refs_{1};
  std::atomic<std::uintptr_t> mail_{kIdle};
};

/// Attaches `item` to arguments that are not here yet; call before deliver(). True when all are here.
/// `need` is called for those that the protocol must bring.
void watch_deps(LocalActor& actor, MailItem* item, std::span<const CellRef> deps,
                const std::function<void(Cell*)>& need);

/// Runs a call now, as its actor's runner does.
MailItem::Ran run_call(CallBase* call, LocalActor& actor);
/// Makes the object: `call` is an invocation of construct<T>.
MailItem* make_construct_item(CallBase* call);

}  // namespace trireme::detail
