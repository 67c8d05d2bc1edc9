#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "scheduler/placement_group.hpp"

using namespace trireme;
using namespace trireme::scheduler;

namespace {

Resources parsed(std::string_view text) { return *Resources::parse(text); }
Resources cpus(std::uint64_t count) { return Resources::cpus(static_cast<double>(count)); }

bool strict_ok(const ClusterView& view, GroupStrategy strategy, const std::vector<Rank>& ranks) {
  std::set<std::uint32_t> nodes;
  for (const Rank rank : ranks) nodes.insert(view.node_of(rank));
  if (strategy == GroupStrategy::strict_pack) return nodes.size() == 1;
  if (strategy == GroupStrategy::strict_spread) return nodes.size() == ranks.size();
  return true;
}

bool holds(const ClusterView& view, const std::vector<Resources>& bundles, const std::vector<Rank>& ranks) {
  std::map<Rank, Resources> used;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    if (!view.alive(ranks[i])) return false;
    used[ranks[i]] += bundles[i];
  }
  return std::all_of(used.begin(), used.end(),
                     [&](const auto& entry) { return entry.second.fits(view.total(entry.first)); });
}

bool labels_ok(const ClusterView& view, const BundleRules& rules, const std::vector<Rank>& ranks) {
  for (std::size_t i = 0; i < rules.size(); ++i)
    for (const auto& rule : rules[i])
      if (!rule.holds(view.labels(ranks[i]))) return false;
  return true;
}

bool exists_by_brute_force(const ClusterView& view, GroupStrategy strategy, const std::vector<Resources>& bundles,
                           const BundleRules& rules) {
  std::vector<Rank> ranks(bundles.size(), 0);
  for (;;) {
    if (strict_ok(view, strategy, ranks) && holds(view, bundles, ranks) && labels_ok(view, rules, ranks)) return true;
    std::size_t digit = 0;
    while (digit < ranks.size() && ++ranks[digit] == view.size()) ranks[digit++] = 0;
    if (digit == ranks.size()) return false;
  }
}

/// Coordinators of all ranks on a virtual network: random delays, in order per pair, deaths heard of at different
/// times.
class GroupWorld {
 public:
  struct Node final : GroupHost {
    Node(GroupWorld& w, Rank rank, const std::vector<RankInfo>& infos, std::uint64_t seed,
         const std::vector<Seat>& seats)
        : world(w),
          self(rank),
          view(rank, infos, !seats.empty(), seats),
          pool(infos[rank].total),
          groups(rank, view, pool, *this, seed) {}
    void send(Rank to, BytesView message) override { world.post(self, to, Bytes(message.begin(), message.end())); }
    void takes(Rank to, const Resources& amount) override { view.assume(to, amount, world.sent[{self, to}]); }
    void gives_back(Rank to, const Resources& amount) override { view.expect(to, amount, world.sent[{self, to}]); }
    void owe_report(Rank) override {}
    void put_report(Writer& out, Rank to) override {
      out.varint(world.received[{to, self}]);
      out.varint(pool.version());
      pool.available().encode(out);
    }
    void take_report(Reader& in, Rank from) override {
      const auto heard = in.varint();
      const auto version = in.varint();
      view.update(from, version, Resources::decode(in), heard);
    }
    void refresh_view() override { view.update(self, pool.version(), pool.available(), world.received[{self, self}]); }
    void group_ready(GroupId id, const GroupPlacement& placement) override {
      ready[id] = placement;
      CHECK(strict_ok(view, world.strategies.at(id), placement.ranks));
      CHECK(placement.bundles == world.asked.at(id));
    }
    void group_failed(GroupId id, const Error& error) override {
      CHECK(error.code == Errc::unschedulable);
      failed.insert(id);
      ready.erase(id);
    }
    void bundles_lost(GroupId id, const std::vector<std::uint32_t>& bundles) override {
      CHECK(!bundles.empty());
      ready.erase(id);
    }
    bool group_waits(GroupId id, const Error& error) override {
      CHECK(error.code == Errc::unschedulable);
      ready.erase(id);
      if (view.can_grow()) ++waits;
      return view.can_grow();
    }
    void bundle_revoked(BundleKey bundle) override { CHECK(pool.has_bundle(bundle)); }

    GroupWorld& world;
    Rank self;
    ClusterView view;
    ResourcePool pool;
    GroupCoordinator groups;
    std::map<GroupId, GroupPlacement> ready;
    std::set<GroupId> failed;
    std::uint32_t waits = 0;
    bool dead = false;
  };

  /// `late`: so many of the last ranks join() later.
  GroupWorld(const std::vector<RankInfo>& infos, std::uint64_t seed, Rank late = 0) : rng(seed) {
    for (Rank rank = 0; rank < infos.size(); ++rank) {
      std::vector<Seat> seats;
      if (late > 0) seats.assign(infos.size(), Seat::taken);
      for (Rank seat = 0; seat < late; ++seat)
        if (const auto other = static_cast<Rank>(infos.size() - 1 - seat); rank < other) seats[other] = Seat::empty;
      nodes.push_back(std::make_unique<Node>(*this, rank, infos, rng.next(), seats));
    }
  }
  void join(Rank rank, const RankInfo& info) {
    for (auto& node : nodes) {
      if (node->self >= rank) continue;
      node->view.on_rank_coming(rank, info);
      node->view.on_rank_joined(rank);
      node->groups.on_rank_joined(now);
    }
  }
  void at(Nanos when, std::function<void()> what) { events.emplace(when, std::move(what)); }
  void post(Rank from, Rank to, Bytes bytes) {
    ++messages;
    ++sent[{from, to}];
    auto& last = last_arrival[{from, to}];
    last = std::max(last + 1, now + 1 + static_cast<Nanos>(rng.below(20 * kMicrosecond)));
    at(last, [this, from, to, bytes = std::move(bytes)] {
      if (nodes[to]->dead || !nodes[to]->view.alive(from)) return;
      ++received[{from, to}];
      const auto status = nodes[to]->groups.on_message(from, bytes, now);
      CHECK_MESSAGE(status.ok(), (status.ok() ? "" : status.error().message));
    });
  }
  Status create(GroupId id, GroupStrategy strategy, std::vector<Resources> bundles) {
    const auto status = nodes[id.owner]->groups.create(id, strategy, bundles, now);
    if (!status) return status;
    strategies[id] = strategy;
    asked[id] = std::move(bundles);
    return {};
  }
  void kill(Rank rank) {
    nodes[rank]->dead = true;
    for (auto& node : nodes)
      if (!node->dead)
        at(std::max(now + static_cast<Nanos>(rng.below(kMillisecond)), last_arrival[{rank, node->self}] + 1),
           [this, &node, rank] {
             if (!node->dead) node->groups.on_rank_lost(rank, now);
           });
  }
  void run_until(Nanos end) {
    for (;;) {
      Nanos timer = kForever;
      Node* whose = nullptr;
      for (auto& node : nodes)
        if (!node->dead && node->groups.next_deadline() < timer) {
          timer = node->groups.next_deadline();
          whose = node.get();
        }
      const auto next = events.empty() ? kForever : events.begin()->first;
      if (std::min(timer, next) > end) break;
      now = std::max(now, std::min(timer, next));
      if (timer <= next) {
        whose->groups.on_timer(now);
      } else {
        auto what = std::move(events.begin()->second);
        events.erase(events.begin());
        what();
      }
    }
    now = end;
  }
  /// Every pool holds exactly the bundles of ready groups that name its rank, and those that survive of groups in
  /// repair.
  void check_reservations() {
    for (auto& node : nodes) {
      if (node->dead) continue;
      std::set<BundleKey> expected;
      for (auto& creator : nodes) {
        if (creator->dead) continue;
        for (const auto& [id, placement] : creator->ready)
          for (std::uint32_t i = 0; i < placement.ranks.size(); ++i)
            if (placement.ranks[i] == node->self) expected.insert({id, i});
      }
      for (const auto& bundle : node->pool.bundles()) {
        const auto creator = bundle.group.owner;
        const bool repair = !nodes[creator]->dead && nodes[creator]->groups.pending(bundle.group);
        CHECK((expected.erase(bundle) == 1 || repair));
      }
      CHECK(expected.empty());
    }
  }

  Rng rng;
  Nanos now = 0;
  std::multimap<Nanos, std::function<void()>> events;
  std::map<std::pair<Rank, Rank>, Nanos> last_arrival;
  std::map<std::pair<Rank, Rank>, std::uint64_t> sent, received;  // messages
  std::vector<std::unique_ptr<Node>> nodes;
  std::map<GroupId, GroupStrategy> strategies;
  std::map<GroupId, std::vector<Resources>> asked;
  std::uint64_t messages = 0;
};

std::vector<RankInfo> equal_ranks(std::uint32_t count, std::uint32_t per_node, std::string_view total) {
  std::vector<RankInfo> infos;
  for (Rank rank = 0; rank < count; ++rank) infos.push_back({parsed(total), std::to_string(rank / per_node), {}});
  return infos;
}

}  // namespace

TEST_CASE("a plan exists exactly when brute force finds one, and keeps its strategy's promise") {
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    std::vector<RankInfo> infos(2 + rng.below(4));
    for (auto& info : infos) {
      info = {cpus(rng.below(5)), std::to_string(rng.below(3)), {}};
      info.total.set_gpu_units(static_cast<std::int64_t>(rng.below(2)) * Resources::kUnit);
      if (rng.chance(0.7)) info.labels["zone"] = rng.chance(0.5) ? "a" : "b";
    }
    ClusterView view(0, infos);
    if (rng.chance(0.3)) view.on_rank_lost(1);
    std::vector<Resources> bundles(1 + rng.below(4));
    for (auto& bundle : bundles) {
      bundle = cpus(1 + rng.below(3));
      if (rng.chance(0.2)) bundle.set_gpu_units(Resources::kUnit);
    }
    BundleRules rules;
    if (rng.chance(0.6)) {
      rules.resize(bundles.size());
      for (auto& rule : rules)
        if (rng.chance(0.7))
          rule.push_back({"zone", static_cast<LabelRule::Op>(rng.below(4)), {rng.chance(0.5) ? "a" : "b"}});
    }
    for (const auto strategy :
         {GroupStrategy::pack, GroupStrategy::spread, GroupStrategy::strict_pack, GroupStrategy::strict_spread}) {
      CAPTURE(static_cast<int>(strategy));
      const auto plan = plan_bundles(view, strategy, bundles, {}, {}, {}, rules);
      REQUIRE(plan.ok() == exists_by_brute_force(view, strategy, bundles, rules));
      if (!plan.ok()) {
        CHECK(plan.error().code == Errc::unschedulable);
        continue;
      }
      CHECK(plan.value().from == BundlePlan::From::free);
      CHECK(strict_ok(view, strategy, plan.value().ranks));
      CHECK(labels_ok(view, rules, plan.value().ranks));
      CHECK(holds(view, bundles, plan.value().ranks));
    }
  }
}

TEST_CASE("pack takes few nodes, spread takes many, and the error says what was asked and what exists") {
  ClusterView view(0, equal_ranks(8, 2, "CPU=4"));
  const std::vector<Resources> four(4, cpus(2));
  const auto nodes_of = [&](GroupStrategy strategy) {
    std::set<std::uint32_t> nodes;
    const auto plan = plan_bundles(view, strategy, four);
    for (const Rank rank : plan.value().ranks) nodes.insert(view.node_of(rank));
    return nodes.size();
  };
  CHECK(nodes_of(GroupStrategy::pack) == 1);
  CHECK(nodes_of(GroupStrategy::spread) == 4);
  const auto none = plan_bundles(view, GroupStrategy::strict_pack, std::vector<Resources>(5, cpus(2)));
  REQUIRE(!none.ok());
  for (const auto* text :
       {"STRICT_PACK", "5 bundles", "5 x {CPU: 2}", "8 living ranks on 4 nodes", "largest node {CPU: 8}"})
    CHECK_MESSAGE(none.error().message.find(text) != std::string::npos, none.error().message);
  for (Rank rank = 0; rank < 7; ++rank) view.update(rank, 1, {});
  const auto later = plan_bundles(view, GroupStrategy::strict_pack, four);
  CHECK(later.value().from == BundlePlan::From::all);
}

TEST_CASE("a bundle whose rank died goes to another one with its labels, and the group fails when there is none") {
  auto infos = equal_ranks(4, 1, "CPU=4");
  for (const Rank rank : {1U, 2U}) infos[rank].labels["zone"] = "a";
  GroupWorld world(infos, 3);
  const BundleRules rules{{{"zone", LabelRule::Op::in, {"a"}}}, {{"zone", LabelRule::Op::does_not_exist, {}}}};
  const GroupId id{0, 1};
  world.strategies[id] = GroupStrategy::pack;
  world.asked[id] = {cpus(1), cpus(1)};
  auto& groups = world.nodes[0]->groups;
  REQUIRE(groups.create(id, GroupStrategy::pack, world.asked[id], world.now, rules).ok());
  world.run_until(kSecond);
  const auto first = world.nodes[0]->ready.at(id).ranks[0];
  CHECK((first == 1 || first == 2));
  CHECK((world.nodes[0]->ready.at(id).ranks[1] == 0 || world.nodes[0]->ready.at(id).ranks[1] == 3));
  world.nodes[first]->dead = true;
  groups.on_rank_lost(first, world.now);
  world.run_until(2 * kSecond);
  CHECK(world.nodes[0]->ready.at(id).ranks[0] == 3 - first);
  world.nodes[3 - first]->dead = true;
  groups.on_rank_lost(3 - first, world.now);
  world.run_until(3 * kSecond);
  CHECK(world.nodes[0]->failed.contains(id));
  const auto refused = groups.create({0, 2}, GroupStrategy::pack, {cpus(1)}, world.now, {{rules[0][0]}});
  REQUIRE(!refused.ok());
  CHECK_MESSAGE(refused.error().message.find("with zone in (a)") != std::string::npos, refused.error().message);
  CHECK(groups.create({0, 3}, GroupStrategy::pack, {cpus(1)}, world.now, rules).error().code == Errc::invalid_argument);
}

TEST_CASE("a group becomes ready, is removed, and leaves nothing behind") {
  GroupWorld world(equal_ranks(4, 2, "CPU=4"), 1);
  const GroupId id{1, 7};
  REQUIRE(world.create(id, GroupStrategy::strict_spread, {cpus(3), cpus(3)}).ok());
  CHECK(world.create(id, GroupStrategy::pack, {cpus(1)}).error().code == Errc::already_exists);
  CHECK(world.create({1, 8}, GroupStrategy::pack, {cpus(5)}).error().code == Errc::unschedulable);
  CHECK(world.create({1, 8}, GroupStrategy::pack, {}).error().code == Errc::invalid_argument);
  CHECK(world.create({1, 8}, GroupStrategy::pack, {Resources{}}).error().code == Errc::invalid_argument);
  world.run_until(kSecond);
  CHECK(world.nodes[1]->ready.contains(id));
  CHECK(world.nodes[1]->view.knows_group(id));
  world.check_reservations();
  world.nodes[1]->groups.remove(id);
  world.nodes[1]->ready.clear();
  world.run_until(2 * kSecond);
  world.check_reservations();
  CHECK(!world.nodes[1]->view.knows_group(id));
  CHECK(world.nodes[1]->groups.next_deadline() == kForever);
}

TEST_CASE("a group that fits no ranks waits where ranks may join, and keeps what it has") {
  const auto infos = equal_ranks(4, 1, "CPU=2");
  GroupWorld world(infos, 5, 2);
  auto& creator = *world.nodes[0];
  // From the start.
  REQUIRE(world.create({0, 1}, GroupStrategy::strict_spread, {cpus(2), cpus(2), cpus(2)}).ok());
  world.run_until(kSecond);
  CHECK(creator.waits == 1);
  CHECK(creator.groups.pending({0, 1}));
  CHECK(creator.groups.next_deadline() == kForever);
  world.join(2, infos[2]);
  world.run_until(2 * kSecond);
  REQUIRE(creator.ready.contains({0, 1}));
  world.check_reservations();
  // After a death: its other bundles stay where they are.
  const auto ranks = creator.ready.at({0, 1}).ranks;
  world.kill(2);
  world.run_until(3 * kSecond);
  CHECK(creator.waits == 2);
  CHECK(!creator.ready.contains({0, 1}));
  CHECK(creator.failed.empty());
  CHECK(world.nodes[1]->pool.bundles().size() == 1);
  world.join(3, infos[3]);
  world.run_until(4 * kSecond);
  REQUIRE(creator.ready.contains({0, 1}));
  for (std::size_t i = 0; i < ranks.size(); ++i)
    CHECK(creator.ready.at({0, 1}).ranks[i] == (ranks[i] == 2 ? 3 : ranks[i]));
  world.check_reservations();
  // One that waits is removed like any other.
  REQUIRE(world.create({0, 2}, GroupStrategy::pack, {cpus(100)}).ok());
  creator.groups.remove({0, 2});
  CHECK(creator.groups.groups() == 1);
}

TEST_CASE("who removes a group plans the next one with what that gives back, whatever was on its way meanwhile") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    GroupWorld world(equal_ranks(3, 1, "CPU=2"), seed);
    auto& creator = *world.nodes[seed % 3];
    const auto reports = [&world, &creator] {
      for (auto& node : world.nodes) {
        if (node->self == creator.self) continue;
        Bytes bytes;
        Writer out(bytes);
        node->put_report(out, creator.self);
        world.at(world.now + 1, [&creator, from = node->self, bytes] {
          Reader in(bytes);
          creator.take_report(in, from);
        });
      }
    };
    for (std::uint64_t round = 0; round < 4; ++round) {
      const GroupId spread{creator.self, 1 + 2 * round}, pack{creator.self, 2 + 2 * round};
      REQUIRE(world.create(spread, GroupStrategy::strict_spread, {cpus(1), cpus(1), cpus(1)}).ok());
      world.run_until(world.now + kMillisecond);
      REQUIRE(creator.ready.contains(spread));
      reports();
      world.run_until(world.now + kMillisecond);
      for (const auto& node : world.nodes) CHECK(creator.view.available(node->self) == node->pool.available());
      creator.groups.remove(spread);
      creator.ready.clear();
      // These were written before the removal is heard of, and come after it.
      reports();
      world.run_until(world.now + 1);
      REQUIRE(world.create(pack, GroupStrategy::pack, {cpus(1), cpus(1)}).ok());
      world.run_until(world.now + kMillisecond);
      REQUIRE(creator.ready.contains(pack));
      CHECK(creator.ready.at(pack).ranks[0] == creator.ready.at(pack).ranks[1]);
      creator.groups.remove(pack);
      creator.ready.clear();
    }
    world.run_until(world.now + kMillisecond);
    reports();
    creator.refresh_view();
    world.run_until(world.now + kMillisecond);
    for (const auto& node : world.nodes) CHECK(creator.view.available(node->self) == cpus(2));
  }
}

TEST_CASE("a group is planned with what is free in its creator's rank now") {
  GroupWorld world(equal_ranks(2, 1, "CPU=2"), 1);
  auto& creator = *world.nodes[0];
  REQUIRE(creator.pool.try_acquire(1, cpus(2)));
  REQUIRE(world.create({0, 1}, GroupStrategy::pack, {cpus(1)}).ok());
  world.run_until(kMillisecond);  // no second attempt comes so soon
  REQUIRE(creator.ready.contains({0, 1}));
  CHECK(creator.ready.at({0, 1}).ranks[0] == 1);
}

TEST_CASE("a refused group becomes ready soon after its resources are released") {
  GroupWorld world(equal_ranks(2, 1, "CPU=4"), 3);
  REQUIRE(world.nodes[1]->pool.try_acquire(1, cpus(2)));
  REQUIRE(world.create({0, 1}, GroupStrategy::strict_spread, {cpus(3), cpus(3)}).ok());
  world.run_until(10 * kSecond);
  CHECK(world.nodes[0]->groups.pending({0, 1}));
  CHECK(world.nodes[0]->pool.bundles().empty());  // waiting holds nothing
  const auto before = world.messages;
  world.run_until(20 * kSecond);
  CHECK(world.messages - before <= 120);  // at most two attempts a second of six messages
  world.nodes[1]->pool.release(1);
  world.nodes[1]->groups.on_resources_freed(world.now);
  world.run_until(20 * kSecond + 20 * kMillisecond);
  CHECK(!world.nodes[0]->groups.pending({0, 1}));
  world.check_reservations();
}

TEST_CASE("a group finds the rank that has room though its creator takes it for full") {
  constexpr Rank kFree = 7;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    GroupWorld world(equal_ranks(kFree + 1, 1, "CPU=2"), seed);
    for (Rank rank = 0; rank < kFree; ++rank) REQUIRE(world.nodes[rank]->pool.try_acquire(1, cpus(1)));
    auto& creator = *world.nodes[0];
    creator.view.update(kFree, 1, cpus(1));
    REQUIRE(world.create({0, 1}, GroupStrategy::pack, {cpus(2)}).ok());
    world.run_until(10 * kSecond);
    REQUIRE(creator.ready.contains({0, 1}));
    CHECK(creator.ready.at({0, 1}).ranks == std::vector<Rank>{kFree});
    world.check_reservations();
  }
}

TEST_CASE("a group that is removed is forgotten by every rank that refused it") {
  GroupWorld world(equal_ranks(3, 1, "CPU=2"), 1);
  for (auto& node : world.nodes) REQUIRE(node->pool.try_acquire(1, cpus(1)));
  REQUIRE(world.create({0, 1}, GroupStrategy::pack, {cpus(2)}).ok());
  world.run_until(10 * kSecond);
  world.nodes[0]->groups.remove({0, 1});
  world.run_until(11 * kSecond);
  const auto before = world.messages;
  for (auto& node : world.nodes) {
    node->pool.release(1);
    node->groups.on_resources_freed(world.now);
  }
  CHECK(world.messages == before);
}

TEST_CASE("competing groups come one after the other") {
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    GroupWorld world(equal_ranks(4, 1, "CPU=2"), seed);
    // Each takes everything: two at once are impossible, half of each would be a deadlock.
    for (Rank rank = 0; rank < 4; ++rank)
      REQUIRE(world.create({rank, 1}, GroupStrategy::strict_spread, std::vector<Resources>(4, cpus(2))).ok());
    for (int served = 0; served < 4; ++served) {
      world.run_until(world.now + 10 * kSecond);
      std::vector<Rank> ready;
      for (auto& node : world.nodes)
        if (!node->ready.empty()) ready.push_back(node->self);
      REQUIRE(ready.size() == 1);
      world.check_reservations();
      world.nodes[ready[0]]->groups.remove({ready[0], 1});
      world.nodes[ready[0]]->ready.clear();
    }
  }
}

TEST_CASE("after deaths every group is whole, waiting or failed, and nothing leaks") {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    GroupWorld world(equal_ranks(8, 2, "CPU=4,GPU=1"), seed);
    auto& rng = world.rng;
    std::uint64_t next = 1;
    for (int step = 0; step < 25; ++step) {
      const auto rank = static_cast<Rank>(rng.below(8));
      auto& node = *world.nodes[rank];
      if (!node.dead) {
        switch (rng.below(4)) {
          case 0:
          case 1: {
            std::vector<Resources> bundles(1 + rng.below(4));
            for (auto& bundle : bundles) {
              bundle = cpus(1 + rng.below(3));
              if (rng.chance(0.2)) bundle.set_gpu_units(Resources::kUnit);
            }
            const auto status = world.create({rank, next++}, static_cast<GroupStrategy>(rng.below(4)), bundles);
            if (!status) CHECK(status.error().code == Errc::unschedulable);
            break;
          }
          case 2:
            if (!node.ready.empty()) {
              const auto id = node.ready.begin()->first;
              node.groups.remove(id);
              node.ready.erase(id);
            }
            break;
          case 3:
            if (rank != 0 && rng.chance(0.5)) world.kill(rank);
            break;
        }
      }
      world.run_until(world.now + static_cast<Nanos>(rng.below(100 * kMicrosecond)));
    }
    world.run_until(world.now + 30 * kSecond);
    world.check_reservations();
    for (auto& node : world.nodes) {
      if (node->dead) continue;
      std::size_t waiting = 0;
      for (const auto& entry : world.strategies)
        if (entry.first.owner == node->self && node->groups.pending(entry.first)) ++waiting;
      CHECK(node->groups.groups() == node->ready.size() + waiting);
      for (const auto id : node->failed) CHECK(!node->ready.contains(id));
      // Removing all lets every pool return to what it was.
      std::vector<GroupId> ids;
      for (const auto& entry : world.strategies)
        if (entry.first.owner == node->self) ids.push_back(entry.first);
      for (const auto id : ids) node->groups.remove(id);
      node->ready.clear();
    }
    world.run_until(world.now + kSecond);
    for (auto& node : world.nodes)
      if (!node->dead) CHECK(node->pool.available() == node->pool.total());
  }
}

TEST_CASE("malformed group messages are errors and reserve nothing") {
  GroupWorld world(equal_ranks(3, 1, "CPU=4"), 1);
  auto& node = *world.nodes[0];
  Rng rng(5);
  REQUIRE(world.create({1, 1}, GroupStrategy::strict_spread, {cpus(1), cpus(1), cpus(1)}).ok());
  Bytes prepare;
  Writer out(prepare);
  out.put(std::uint8_t{1});
  out.id({1, 9});
  out.varint(1);
  out.varint(1);
  out.varint(0);
  cpus(1).encode(out);
  for (std::size_t cut = 0; cut < prepare.size(); ++cut)
    CHECK(node.groups.on_message(1, BytesView(prepare).first(cut), 0).error().code == Errc::malformed);
  CHECK(!node.groups.on_message(2, prepare, 0).ok());  // not its creator
  CHECK(!node.groups.on_message(7, prepare, 0).ok());  // no such rank
  CHECK(node.pool.bundles().empty());
  for (int i = 0; i < 20'000; ++i) {
    auto mangled = prepare;
    for (auto flips = 1 + rng.below(3); flips > 0; --flips)
      mangled[rng.below(mangled.size())] = static_cast<std::byte>(rng.below(i % 2 == 0 ? 8 : 256));
    (void)node.groups.on_message(1, mangled, 0);
  }
  node.groups.on_rank_lost(1, 0);
  CHECK(node.pool.available() == node.pool.total());
}
