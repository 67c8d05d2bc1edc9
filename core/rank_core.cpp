#include "core/rank_core.hpp"

#include <fmt/format.h>

#include "base/log.hpp"
#include "core/growth.hpp"

namespace trireme::core {

RankCore::RankCore(Host& host, transport::Router& router, const Clock& clock, objstore::Store* store,
                   CoreOptions options)
    : refs_(context_),
      holders_(context_, pool_, queue_, cluster_),
      tasks_(context_, refs_, holders_, cluster_),
      actors_(context_, refs_, holders_, tasks_, cluster_),
      names_(context_, refs_),
      cancels_(context_, refs_),
      membership_(
          [&]() -> Context& {
            context_.self = router.self();
            context_.size = router.size();
            context_.host_name = options.host_name;
            context_.router = &router;
            context_.clock = &clock;
            context_.host = &host;
            context_.store = store;
            context_.rng = Rng(options.seed * 0x9E3779B97F4A7C15ULL + router.self());
            return context_;
          }(),
          options.world),
      cluster_(router.self(), options.ranks, waits_for_resources() || membership_.has_seats(), options.world.seats),
      pool_(options.ranks.at(router.self()).total),
      queue_(pool_),
      groups_(router.self(), cluster_, pool_, group_link_, options.seed ^ 0x6772UL),
      steal_(membership_.has_seats() ? scheduler::Victims::among(router.self(), router.size(), membership_.present())
             : options.victims       ? std::move(*options.victims)
                                     : scheduler::Victims(router.self(), router.size()),
             steal_link_, {}, options.seed ^ 0x7374UL) {
  tasks_.on_work = [this] { tell_steal_of_work(); };
  holders_.on_freed = [this] { groups_.on_resources_freed(context_.clock->now()); };
  tasks_.when_group = [this](ObjectId group, auto then) { when_group(group, std::move(then)); };
  actors_.on_name_free = [this](const std::string& name) { names_.remove(name); };
  refs_.on_actor_unreferenced = [this](Entry& entry) { actors_.on_unreferenced(entry); };
  refs_.make_actor_cell = [this](ObjectId id) { return actors_.make_cell(id); };
  membership_.on_dead = [this](Rank dead) { rank_dead(dead); };
  membership_.on_coming = [this](Rank rank, BytesView member) { return rank_comes(rank, member); };
  membership_.on_joined = [this](Rank rank) { rank_joined(rank); };
}

RankCore::~RankCore() = default;

/// What fires a task when the last of its arguments is there. One block of memory, with a waiter for each argument.
struct RankCore::WaitingTask {
  struct Argument : detail::Waiter {
    WaitingTask* of = nullptr;
  };
  RankCore* core = nullptr;
  detail::TaskBase* task = nullptr;
  std::size_t bytes = 0;

  static WaitingTask* make(RankCore* core, detail::TaskBase* task, std::size_t arguments) {
    const std::size_t bytes = sizeof(WaitingTask) + arguments * sizeof(Argument);
    return new (take_block(bytes)) WaitingTask{core, task, bytes};
  }
  Argument* argument(std::size_t i) { return new (reinterpret_cast<Argument*>(this + 1) + i) Argument; }

  /// `arguments` more are there.
  void arrive(std::uint32_t arguments) {
    // acq_rel: the last to arrive sees what all completers wrote.
    if (task->deps_left.fetch_sub(arguments, std::memory_order_acq_rel) != arguments) return;
    auto* const ready = task;
    auto* const by = core;
    give_block(this, bytes);
    const auto take = ready->invocation->take;
    if (take == nullptr || !take(ready)) by->submit(ready, false);
  }
};

void RankCore::submit(detail::TaskBase* task, bool deps) {
  if (deps && wait_for_arguments(task)) return;
  // release: whoever claims it sees its arguments complete.
  task->claimed.store(false, std::memory_order_release);
  context_.host->push(task);
  work_queued();
}

bool RankCore::wait_for_arguments(detail::TaskBase* task) {
  constexpr std::size_t kFew = 8;
  Cell* few[kFew];
  std::vector<Cell*> many;
  const std::size_t count = task->invocation->deps(task, nullptr);
  if (count > kFew) many.resize(count);
  const std::span<Cell*> cells(count > kFew ? many.data() : few, count);
  task->invocation->deps(task, cells.data());
  std::uint32_t missing = 0;
  bool all_here = true;
  for (auto*& cell : cells) {
    if (cell->ready()) {
      cell = nullptr;
      continue;
    }
    ++missing;
    all_here = all_here && !cell->exported();
  }
  if (missing == 0) return false;
  // Nobody may run it in place before its arguments are here.
  task->claimed.store(true, std::memory_order_relaxed);
  if (!all_here) {
    post(*context_.host, [this, task] { tasks_.submit_waiting(task); });
    return true;
  }
  auto* const waiting = WaitingTask::make(this, task, missing);
  // One more than there are, so that the task cannot start before all waiters are in place.
  task->deps_left.store(missing + 1, std::memory_order_relaxed);
  std::uint32_t arrived = 1;
  std::size_t next = 0;
  for (auto* cell : cells) {
    if (cell == nullptr) continue;
    auto* const argument = waiting->argument(next++);
    argument->of = waiting;
    argument->fire = [](detail::Waiter* w) { static_cast<WaitingTask::Argument*>(w)->of->arrive(1); };
    if (!cell->add_waiter(argument)) {
      ++arrived;
    } else if (cell->exported()) {
      // Since the look above; see Refs::make_entry().
      post(*context_.host, [this, keep = CellRef::share(cell)] { refs_.need(keep.get()); });
    }
  }
  waiting->arrive(arrived);
  return true;
}

void RankCore::work_queued() {
  // Ranks that ran dry wait here, or this rank itself had told the others that it is idle.
  if (thieves_wait_.load(std::memory_order_relaxed) || idle_.load(std::memory_order_relaxed)) {
    if (idle_.exchange(false, std::memory_order_relaxed) || thieves_wait_.load(std::memory_order_relaxed))
      post(*context_.host, [this] { steal_.on_local_work(steal_link_.stealable(), context_.clock->now()); });
  }
}

void RankCore::tell_steal_of_work() {
  idle_.store(false, std::memory_order_relaxed);
  steal_.on_local_work(steal_link_.stealable(), context_.clock->now());
}

void RankCore::went_idle() {
  // Without CPUs nothing is taken from others either.
  if (context_.size == 1 || pool_.total().cpu_units() == 0) return;
  idle_.store(true, std::memory_order_relaxed);
  post(*context_.host, [this] {
    if (context_.host->queued() != 0) return tell_steal_of_work();
    steal_.on_local_idle(context_.clock->now());
  });
}

void RankCore::send_as(MessageType type, Rank to, BytesView message) {
  auto out = context_.begin(type);
  out.raw(message);
  context_.send(to);
}

int RankCore::poll() {
  int events = context_.router->poll(*this);
  for (auto* source : attached_) events += source->poll();
  run_timers();
  return events;
}

void RankCore::run_timers() {
  const auto deadline = groups_.next_deadline();
  if (deadline == kForever) return;
  if (const auto now = context_.clock->now(); deadline <= now) groups_.on_timer(now);
}

Nanos RankCore::next_deadline() const {
  auto first = groups_.next_deadline();
  for (const auto* source : attached_) first = std::min(first, source->next_deadline());
  return first;
}

void RankCore::flush() {
  for (auto* source : attached_) source->flush();
  context_.router->flush();
}
bool RankCore::arm() {
  bool armed = context_.router->arm();
  for (auto* source : attached_) armed = source->arm() && armed;
  return armed;
}
void RankCore::disarm() {
  for (auto* source : attached_) source->disarm();
  context_.router->disarm();
}
std::vector<int> RankCore::event_fds() const {
  auto fds = context_.router->event_fds();
  for (const auto* source : attached_) {
    for (const int fd : source->event_fds()) fds.push_back(fd);
  }
  return fds;
}

Status RankCore::on_message(Rank from, BytesView message) { return dispatch(from, message); }

Status RankCore::dispatch(Rank from, BytesView message) {
  Reader in(message);
  const auto type = in.get<MessageType>();
  const auto now = context_.clock->now();
  switch (type) {
    case MessageType::task:
      tasks_.on_task(from, in);
      break;
    case MessageType::task_done:
      tasks_.on_done(from, in);
      break;
    case MessageType::task_moved:
      tasks_.on_moved(from, in);
      break;
    case MessageType::task_bounced:
      tasks_.on_bounced(from, in);
      break;
    case MessageType::subscribe:
      refs_.on_subscribe(from, in);
      break;
    case MessageType::value:
      refs_.on_value(from, in);
      break;
    case MessageType::borrow:
      refs_.on_borrow(from, in);
      break;
    case MessageType::loan_done:
      refs_.on_loan_done(from, in);
      break;
    case MessageType::release:
      refs_.on_release(from, in);
      break;
    case MessageType::free_result:
      refs_.on_free_result(from, in);
      break;
    case MessageType::transfer:
      return on_transfer ? on_transfer(from, in.rest()) : Status{};
    case MessageType::actor_create:
      actors_.on_create(from, in);
      break;
    case MessageType::actor_call:
      actors_.on_call(from, in);
      break;
    case MessageType::actor_end:
      actors_.on_end(from, in);
      break;
    case MessageType::actor_kill:
      actors_.on_kill(from, in);
      break;
    case MessageType::name_set:
      names_.on_set(from, in);
      break;
    case MessageType::name_reply:
      names_.on_reply(from, in);
      break;
    case MessageType::name_get:
      names_.on_get(from, in);
      break;
    case MessageType::name_forward:
      names_.on_forward(from, in);
      break;
    case MessageType::name_del:
      names_.on_del(from, in);
      break;
    case MessageType::steal:
      return steal_.on_message(from, in.rest(), now);
    case MessageType::group:
      return groups_.on_message(from, in.rest(), now);
    case MessageType::group_lookup:
      on_group_lookup(from, in);
      break;
    case MessageType::group_info:
      on_group_info(from, in);
      break;
    case MessageType::death_report:
      membership_.on_report(from, in);
      break;
    case MessageType::death:
      membership_.on_death(from, in);
      break;
    case MessageType::seat:
      membership_.on_seat(from, in);
      break;
    case MessageType::seat_known:
      membership_.on_seat_known(from, in);
      break;
    case MessageType::joined:
      membership_.on_joined_message(from, in);
      break;
    case MessageType::cancel:
      cancels_.on_ask(from, in);
      break;
    case MessageType::cancel_answer:
      cancels_.on_answer(from, in);
      break;
    case MessageType::cancel_result:
      cancels_.on_result(from, in);
      break;
    case MessageType::shutdown: {
      if (from != 0) {
        in.fail();
        break;
      }
      membership_.stop();
      steal_.stop();
      context_.begin(MessageType::shutdown_done);
      context_.send(0);
      if (on_shutdown) on_shutdown();
      break;
    }
    case MessageType::shutdown_done: {
      if (context_.self == 0 && !leaving_.empty() && !leaving_[from]) {
        leaving_[from] = true;
        if (--left_ == 0 && shutdown_done_) std::exchange(shutdown_done_, nullptr)();
      }
      break;
    }
    default:
      return make_error(Errc::malformed,
                        fmt::format("rank {} sent a message of unknown type {}", from, static_cast<int>(type)));
  }
  if (!in.ok()) {
    return make_error(Errc::malformed, fmt::format("a message of type {} and {} bytes from rank {} does not decode",
                                                   static_cast<int>(type), message.size(), from));
  }
  return {};
}

void RankCore::on_lost(Rank peer, std::string_view why) { membership_.on_lost(peer, why); }

void RankCore::rank_dead(Rank dead) {
  const auto now = context_.clock->now();
  cluster_.on_rank_lost(dead);
  steal_.on_rank_lost(dead, now);
  groups_.on_rank_lost(dead, now);
  names_.on_rank_dead(dead);
  actors_.on_rank_dead(dead);
  // References first: tasks that are submitted again then see which arguments are lost.
  if (on_transfer_lost) on_transfer_lost(dead);
  refs_.on_rank_dead(dead);
  tasks_.on_rank_dead(dead);
  cancels_.on_rank_dead(dead);
  for (auto& [id, group] : group_table_) {
    if (id.owner != dead || group.placed || group.failed) continue;
    group.failed = std::make_unique<detail::ErrorInfo>(
        runtime_error(context_, Errc::owner_died, fmt::format("rank {}, which made the placement group, died", dead)));
    for (auto& then : std::exchange(group.waiting, {})) then(group.failed.get());
  }
  if (!leaving_.empty() && !leaving_[dead]) {
    leaving_[dead] = true;
    if (--left_ == 0 && shutdown_done_) std::exchange(shutdown_done_, nullptr)();
  }
  members_changed();
}

Status RankCore::rank_comes(Rank rank, BytesView member) {
  auto info = connect ? connect(rank, member) : make_error(Errc::unavailable, "this job takes in no ranks");
  if (!info) return info.error();
  cluster_.on_rank_coming(rank, std::move(*info));
  return {};
}

void RankCore::rank_joined(Rank rank) {
  const auto now = context_.clock->now();
  cluster_.on_rank_joined(rank);
  steal_.set_victims(scheduler::Victims::among(context_.self, context_.size, membership_.present()));
  // What this rank is idle for may be there, and who will have work is to know that it waits.
  if (idle_.load(std::memory_order_relaxed) && pool_.total().cpu_units() != 0 && context_.host->queued() == 0)
    steal_.on_local_idle(now);
  groups_.on_rank_joined(now);
  members_changed();
}

void RankCore::members_changed() {
  if (!cluster_.can_grow()) return;
  tasks_.place_waiting();
  actors_.place_waiting();
}

void RankCore::shut_down(std::function<void()> done) {
  membership_.stop();
  steal_.stop();
  shutdown_done_ = std::move(done);
  leaving_.assign(context_.size, false);
  leaving_[0] = true;
  left_ = 0;
  for (Rank rank = 1; rank < context_.size; ++rank) {
    if (!context_.alive(rank)) {
      leaving_[rank] = true;
      continue;
    }
    ++left_;
    context_.begin(MessageType::shutdown);
    context_.send(rank);
  }
  if (left_ == 0) std::exchange(shutdown_done_, nullptr)();
}

ObjectId RankCore::create_group(scheduler::GroupStrategy strategy, std::vector<scheduler::Resources> bundles,
                                scheduler::BundleRules rules, CellRef ready) {
  const auto id = refs_.new_id();
  auto& group = group_table_[id];
  group.ready = std::move(ready);
  auto status = groups_.create(id, strategy, std::move(bundles), context_.clock->now(), std::move(rules));
  if (!status.ok()) group_failed(id, status.error());
  return id;
}

void RankCore::remove_group(ObjectId id) {
  groups_.remove(id);
  cluster_.erase_group(id);
  auto node = group_table_.extract(id);
  if (node.empty()) return;
  // Who waits for a place in it waits for ever otherwise.
  const auto error = runtime_error(context_, Errc::not_found, "the placement group was removed");
  for (auto& then : node.mapped().waiting) then(&error);
  for (const auto rank : node.mapped().askers) answer_group(rank, id);
  auto& ready = node.mapped().ready;
  if (ready && !ready->ready()) ready->complete_error(error);
}

void RankCore::group_ready(scheduler::GroupId id, const scheduler::GroupPlacement& placement) {
  auto& group = group_table_[id];
  group.placement = placement;
  group.placed = true;
  cluster_.set_group(id, placement);
  if (group.ready && !group.ready->ready()) group.ready->complete({});
  for (auto& then : std::exchange(group.waiting, {})) then(nullptr);
  for (const auto rank : std::exchange(group.askers, {})) answer_group(rank, id);
}

void RankCore::group_failed(scheduler::GroupId id, const Error& error) {
  auto& group = group_table_[id];
  group.placed = false;
  group.failed = std::make_unique<detail::ErrorInfo>(runtime_error(context_, error.code, error.message));
  cluster_.erase_group(id);
  if (group.ready && !group.ready->ready()) group.ready->complete_error(*group.failed);
  for (auto& then : std::exchange(group.waiting, {})) then(group.failed.get());
  for (const auto rank : std::exchange(group.askers, {})) answer_group(rank, id);
}

bool RankCore::GroupLink::group_waits(scheduler::GroupId id, const Error& error) {
  if (!core.cluster_.can_grow()) return false;
  core.group_table_[id].placed = false;
  core.cluster_.erase_group(id);
  TRIREME_LOG(warning, "a placement group waits for ranks to join, or until it is removed: {}", error.message);
  return true;
}

void RankCore::bundles_lost(scheduler::GroupId id) {
  group_table_[id].placed = false;
  cluster_.erase_group(id);
}

void RankCore::when_group(ObjectId id, std::function<void(const detail::ErrorInfo*)> then) {
  if (id.owner != context_.self && !group_table_.contains(id)) {
    if (!context_.alive(id.owner)) {
      const auto error = runtime_error(context_, Errc::owner_died,
                                       fmt::format("rank {}, which made the placement group, died", id.owner));
      return then(&error);
    }
    auto out = context_.begin(MessageType::group_lookup);
    out.id(id);
    context_.send(id.owner);
  }
  const auto known = group_table_.find(id);
  if (id.owner == context_.self && known == group_table_.end()) {
    const auto error = runtime_error(context_, Errc::not_found, "the placement group was removed");
    return then(&error);
  }
  auto& group = group_table_[id];
  if (group.failed) return then(group.failed.get());
  if (group.placed) return then(nullptr);
  group.waiting.push_back(std::move(then));
}

void RankCore::on_group_lookup(Rank from, Reader& in) {
  const auto id = in.id();
  if (!in.done() || id.owner != context_.self) return in.fail();
  const auto at = group_table_.find(id);
  if (at != group_table_.end() && !at->second.placed && !at->second.failed) {
    at->second.askers.push_back(from);
    return;
  }
  answer_group(from, id);
}

void RankCore::answer_group(Rank to, ObjectId id) {
  const auto at = group_table_.find(id);
  auto out = context_.begin(MessageType::group_info);
  out.id(id);
  if (at == group_table_.end()) {
    out.put(std::uint8_t{1});
    encode_error(out, runtime_error(context_, Errc::not_found, "the placement group was removed"));
  } else if (at->second.failed) {
    out.put(std::uint8_t{1});
    encode_error(out, *at->second.failed);
  } else {
    out.put(std::uint8_t{0});
    at->second.placement.encode(out);
  }
  context_.send(to);
}

void RankCore::on_group_info(Rank from, Reader& in) {
  const auto id = in.id();
  const bool failed = in.get<std::uint8_t>() != 0;
  detail::ErrorInfo error;
  scheduler::GroupPlacement placement;
  if (failed)
    error = decode_error(in);
  else
    placement = scheduler::GroupPlacement::decode(in);
  if (!in.done() || id.owner != from) return in.fail();
  auto node = group_table_.extract(id);
  if (node.empty()) return;
  // Asked again for every use: bundles may move when a rank dies.
  if (!failed) cluster_.set_group(id, placement);
  for (auto& then : node.mapped().waiting) then(failed ? &error : nullptr);
}

}  // namespace trireme::core
