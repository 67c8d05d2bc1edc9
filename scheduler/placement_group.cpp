#include "scheduler/placement_group.hpp"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

namespace trireme::scheduler {
namespace {

enum class Kind : std::uint8_t {
  prepare = 1,   // id, varint attempt, count, (varint bundle, resources)
  prepared = 2,  // id, varint attempt
  refused = 3,   // id, varint attempt, report
  commit = 4,    // id, varint attempt
  release = 5,   // id, varint attempt (0: everything of the group)
  freed = 6,     // id, report
};

constexpr Nanos kRetryMin = 10 * kMillisecond;
constexpr Nanos kRetryMax = kSecond;

}  // namespace

struct GroupCoordinator::Impl {
  /// What the creator knows.
  struct Group {
    enum class State : std::uint8_t { waiting, preparing, committed };
    GroupStrategy strategy;
    std::vector<Resources> bundles;
    BundleRules rules;
    std::vector<Rank> ranks;  // committed places; kNoRank is open
    State state = State::waiting;
    std::uint64_t attempt = 0;   // names messages; never 0 once one was sent
    std::vector<Rank> planned;   // of the attempt under way, by bundle; kNoRank where it places nothing
    std::set<Rank> awaited;      // planned ranks that have not answered
    std::set<Rank> prepared;     // planned ranks that hold their bundles
    bool failing = false;        // somebody refused or died: give back when all have answered
    std::set<Rank> refused;      // remember the group: they refused, and have not sent FREED
    std::set<Rank> busy;         // of these, those that count as full
    std::set<Rank> tried;        // of these, those whose turn it was in this round
    std::uint32_t failures = 0;  // in a row
    Nanos retry_at = kForever;

    void forget(Rank rank) {
      for (auto* set : {&refused, &busy, &tried}) set->erase(rank);
    }
  };
  /// What a participant knows.
  struct Reserved {
    std::uint64_t attempt = 0;
    bool committed = false;
  };
  struct Refused {
    std::vector<Resources> bundles;
  };

  Rank self;
  ClusterView& view;
  ResourcePool& pool;
  GroupHost& host;
  Rng rng;
  std::map<GroupId, Group> groups;
  std::map<BundleKey, Reserved> reserved;
  std::map<GroupId, Refused> refused_here;
  // A creator's attempts never repeat, even when an id is created again.
  std::uint64_t last_attempt = 0;
  Bytes scratch;

  Writer begin(Kind kind, GroupId id) {
    scratch.clear();
    Writer out(scratch);
    out.put(kind);
    out.id(id);
    return out;
  }
  void send_attempt(Rank to, Kind kind, GroupId id, std::uint64_t attempt) {
    begin(kind, id).varint(attempt);
    host.send(to, scratch);
  }
  void send_state(Rank to, Kind kind, GroupId id, std::uint64_t attempt) {
    auto out = begin(kind, id);
    if (kind == Kind::refused) out.varint(attempt);
    host.put_report(out, to);
    host.send(to, scratch);
  }

  // --- creator ---

  /// Plans the open bundles and asks. An error means that the group can never be placed.
  Status attempt(GroupId id, Group& group, Nanos now) {
    group.state = Group::State::waiting;
    host.refresh_view();
    const std::vector<Rank> busy(group.busy.begin(), group.busy.end());
    const std::vector<Rank> tried(group.tried.begin(), group.tried.end());
    auto plan = plan_bundles(view, group.strategy, group.bundles, group.ranks, busy, tried, group.rules);
    if (!plan) return plan.error();
    if (plan->from == BundlePlan::From::all) group.tried.clear();
    group.attempt = ++last_attempt;
    group.failing = false;
    group.planned.assign(group.bundles.size(), kNoRank);
    group.awaited.clear();
    group.prepared.clear();
    for (std::size_t i = 0; i < group.bundles.size(); ++i) {
      if (group.ranks[i] != kNoRank) continue;
      group.planned[i] = plan->ranks[i];
      group.awaited.insert(plan->ranks[i]);
    }
    group.state = Group::State::preparing;
    group.retry_at = kForever;
    // A plan that only the totals allow is sent too: those who refuse it remember the group and tell when they have
    // room.
    for (const Rank rank : group.awaited) {
      auto out = begin(Kind::prepare, id);
      out.varint(group.attempt);
      out.varint(static_cast<std::uint64_t>(std::count(group.planned.begin(), group.planned.end(), rank)));
      for (std::size_t i = 0; i < group.planned.size(); ++i) {
        if (group.planned[i] != rank) continue;
        out.varint(i);
        group.bundles[i].encode(out);
      }
      host.send(rank, scratch);
      host.takes(rank, sum_of(group.bundles, group.planned, rank));
    }
    return {};
  }

  /// Of the bundles that `ranks` places on `rank`.
  static Resources sum_of(const std::vector<Resources>& bundles, const std::vector<Rank>& ranks, Rank rank) {
    Resources sum;
    for (std::size_t i = 0; i < ranks.size(); ++i)
      if (ranks[i] == rank) sum += bundles[i];
    return sum;
  }

  void attempt_or_fail(GroupId id, Nanos now) {
    auto& group = groups.at(id);
    const auto status = attempt(id, group, now);
    if (status || waits(id, status.error())) return;
    // Not even the totals hold it any more.
    release_all(id, group);
    groups.erase(id);
    view.erase_group(id);
    host.group_failed(id, status.error());
  }

  bool waits(GroupId id, const Error& error) {
    return error.code == Errc::unschedulable && host.group_waits(id, error);
  }

  void release_all(GroupId id, const Group& group) {
    std::set<Rank> told(group.refused);
    for (const Rank rank : group.ranks) told.insert(rank);
    told.insert(group.awaited.begin(), group.awaited.end());
    told.insert(group.prepared.begin(), group.prepared.end());
    for (const Rank rank : told) {
      if (rank == kNoRank || !view.alive(rank)) continue;
      send_attempt(rank, Kind::release, id, 0);
      // Whether those who have not answered hold anything, only they know: they will say.
      auto held = sum_of(group.bundles, group.ranks, rank);
      if (group.prepared.contains(rank)) held += sum_of(group.bundles, group.planned, rank);
      host.gives_back(rank, held);
    }
  }

  void answered(GroupId id, Nanos now) {
    auto& group = groups.at(id);
    if (group.state != Group::State::preparing || !group.awaited.empty()) return;
    if (group.failing) {
      for (const Rank rank : group.prepared) {
        send_attempt(rank, Kind::release, id, group.attempt);
        host.gives_back(rank, sum_of(group.bundles, group.planned, rank));
      }
      group.prepared.clear();
      group.state = Group::State::waiting;
      ++group.failures;
      retry_in(group, backoff(group), now);
      return;
    }
    for (std::size_t i = 0; i < group.planned.size(); ++i)
      if (group.planned[i] != kNoRank) group.ranks[i] = group.planned[i];
    for (const Rank rank : group.prepared) send_attempt(rank, Kind::commit, id, group.attempt);
    group.prepared.clear();
    group.busy.clear();
    group.tried.clear();
    group.failures = 0;
    if (std::find(group.ranks.begin(), group.ranks.end(), kNoRank) != group.ranks.end()) {
      attempt_or_fail(id, now);  // a rank of the committed part died meanwhile
      return;
    }
    group.state = Group::State::committed;
    const GroupPlacement placement{group.bundles, group.ranks};
    view.set_group(id, placement);
    host.group_ready(id, placement);
  }

  Nanos backoff(const Group& group) {
    const auto most = std::min(kRetryMax, kRetryMin << std::min(group.failures, 7U));
    return most / 2 + static_cast<Nanos>(rng.below(static_cast<std::uint64_t>(most / 2)));
  }
  static void retry_in(Group& group, Nanos delay, Nanos now) { group.retry_at = std::min(group.retry_at, now + delay); }

  // --- participant ---

  void on_prepare(Rank from, GroupId id, std::uint64_t attempt,
                  const std::vector<std::pair<std::uint32_t, Resources>>& asked) {
    std::vector<BundleKey> done;
    bool all = true;
    for (const auto& [index, amount] : asked) {
      const BundleKey key{id, index};
      all = pool.try_reserve(key, amount);
      if (!all) break;
      done.push_back(key);
    }
    if (all) {
      for (const auto& key : done) reserved[key] = {attempt, false};
      refused_here.erase(id);
      send_attempt(from, Kind::prepared, id, attempt);
      return;
    }
    for (const auto& key : done) pool.cancel_reservation(key);
    auto& refused = refused_here[id];
    refused.bundles.clear();
    for (const auto& [index, amount] : asked) refused.bundles.push_back(amount);
    send_state(from, Kind::refused, id, attempt);
  }

  /// attempt 0: all of the group. True when something came back.
  bool give_back(GroupId id, std::uint64_t attempt) {
    bool any = false;
    for (auto at = reserved.lower_bound({id, 0}); at != reserved.end() && at->first.group == id;) {
      const auto [key, state] = *at;
      if (attempt != 0 && state.attempt != attempt) {
        ++at;
        continue;
      }
      at = reserved.erase(at);
      host.bundle_revoked(key);
      pool.cancel_reservation(key);
      any = true;
    }
    return any;
  }

  void tell_refused() {
    for (auto at = refused_here.begin(); at != refused_here.end();) {
      Resources sum;
      bool fits = true;
      for (const auto& bundle : at->second.bundles) {
        sum += bundle;
        fits = fits && pool.could_acquire(bundle);
      }
      if (fits && sum.fits(pool.available())) {
        send_state(at->first.owner, Kind::freed, at->first, 0);
        at = refused_here.erase(at);
      } else {
        ++at;
      }
    }
  }
};

GroupCoordinator::GroupCoordinator(Rank self, ClusterView& view, ResourcePool& pool, GroupHost& host,
                                   std::uint64_t seed)
    : impl_(new Impl{self, view, pool, host, Rng(seed), {}, {}, {}, 0, {}}) {}
GroupCoordinator::~GroupCoordinator() = default;

Status GroupCoordinator::create(GroupId id, GroupStrategy strategy, std::vector<Resources> bundles, Nanos now,
                                BundleRules rules) {
  if (id.owner != impl_->self || !id)
    return make_error(Errc::invalid_argument,
                      fmt::format("rank {} cannot create the group of rank {}", impl_->self, id.owner));
  if (impl_->groups.contains(id))
    return make_error(Errc::already_exists, fmt::format("placement group {}:{} exists", id.owner, id.index));
  if (bundles.size() > kBundlesMax)
    return make_error(Errc::too_large, fmt::format("asked a placement group of {} bundles, at most {} are possible",
                                                   bundles.size(), kBundlesMax));
  for (const auto& bundle : bundles)
    if (bundle.empty()) return make_error(Errc::invalid_argument, "a bundle must ask for something");
  if (!rules.empty() && rules.size() != bundles.size())
    return make_error(Errc::invalid_argument,
                      fmt::format("{} conditions on labels for {} bundles: one for each is needed, or none at all",
                                  rules.size(), bundles.size()));
  Impl::Group group;
  group.strategy = strategy;
  group.rules = std::move(rules);
  group.ranks.assign(bundles.size(), kNoRank);
  group.bundles = std::move(bundles);
  auto& made = impl_->groups[id] = std::move(group);
  auto status = impl_->attempt(id, made, now);
  if (status || impl_->waits(id, status.error())) return {};
  impl_->groups.erase(id);
  return status;
}

void GroupCoordinator::remove(GroupId id) {
  const auto at = impl_->groups.find(id);
  if (at == impl_->groups.end()) return;
  impl_->release_all(id, at->second);
  impl_->groups.erase(at);
  impl_->view.erase_group(id);
}

Status GroupCoordinator::on_message(Rank from, BytesView message, Nanos now) {
  auto& impl = *impl_;
  const auto bad = [&](std::string_view what) -> Status {
    return make_error(Errc::malformed,
                      fmt::format("placement group message of {} bytes from rank {}: {}", message.size(), from, what));
  };
  if (from >= impl.view.size()) return bad("no such rank");
  Reader in(message);
  const auto kind = in.get<Kind>();
  const auto id = in.id();
  if (!in.ok() || !id) return bad("no group id");
  const bool from_creator = kind == Kind::prepare || kind == Kind::commit || kind == Kind::release;
  if (from_creator ? id.owner != from : id.owner != impl.self) return bad("not the group's creator");
  const auto at = impl.groups.find(id);

  switch (kind) {
    case Kind::prepare: {
      const auto attempt = in.varint();
      const auto count = in.count(5);
      std::vector<std::pair<std::uint32_t, Resources>> asked;
      for (std::uint64_t i = 0; in.ok() && i < count; ++i) {
        const auto index = in.varint();
        if (index >= kBundlesMax) in.fail();
        asked.emplace_back(static_cast<std::uint32_t>(index), Resources::decode(in));
        if (asked.back().second.empty() || !asked.back().second.non_negative()) in.fail();
      }
      if (!in.done() || attempt == 0 || asked.empty()) return bad("bad PREPARE");
      impl.host.owe_report(from);
      impl.on_prepare(from, id, attempt, asked);
      return {};
    }
    case Kind::commit:
    case Kind::release: {
      const auto attempt = in.varint();
      if (!in.done() || (kind == Kind::commit && attempt == 0)) return bad("bad COMMIT or RELEASE");
      if (kind == Kind::commit) {
        for (auto r = impl.reserved.lower_bound({id, 0}); r != impl.reserved.end() && r->first.group == id; ++r)
          if (r->second.attempt == attempt) r->second.committed = true;
        return {};
      }
      impl.host.owe_report(from);
      if (attempt == 0) impl.refused_here.erase(id);
      if (impl.give_back(id, attempt)) impl.tell_refused();
      return {};
    }
    case Kind::prepared: {
      const auto attempt = in.varint();
      if (!in.done()) return bad("bad PREPARED");
      // A removed group or an older attempt: RELEASE is on its way already.
      if (at == impl.groups.end() || at->second.attempt != attempt || at->second.awaited.erase(from) == 0) return {};
      at->second.prepared.insert(from);
      impl.answered(id, now);
      return {};
    }
    case Kind::refused:
    case Kind::freed: {
      const auto attempt = kind == Kind::refused ? in.varint() : 0;
      impl.host.take_report(in, from);
      if (!in.done()) return bad("bad REFUSED or FREED");
      if (at == impl.groups.end()) return {};
      auto& group = at->second;
      if (kind == Kind::freed) {
        group.forget(from);
        // A short random delay lets competing groups, which all hear of it, come one after the other.
        if (group.state == Impl::Group::State::waiting)
          impl.retry_in(group,
                        static_cast<Nanos>(impl.rng.below(static_cast<std::uint64_t>(100 * kMicrosecond)
                                                          << std::min(group.failures, 6U))),
                        now);
        return {};
      }
      if (group.attempt != attempt || group.awaited.erase(from) == 0) return {};
      for (auto* set : {&group.refused, &group.busy, &group.tried}) set->insert(from);
      group.failing = true;
      impl.answered(id, now);
      return {};
    }
  }
  return bad("unknown kind");
}

void GroupCoordinator::on_rank_lost(Rank rank, Nanos now) {
  auto& impl = *impl_;
  impl.view.on_rank_lost(rank);
  bool freed = false;
  std::vector<GroupId> orphans;
  for (const auto& [key, state] : impl.reserved)
    if (key.group.owner == rank && (orphans.empty() || orphans.back() != key.group)) orphans.push_back(key.group);
  for (const auto id : orphans) freed = impl.give_back(id, 0) || freed;
  std::erase_if(impl.refused_here, [&](const auto& entry) { return entry.first.owner == rank; });
  if (freed) impl.tell_refused();

  std::vector<GroupId> ids;
  for (const auto& entry : impl.groups) ids.push_back(entry.first);
  for (const auto id : ids) {
    const auto found = impl.groups.find(id);
    if (found == impl.groups.end()) continue;
    auto& group = found->second;
    group.forget(rank);
    std::vector<std::uint32_t> lost;
    for (std::uint32_t i = 0; i < group.ranks.size(); ++i) {
      if (group.ranks[i] != rank) continue;
      group.ranks[i] = kNoRank;
      lost.push_back(i);
    }
    if (!lost.empty()) impl.host.bundles_lost(id, lost);
    switch (group.state) {
      case Impl::Group::State::preparing:
        if (group.awaited.erase(rank) + group.prepared.erase(rank) == 0) break;
        group.failing = true;
        impl.answered(id, now);
        break;
      case Impl::Group::State::committed:
        if (!lost.empty()) impl.attempt_or_fail(id, now);
        break;
      case Impl::Group::State::waiting:
        // The totals shrank: find out now whether the group can still be placed.
        impl.retry_in(group, 0, now);
        break;
    }
  }
}

void GroupCoordinator::on_rank_joined(Nanos now) {
  for (auto& [id, group] : impl_->groups)
    if (group.state == Impl::Group::State::waiting) Impl::retry_in(group, 0, now);
}

void GroupCoordinator::on_resources_freed(Nanos now) { impl_->tell_refused(); }

Nanos GroupCoordinator::next_deadline() const {
  auto earliest = kForever;
  for (const auto& entry : impl_->groups) earliest = std::min(earliest, entry.second.retry_at);
  return earliest;
}

void GroupCoordinator::on_timer(Nanos now) {
  std::vector<GroupId> due;
  for (const auto& [id, group] : impl_->groups)
    if (group.retry_at <= now) due.push_back(id);
  for (const auto id : due) {
    auto& group = impl_->groups.at(id);
    group.retry_at = kForever;
    // After some failures in a row, ranks that refused count as they last reported: one may have room for another plan.
    if (group.failures % 4 == 3) group.busy.clear();
    impl_->attempt_or_fail(id, now);
  }
}

bool GroupCoordinator::pending(GroupId id) const {
  const auto at = impl_->groups.find(id);
  return at != impl_->groups.end() && at->second.state != Impl::Group::State::committed;
}

std::size_t GroupCoordinator::groups() const { return impl_->groups.size(); }

}  // namespace trireme::scheduler
