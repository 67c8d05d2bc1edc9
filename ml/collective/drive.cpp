// The driver's part of Engine, and which algorithm an operation takes.
#include <fmt/format.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "ml/collective/engine.hpp"
#include "ml/collective/fold.hpp"
#include "ml/collective/net_ops.hpp"
#include "ml/collective/node_ops.hpp"
#include "ml/collective/quiet.hpp"

namespace trireme::ml::detail {
namespace {

constexpr Nanos kSpreadGrace = kSecond;  // to tell other nodes that the group broke
constexpr int kYields = 8;               // before sleeping, where members share cores

std::string_view name_of(Kind kind) {
  constexpr std::string_view kNames[] = {"all_reduce", "reduce",  "broadcast", "all_gather", "reduce_scatter",
                                         "all_to_all", "barrier", "send",      "recv"};
  return kNames[static_cast<unsigned>(kind)];
}

}  // namespace

std::uint64_t signature_of(const Operation& operation) {
  const auto kind = static_cast<std::uint64_t>(operation.kind) + 1;
  if (operation.kind == Kind::barrier) return kind;
  return kind | static_cast<std::uint64_t>(operation.type) << 4U | static_cast<std::uint64_t>(operation.op) << 8U |
         std::uint64_t{operation.peer & 0xFFFFFU} << 11U | (operation.count + 1) << 31U;
}

/// Advances everything until `reached`. The caller is the driver.
void Engine::drive(Condition reached) {
  Quiet quiet(spin_);
  int yields = 0;
  while (!reached()) {
    if (step()) {
      quiet = Quiet(spin_);
      yields = 0;
    } else if (quiet.goes_on()) {
      if (!fabric_.net) pause();  // a look at UCX is a system call, or several lines of memory: pause enough
    } else if (spin_ == 0 && yields < kYields) {
      ++yields;
      ::sched_yield();
    } else {
      sleep(reached);
      quiet = Quiet(spin_);
      yields = 0;
    }
  }
}

bool Engine::step() {
  bool moved = admit();
  if (moved) advance();  // its first messages go before anything is looked for
  if (fabric_.locals > 1 && !failed_.load(std::memory_order_relaxed)) moved |= fabric_.links->progress();
  if (fabric_.net) moved |= fabric_.net->progress();
  moved |= advance();
  return moved;
}

bool Engine::admit() {
  if (!submitted_.load(std::memory_order_seq_cst)) return false;  // pairs with submit()
  std::deque<PendingPtr> fresh;
  {
    const std::lock_guard lock(mutex_);
    submitted_.store(false, std::memory_order_relaxed);
    fresh.swap(submissions_);
  }
  for (auto& pending : fresh) {
    if (pending->operation.kind == Kind::send || pending->operation.kind == Kind::recv)
      post(pending);
    else
      queue_.push_back(std::move(pending));
  }
  return true;
}

void Engine::post(const PendingPtr& pending) {
  const Operation& operation = pending->operation;
  const bool sends = operation.kind == Kind::send;
  messages_.push_back(pending);
  if (failed_.load(std::memory_order_relaxed)) return;  // fails with the others
  const auto number = numbers_[sends ? 0 : 1][std::uint64_t{operation.peer} << 32U | operation.tag]++;
  const Key key = user_key(operation.tag, number);
  const std::size_t bytes = operation.count * bytes_of(operation.type);
  auto done = [this, pending] {
    std::erase(messages_, pending);
    finish(pending);
  };
  if (sends)
    fabric_.post_send(operation.peer, key, operation.in, bytes, std::move(done));
  else
    fabric_.post_receive(operation.peer, key, operation.out, bytes, std::move(done));
}

bool Engine::advance() {
  bool moved = false;
  while (direct_ == nullptr && !failed_.load(std::memory_order_relaxed)) {
    if (!current_) {
      if (queue_.empty()) break;
      current_ = std::move(queue_.front());
      queue_.pop_front();
      ++fabric_.operation;
      fabric_.signature = signature_of(current_->operation);
      task_ = algorithm(current_->operation);
      task_.start();
    } else {
      const Suspended wait = fabric_.suspended;
      if (!wait.ready(wait.state)) break;
      fabric_.suspended = {};
      wait.handle.resume();
    }
    moved = true;
    if (!task_.done()) continue;
    task_ = {};
    finish(std::exchange(current_, nullptr));
  }
  return moved;
}

void Engine::finish(const PendingPtr& pending) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_) pending->failure = failure_;
    pending->done.store(true, std::memory_order_release);  // pairs with wait()
    unfinished_.fetch_sub(1, std::memory_order_seq_cst);
  }
  if (waiters_.load(std::memory_order_seq_cst) != 0) changed_.notify_all();
}

Task Engine::algorithm(Operation o) {
  if (!fabric_.one_node()) {
    co_await across_nodes(o);
    co_return;
  }
  const std::size_t bytes = o.count * bytes_of(o.type);
  const unsigned mean_of = divisor(o);
  switch (o.kind) {
    case Kind::all_reduce:
      co_await node_reduce(fabric_, o.in, o.out, o.count, o.type, o.op, mean_of, kEverybody);
      break;
    case Kind::reduce:
      co_await node_reduce(fabric_, o.in, o.out, o.count, o.type, o.op, mean_of, o.peer);
      break;
    case Kind::broadcast:
      co_await node_broadcast(fabric_, o.out, bytes, o.peer);
      break;
    case Kind::all_gather:
      co_await node_all_gather(fabric_, o.in, o.out, bytes);
      break;
    case Kind::reduce_scatter:
      co_await node_reduce_scatter(fabric_, o.in, o.out, o.count, o.type, o.op, mean_of);
      break;
    case Kind::all_to_all:
      co_await node_all_to_all(fabric_, o.in, o.out, bytes);
      break;
    default:
      co_await node_barrier(fabric_);
  }
}

/// Members of a node combine in shared memory first, and one of each node talks to the others, where that changes
/// nothing; what has an order, or a part for every member, goes from member to member.
Task Engine::across_nodes(Operation o) {
  const std::size_t bytes = o.count * bytes_of(o.type);
  const unsigned mean_of = divisor(o);
  std::vector<std::uint32_t> everybody(size());
  std::iota(everybody.begin(), everybody.end(), 0U);
  const Team all{everybody, rank(), 0};
  std::vector<std::uint32_t> heads;
  for (const auto& members : fabric_.nodes) heads.push_back(members.front());
  const Team leaders{heads, fabric_.node, kLeaders};
  const bool shares = fabric_.locals > 1;
  switch (o.kind) {
    case Kind::all_reduce:
      if (options_.fixed_order) {
        co_await ordered_all_reduce(fabric_, all, o.out, o.count, o.type, o.op, mean_of);
        break;
      }
      if (shares) co_await node_reduce(fabric_, o.in, o.out, o.count, o.type, o.op, 0, 0);
      if (fabric_.is_leader()) {
        co_await message_all_reduce(fabric_, leaders, o.out, o.count, o.type, o.op);
        if (mean_of != 0) divide(o.type, o.out, o.count, mean_of);
      }
      if (shares) co_await node_broadcast(fabric_, o.out, bytes, 0);
      break;
    case Kind::reduce:
      co_await ordered_reduce(fabric_, all, o.out, o.count, o.type, o.op, mean_of, o.peer);
      break;
    case Kind::broadcast: {
      // On the root's node the root speaks for all.
      const Place& root = fabric_.places[o.peer];
      heads[root.node] = o.peer;
      const bool speaks = heads[fabric_.node] == rank();
      if (speaks) co_await message_broadcast(fabric_, leaders, o.out, bytes, root.node);
      if (shares) co_await node_broadcast(fabric_, o.out, bytes, root.node == fabric_.node ? root.local : 0);
      break;
    }
    case Kind::all_gather: {
      const std::vector<std::size_t> sizes(size(), bytes);
      auto* own = static_cast<std::byte*>(o.out) + rank() * bytes;
      if (bytes != 0 && own != o.in) std::memcpy(own, o.in, bytes);
      co_await message_all_gather(fabric_, all, o.out, sizes);
      break;
    }
    case Kind::reduce_scatter: {
      const std::vector<std::size_t> counts(size(), o.count);
      co_await message_reduce_scatter(fabric_, all, o.in, o.out, counts, o.type, o.op, mean_of);
      break;
    }
    case Kind::all_to_all:
      co_await message_all_to_all(fabric_, all, o.in, o.out, bytes);
      break;
    default:
      if (shares) co_await node_barrier(fabric_);
      if (fabric_.is_leader()) co_await message_barrier(fabric_, leaders);
      if (shares) co_await node_barrier(fabric_);
  }
}

void Engine::sleep(Condition reached) {
  Bell& bell = fabric_.segment->bell(fabric_.local);
  auto& sleepers = fabric_.segment->sleepers();
  // Before the announcement: who takes that while this member looks once more, for news that are not enough, has rung
  // by then, and nobody else will ring.
  const std::uint32_t rings = bell.rings.load(std::memory_order_seq_cst);
  // Announce, then look once more: partner of Segment::wake() behind whatever brings news.
  bell.sleeping.store(fabric_.net ? Bell::on_pipe : Bell::on_futex, std::memory_order_seq_cst);
  sleepers.fetch_add(1, std::memory_order_seq_cst);
  std::atomic_thread_fence(std::memory_order_seq_cst);  // partner of Fabric::announce()
  const bool quiet = !reached() && !step();
  if (quiet) look_for_trouble();
  if (quiet && !reached() && (!fabric_.net || fabric_.net->arm())) {
    const Nanos left = std::clamp<Nanos>(next_deadline() - SystemClock::read(), 0, 3600 * kSecond);
    if (fabric_.net) {
      pollfd events[2] = {{fabric_.bell_read.get(), POLLIN, 0}, {fabric_.net->event_fd(), POLLIN, 0}};
      ::poll(events, 2, static_cast<int>(left / kMillisecond + 1));
      char bytes[64];
      while ((events[0].revents & POLLIN) != 0 &&
             ::read(fabric_.bell_read.get(), bytes, sizeof bytes) == sizeof bytes) {
      }
    } else {
      const timespec time{left / kSecond, left % kSecond};
      ::syscall(SYS_futex, &bell.rings, FUTEX_WAIT, rings, &time, nullptr, 0);
    }
  }
  sleepers.fetch_sub(1, std::memory_order_seq_cst);
  bell.sleeping.store(Bell::awake, std::memory_order_seq_cst);
}

Nanos Engine::next_deadline() const {
  if (failed_.load(std::memory_order_relaxed)) return kForever;
  Nanos next = direct_ != nullptr ? direct_deadline_ : current_ ? current_->deadline : kForever;
  for (const auto& pending : messages_) next = std::min(next, pending->deadline);
  return next;
}

/// Nothing moves: is that because it never will?
void Engine::look_for_trouble() {
  if (failed_.load(std::memory_order_relaxed)) {  // closed, or broken: what came in since fails too
    for (const auto& pending : std::exchange(messages_, {})) finish(pending);
    for (const auto& pending : std::exchange(queue_, {})) finish(pending);
    alarm_.store(false, std::memory_order_relaxed);
    return;
  }
  Segment& segment = *fabric_.segment;
  const bool in_phase = (direct_ != nullptr || current_) && fabric_.phase != 0;
  if (segment.breakage().cause == Breakage::Cause::none) {
    // acquire: what the member published before it left is there. Pairs with close().
    if (in_phase && fabric_.awaited < fabric_.locals && !fabric_.arrived() &&
        segment.bell(fabric_.awaited).left.load(std::memory_order_acquire) != 0 && !fabric_.arrived())
      segment.raise({Breakage::Cause::left, fabric_.member_of(fabric_.awaited)});
    std::uint32_t gone = 0;
    const auto is_gone = [&](std::uint32_t member) {
      const Place& place = fabric_.places[member];
      const bool left = place.node == fabric_.node ? segment.bell(place.local).left.load(std::memory_order_acquire) != 0
                                                   : fabric_.net->left(member);
      if (left) gone = member;
      return left;
    };
    if (fabric_.mailbox.awaits(is_gone) && !fabric_.links->progress()) segment.raise({Breakage::Cause::left, gone});
    if (SystemClock::read() >= next_deadline()) {
      std::uint32_t blamed = rank();
      const auto any = [&](std::uint32_t member) {
        blamed = member;
        return true;
      };
      if (!fabric_.mailbox.awaits(any) && in_phase && !fabric_.arrived() && fabric_.awaited < fabric_.locals)
        blamed = fabric_.member_of(fabric_.awaited);
      segment.raise({Breakage::Cause::timeout, blamed});
    }
  }
  if (const auto breakage = segment.breakage(); breakage.cause != Breakage::Cause::none) fail(breakage);
}

std::string Engine::explain(Breakage breakage) const {
  const Place& place = fabric_.places[std::min(breakage.member, size() - 1)];
  const auto who = fmt::format("member {} (process {} on {})", breakage.member, place.pid, place.host);
  switch (breakage.cause) {
    case Breakage::Cause::died:
      return fmt::format("{} died", who);
    case Breakage::Cause::unreachable:
      return fmt::format("{} is lost{}{}", who, reason_.empty() ? "" : ": ", reason_);
    case Breakage::Cause::left:
      return fmt::format("{} left the group while others wait for it", who);
    case Breakage::Cause::timeout:
      return fmt::format("{} s passed waiting for {}; CommunicatorOptions::timeout_ns sets the limit",
                         static_cast<double>(options_.timeout_ns) / 1e9, who);
    default:
      return fmt::format(
          "{} runs another operation than the others, or with another count, type, reduction or root{}{}", who,
          reason_.empty() ? "" : ": ", reason_);
  }
}

/// The group is of no more use: everything under way fails, here and everywhere.
void Engine::fail(Breakage breakage) {
  if (fabric_.net) fabric_.net->spread(breakage, kSpreadGrace);
  using Cause = Breakage::Cause;
  const Errc code = breakage.cause == Cause::timeout        ? Errc::timeout
                    : breakage.cause == Cause::disagreement ? Errc::invalid_argument
                                                            : Errc::peer_lost;
  std::string what = "group";
  if (const Operation* operation = direct_ != nullptr ? direct_ : current_ ? &current_->operation : nullptr)
    what = fmt::format("{} of {} {} in group", name_of(operation->kind), operation->count, to_string(operation->type));
  {
    const std::lock_guard lock(mutex_);
    failure_ = CollectiveError(code, static_cast<int>(breakage.member),
                               fmt::format("{} '{}', member {}: {}. Make a new group with the others", what,
                                           options_.name, rank(), explain(breakage)));
  }
  failed_.store(true, std::memory_order_release);
  alarm_.store(false, std::memory_order_relaxed);
  // Nobody may write into a caller's buffer, or read it, once its operation has ended.
  fabric_.mailbox.clear();
  fabric_.links->clear();
  if (fabric_.net) fabric_.net->abort();
  fabric_.suspended = {};
  task_ = {};
  for (const auto& pending : std::exchange(messages_, {})) finish(pending);
  if (current_) finish(std::exchange(current_, nullptr));
  for (const auto& pending : std::exchange(queue_, {})) finish(pending);
}

}  // namespace trireme::ml::detail
