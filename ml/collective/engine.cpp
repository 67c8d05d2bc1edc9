#include "ml/collective/engine.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <set>

namespace trireme::ml::detail {
namespace {

constexpr Nanos kLeaveGrace = 2 * kSecond;
constexpr Nanos kSpin = 250 * kMicrosecond;

bool is_message(Kind kind) { return kind == Kind::send || kind == Kind::recv; }

}  // namespace

std::shared_ptr<Engine> Engine::create(std::uint32_t rank, std::uint32_t size, const Exchange& exchange,
                                       CommunicatorOptions options) {
  if (size == 0 || rank >= size || size >= kMembersMax)
    throw CollectiveError(Errc::invalid_argument, -1,
                          fmt::format("group '{}': member {} of {} makes no sense", options.name, rank, size));
  auto engine = std::make_shared<Engine>(std::move(options));
  Fabric& fabric = engine->fabric_;
  fabric.rank = rank;
  fabric.size = size;
  if (auto formed = form(fabric, exchange, engine->options_); !formed.ok())
    throw CollectiveError(formed.error().code, -1, formed.error().message);
  Engine* self = engine.get();
  const auto broke = [self](Breakage::Cause cause, std::uint32_t member) {
    self->fabric_.segment->raise({cause, member});
  };
  fabric.mailbox.on_mismatch = [self, broke](std::uint32_t peer, std::size_t wanted, std::size_t came) {
    self->reason_ = fmt::format("it sent {} bytes where {} were expected", came, wanted);
    broke(Breakage::Cause::disagreement, peer);
  };
  fabric.links->on_corrupt = [self, broke](std::uint32_t member) {
    self->reason_ = "it wrote into shared memory what no member writes";
    broke(Breakage::Cause::unreachable, member);
  };
  if (fabric.net) {
    fabric.net->on_lost = [self, broke](std::uint32_t member, std::string why) {
      if (self->fabric_.net->left(member)) return;
      self->reason_ = std::move(why);
      broke(Breakage::Cause::unreachable, member);
    };
    fabric.net->on_broken = [self](Breakage breakage) { self->fabric_.segment->raise(breakage); };
  }
  engine->spin_ = fabric.locals <= fabric.cores ? kSpin : 0;
  for (const std::uint32_t member : fabric.nodes[fabric.node]) {
    if (member == rank || fabric.places[member].pid == fabric.places[rank].pid) continue;
    if (auto watched = watch_process(fabric.places[member].pid, engine, member); !watched.ok())
      throw CollectiveError(watched.error().code, static_cast<int>(member), watched.error().message);
  }
  return engine;
}

Engine::~Engine() { close(); }

void Engine::check(const Operation& operation) const {
  const auto wrong = [&](const std::string& text) {
    throw CollectiveError(Errc::invalid_argument, -1, fmt::format("group '{}': {}", options_.name, text));
  };
  if (static_cast<unsigned>(operation.type) >= kDTypes || static_cast<unsigned>(operation.op) >= kReduceOps)
    wrong("no such element type or reduction");
  if (operation.peer >= size()) wrong(fmt::format("there is no member {}, the group has {}", operation.peer, size()));
  if (is_message(operation.kind) && operation.peer == rank()) wrong("a member cannot send to or receive from itself");
  if (operation.tag > 0x7FFFFFFFU) wrong("tags are below 2^31");
  if (operation.count != 0 && (operation.in == nullptr || operation.out == nullptr)) wrong("a buffer is null");
}

void Engine::refuse() const {
  const std::lock_guard lock(mutex_);
  if (failure_) throw *failure_;
  throw CollectiveError(Errc::shutdown, -1, fmt::format("group '{}' was destroyed", options_.name));
}

bool Engine::try_drive() {
  // Sequentially consistent, with waiters_: whoever stops driving sees who waits for it, or is seen to have stopped.
  return !driving_.exchange(true, std::memory_order_seq_cst);
}

void Engine::stop_driving() {
  driving_.store(false, std::memory_order_seq_cst);
  if (waiters_.load(std::memory_order_seq_cst) == 0 && unfinished_.load(std::memory_order_seq_cst) == 0) return;
  const std::lock_guard lock(mutex_);
  changed_.notify_all();
}

void Engine::kick() const { fabric_.segment->wake(fabric_.local); }

Nanos Engine::deadline_from_now() const {
  const Nanos now = SystemClock::read();
  return options_.timeout_ns > kForever - now ? kForever : now + options_.timeout_ns;
}

PendingPtr Engine::submit(const Operation& operation) {
  auto pending = std::make_shared<Pending>();
  pending->operation = operation;
  pending->deadline = deadline_from_now();
  {
    const std::lock_guard lock(mutex_);
    if (!failure_ && !closing_) {
      submissions_.push_back(pending);
      unfinished_.fetch_add(1, std::memory_order_seq_cst);
      submitted_.store(true, std::memory_order_seq_cst);  // pairs with admit()
      return pending;
    }
  }
  refuse();
}

void Engine::run(const Operation& operation) {
  check(operation);
  if (try_drive()) {
    if (unfinished_.load(std::memory_order_seq_cst) == 0 && !failed_.load(std::memory_order_acquire)) {
      if (run_directly(operation)) {
        stop_driving();
        if (failed_.load(std::memory_order_acquire)) refuse();
        return;
      }
      if (!is_message(operation.kind)) return run_alone(operation);
    }
    stop_driving();
  }
  const auto pending = submit(operation);
  wait(*pending);
}

/// Nothing else is under way and the caller is the driver: no submission, no waiting for another thread.
void Engine::run_alone(const Operation& operation) {
  const auto pending = std::make_shared<Pending>();
  pending->operation = operation;
  pending->deadline = deadline_from_now();
  unfinished_.fetch_add(1, std::memory_order_seq_cst);
  queue_.push_back(pending);
  advance();
  drive([&] { return pending->done.load(std::memory_order_relaxed); });
  stop_driving();
  if (pending->failure) throw *pending->failure;
}

PendingPtr Engine::start(const Operation& operation) {
  check(operation);
  auto pending = submit(operation);
  {
    const std::lock_guard lock(mutex_);
    if (!helper_.joinable()) {
      sigset_t all;
      sigset_t before;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, &before);
      helper_ = std::thread([this] { help(); });
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
    changed_.notify_all();
  }
  kick();
  return pending;
}

void Engine::wait(const Pending& pending) {
  Lock lock(mutex_);
  waiters_.fetch_add(1, std::memory_order_seq_cst);
  // acquire: the failure was written before.
  while (!pending.done.load(std::memory_order_acquire)) {
    if (try_drive()) {
      lock.unlock();
      drive([&] { return pending.done.load(std::memory_order_relaxed); });
      stop_driving();
      lock.lock();
      continue;
    }
    kick();  // the helper yields; another waiter takes the submission in
    changed_.wait(lock, [&] {
      return pending.done.load(std::memory_order_acquire) || !driving_.load(std::memory_order_seq_cst);
    });
  }
  waiters_.fetch_sub(1, std::memory_order_seq_cst);
  changed_.notify_all();
  lock.unlock();
  if (pending.failure) throw *pending.failure;
}

/// The helper thread: drives what was started without blocking while nobody else does.
void Engine::help() {
  ::pthread_setname_np(::pthread_self(), "trireme-group");
  Lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] {
      const bool work = unfinished_.load(std::memory_order_seq_cst) != 0 || alarm_.load(std::memory_order_acquire);
      return closing_ ||
             (work && waiters_.load(std::memory_order_seq_cst) == 0 && !driving_.load(std::memory_order_seq_cst));
    });
    if (closing_) return;
    if (!try_drive()) continue;
    lock.unlock();
    drive([&] {
      return (unfinished_.load(std::memory_order_seq_cst) == 0 && !alarm_.load(std::memory_order_acquire)) ||
             waiters_.load(std::memory_order_seq_cst) != 0 || closing_.load(std::memory_order_seq_cst);
    });
    driving_.store(false, std::memory_order_seq_cst);
    lock.lock();
    changed_.notify_all();
  }
}

/// On the watching thread.
void Engine::on_death(std::uint32_t member) {
  if (fabric_.segment->bell(fabric_.places[member].local).left.load(std::memory_order_acquire) != 0) return;
  fabric_.segment->raise({Breakage::Cause::died, member});
  if (!fabric_.net) return;
  // Members on other nodes learn of it from here, also when this process is busy elsewhere.
  alarm_.store(true, std::memory_order_release);
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return;
    if (!helper_.joinable()) helper_ = std::thread([this] { help(); });
    changed_.notify_all();
  }
  kick();
}

void Engine::close() {
  if (!fabric_.segment) return;  // never formed
  std::thread helper;
  {
    Lock lock(mutex_);
    if (closing_.exchange(true)) return;
    if (!failure_)
      failure_ = CollectiveError(Errc::shutdown, -1, fmt::format("group '{}' was destroyed", options_.name));
    helper = std::move(helper_);
    changed_.notify_all();
  }
  failed_.store(true, std::memory_order_release);
  kick();
  if (helper.joinable()) helper.join();
  while (!try_drive()) {  // somebody waits in another thread; their operation fails in look_for_trouble()
    kick();
    ::sched_yield();
  }
  if (fabric_.net && fabric_.segment->breakage().cause == Breakage::Cause::none) fabric_.net->leave(kLeaveGrace);
  fabric_.mailbox.clear();
  fabric_.links->clear();
  if (fabric_.net) fabric_.net->abort();
  admit();
  for (const auto& pending : std::exchange(messages_, {})) finish(pending);
  if (current_) finish(std::exchange(current_, nullptr));
  for (const auto& pending : std::exchange(queue_, {})) finish(pending);
  task_ = {};
  fabric_.segment->bell(fabric_.local).left.store(1, std::memory_order_seq_cst);  // pairs with look_for_trouble()
  fabric_.segment->wake_all();
  stop_driving();
}

std::string Engine::describe() const {
  std::set<std::string> hosts;
  for (const auto& place : fabric_.places) hosts.insert(place.host);
  return fmt::format("group '{}': member {} of {} on {} node(s) ({}), shared memory among {}{}", options_.name, rank(),
                     size(), fabric_.nodes.size(), fmt::join(hosts, ", "), fabric_.locals,
                     fabric_.net ? ", UCX between nodes" : "");
}

std::string Engine::broken() const {
  const std::lock_guard lock(mutex_);
  if (failure_) return failure_->what();
  const auto breakage = fabric_.segment->breakage();
  return breakage.cause == Breakage::Cause::none ? std::string() : explain(breakage);
}

}  // namespace trireme::ml::detail
