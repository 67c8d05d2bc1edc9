#include "core/rank_core.hpp"

#include <fmt/format.h>

#include "base/log.hpp"
#include "core/growth.hpp"

namespace trireme::core {

RankCore::RankCore(Host& host, transport::Router& router, const Clock& clock, objstore::Store* store,
                   CoreOptions options)
    : refs_(context_),
      holders_(context_, pool_, queue_),
      tasks_(context_, refs_, holders_, cluster_, reports_),
      actors_(context_, refs_, holders_, tasks_, cluster_, reports_),
      names_(context_, refs_),
      cancels_(context_, refs_),
      control_(context_, refs_),
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
      reports_(context_, queue_, cluster_),
      groups_(context_, refs_, holders_, cluster_, pool_, reports_, options.seed ^ 0x6772UL),
      steal_(membership_.has_seats() ? scheduler::Victims::among(router.self(), router.size(), membership_.present())
             : options.victims       ? std::move(*options.victims)
                                     : scheduler::Victims(router.self(), router.size()),
             steal_link_, {}, options.seed ^ 0x7374UL) {
  tasks_.on_work = [this] { tell_steal_of_work(); };
  holders_.on_freed = [this] { groups_.on_resources_freed(); };
  tasks_.when_group = [this](ObjectId group, auto then) { groups_.when(group, std::move(then)); };
  actors_.on_name_free = [this](const std::string& name) { names_.remove(name); };
  refs_.on_actor_unreferenced = [this](Entry& entry) { actors_.on_unreferenced(entry); };
  refs_.make_actor_cell = [this](ObjectId id) { return actors_.make_cell(id); };
  membership_.on_dead = [this](Rank dead) { rank_dead(dead); };
  membership_.on_coming = [this](Rank rank, BytesView member) { return rank_comes(rank, member); };
  membership_.on_joined = [this](Rank rank) { rank_joined(rank); };
}

RankCore::~RankCore() = default;

void RankCore::send_as(MessageType type, Rank to, BytesView message) {
  auto out = context_.begin(type);
  out.raw(message);
  context_.send(to);
}

int RankCore::poll() {
  int events = context_.router->poll(*this);
  for (auto* source : attached_) events += source->poll();
  groups_.run_timers();
  holders_.run_timers();
  reports_.run_timers();
  return events;
}

Nanos RankCore::next_deadline() const {
  auto first = std::min({groups_.next_deadline(), holders_.next_deadline(), reports_.next_deadline()});
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

void RankCore::on_lost(Rank peer, std::string_view why) { membership_.on_lost(peer, why); }

void RankCore::rank_dead(Rank dead) {
  const auto now = context_.clock->now();
  cluster_.on_rank_lost(dead);
  steal_.on_rank_lost(dead, now);
  groups_.on_rank_lost(dead);
  reports_.on_rank_dead(dead);
  names_.on_rank_dead(dead);
  actors_.on_rank_dead(dead);
  // References first: tasks that are submitted again then see which arguments are lost.
  if (on_transfer_lost) on_transfer_lost(dead);
  refs_.on_rank_dead(dead);
  tasks_.on_rank_dead(dead);
  cancels_.on_rank_dead(dead);
  control_.on_rank_dead(dead);
  groups_.fail_groups_of(dead);
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
  groups_.on_rank_joined();
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
  reports_.stop();
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

}  // namespace trireme::core
