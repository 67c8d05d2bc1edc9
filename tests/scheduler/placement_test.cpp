#include <doctest/doctest.h>

#include <set>
#include <string>
#include <utility>

#include "scheduler/placement.hpp"
#include "scheduler/placement_queue.hpp"

using namespace trireme;
using namespace trireme::scheduler;

namespace {

Resources parsed(std::string_view text) { return *Resources::parse(text); }
Demand demand(std::string_view text) {
  Demand out;
  out.resources = parsed(text);
  return out;
}
bool mentions(const Error& error, std::string_view text) { return error.message.find(text) != std::string::npos; }

/// Two nodes of two ranks: CPU only, and with GPUs.
std::vector<RankInfo> small_job() {
  return {{parsed("CPU=4"), "a", {{"zone", "x"}}},
          {parsed("CPU=4"), "a", {{"zone", "x"}}},
          {parsed("CPU=8,GPU=2"), "b", {{"zone", "y"}, {"fast", ""}}},
          {parsed("CPU=8,GPU=2"), "b", {{"zone", "y"}, {"fast", ""}}}};
}

BundleKey key_of() { return {{1, 1}, 0}; }

}  // namespace

TEST_CASE("what fits no living rank is an error that says what was asked and what exists") {
  ClusterView view(0, small_job());
  Rng rng(1);
  const auto result = view.choose(demand("GPU=4"), rng);
  REQUIRE(!result.ok());
  CHECK(result.error().code == Errc::unschedulable);
  for (const auto* text :
       {"{GPU: 4}", "2 of {CPU: 4}", "2 of {CPU: 8, GPU: 2}", "largest {GPU: 2} on rank 2", "cannot grow"})
    CHECK_MESSAGE(mentions(result.error(), text), result.error().message);
  CHECK(mentions(view.choose(demand("tpu=1"), rng).error(), "no tpu on any rank"));
  // Each amount exists, but never on one rank.
  view.on_rank_lost(2);
  view.on_rank_lost(3);
  CHECK(view.choose(demand("GPU=1"), rng).error().code == Errc::unschedulable);
  ClusterView elastic(0, small_job(), true);
  CHECK(elastic.choose(demand("GPU=4"), rng).error().code == Errc::unavailable);
}

TEST_CASE("locality first, then the own rank, then the own node, then any") {
  ClusterView view(0, small_job());
  Rng rng(1);
  auto d = demand("CPU=2");
  CHECK(view.choose(d, rng)->rank == 0);
  d.hints = {{1, 10}, {3, 100}, {2, 50}};
  CHECK(view.choose(d, rng)->rank == 3);
  view.update(3, 1, parsed("CPU=1"));
  CHECK(view.choose(d, rng)->rank == 2);
  view.on_rank_lost(2);
  CHECK(view.choose(d, rng)->rank == 1);
  d.hints = {{99, 10}};  // a rank that is not there
  view.update(0, 1, {});
  CHECK(view.choose(d, rng)->rank == 1);
  view.update(1, 1, {});
  view.update(3, 2, parsed("CPU=8"));
  CHECK(view.choose(d, rng)->rank == 3);
  view.update(3, 1, {});  // older than known
  CHECK(view.choose(d, rng)->rank == 3);
}

TEST_CASE("when all are busy the least busy is chosen, and one that bounced only as the last resort") {
  ClusterView view(0, small_job());
  Rng rng(1);
  for (Rank rank = 0; rank < 4; ++rank) view.update(rank, 1, {});
  view.assume(2, parsed("GPU=1"));
  auto choice = view.choose(demand("GPU=1"), rng);
  CHECK(choice->rank == 3);
  CHECK(!choice->fits_now);
  CHECK(view.choose(demand("GPU=1"), rng, {3})->rank == 2);
  auto again = view.choose(demand("GPU=1"), rng, {2, 3});
  CHECK((again->rank == 2 || again->rank == 3));
}

TEST_CASE("spread goes round all that are large enough, and past the busy") {
  ClusterView view(1, small_job());
  Rng rng(1);
  auto d = demand("CPU=1");
  d.strategy = Strategy::spread;
  std::multiset<Rank> seen;
  for (int i = 0; i < 8; ++i) seen.insert(view.choose(d, rng)->rank);
  for (Rank rank = 0; rank < 4; ++rank) CHECK(seen.count(rank) == 2);
  view.update(0, 1, {});
  seen.clear();
  for (int i = 0; i < 6; ++i) seen.insert(view.choose(d, rng)->rank);
  CHECK(seen.count(0) == 0);
  CHECK(seen.count(1) == 2);
}

TEST_CASE("node affinity is kept when hard and a wish when soft") {
  ClusterView view(0, small_job());
  Rng rng(1);
  auto d = demand("CPU=1");
  d.strategy = Strategy::node_affinity;
  d.affinity_rank = 3;
  CHECK(view.choose(d, rng)->rank == 3);
  view.update(3, 1, {});
  CHECK(view.choose(d, rng)->rank == 3);
  CHECK(!view.choose(d, rng)->fits_now);
  view.on_rank_lost(3);
  CHECK(mentions(view.choose(d, rng).error(), "rank 3, which is dead"));
  d.soft = true;
  CHECK(view.choose(d, rng).ok());
  d = demand("CPU=1");
  d.strategy = Strategy::node_affinity;
  d.affinity_node = "b";
  CHECK(view.choose(d, rng)->rank == 2);
  d.affinity_node = "c";
  CHECK(mentions(view.choose(d, rng).error(), "node c, which is not in this job"));
  d.affinity_node = "a";
  d.resources = parsed("GPU=1");
  CHECK(view.choose(d, rng).error().code == Errc::unschedulable);
  d.soft = true;
  CHECK(view.choose(d, rng)->rank == 2);
}

TEST_CASE("labels restrict where a task may run") {
  ClusterView view(0, small_job());
  Rng rng(1);
  auto d = demand("CPU=1");
  d.labels = {{"zone", LabelRule::Op::in, {"y", "z"}}};
  CHECK(view.choose(d, rng)->rank >= 2);
  d.labels = {{"zone", LabelRule::Op::not_in, {"x"}}};
  CHECK(view.choose(d, rng)->rank >= 2);
  d.labels = {{"fast", LabelRule::Op::exists, {}}};
  CHECK(view.choose(d, rng)->rank >= 2);
  d.labels.push_back({"zone", LabelRule::Op::in, {"x"}});
  const auto none = view.choose(d, rng);
  CHECK(mentions(none.error(), "zone in (x)"));
  d.labels = {{"fast", LabelRule::Op::does_not_exist, {}}, {"other", LabelRule::Op::not_in, {"1"}}};
  CHECK(view.choose(d, rng)->rank <= 1);
}

TEST_CASE("choose agrees with brute force on feasibility and never picks a busy rank while one is free") {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    const auto random_resources = [&](std::uint64_t most) {
      Resources r;
      r.set_cpu_units(static_cast<std::int64_t>(rng.below(most)) * Resources::kUnit);
      r.set_gpu_units(static_cast<std::int64_t>(rng.below(3)) * Resources::kUnit);
      if (rng.chance(0.3)) r.set_custom_units("x", static_cast<std::int64_t>(1 + rng.below(2)) * Resources::kUnit);
      return r;
    };
    std::vector<RankInfo> infos(1 + rng.below(8));
    for (auto& info : infos)
      info = {random_resources(6), std::to_string(rng.below(3)), rng.chance(0.5) ? Labels{{"l", "1"}} : Labels{}};
    ClusterView view(static_cast<Rank>(rng.below(infos.size())), infos);
    std::vector<Resources> free(infos.size());
    std::vector<bool> dead(infos.size());
    for (Rank rank = 0; rank < infos.size(); ++rank) {
      free[rank] = infos[rank].total;
      if (rng.chance(0.4)) view.update(rank, 1, free[rank] = random_resources(4));
      if (infos.size() > 1 && rank != view.self() && rng.chance(0.2)) {
        dead[rank] = true;
        view.on_rank_lost(rank);
      }
    }
    for (int i = 0; i < 20; ++i) {
      Demand d;
      d.resources = random_resources(6);
      d.strategy = rng.chance(0.5) ? Strategy::spread : Strategy::normal;
      if (rng.chance(0.3)) d.labels = {{"l", LabelRule::Op::exists, {}}};
      bool feasible = false, free_now = false;
      const auto can = [&](Rank rank) {
        return !dead[rank] && d.resources.fits(infos[rank].total) && (d.labels.empty() || !infos[rank].labels.empty());
      };
      for (Rank rank = 0; rank < infos.size(); ++rank) {
        feasible = feasible || can(rank);
        free_now = free_now || (can(rank) && d.resources.fits(free[rank]));
      }
      const auto choice = view.choose(d, rng);
      REQUIRE(choice.ok() == feasible);
      if (!feasible) continue;
      CHECK(can(choice.value().rank));
      CHECK(choice.value().fits_now == free_now);
    }
  }
}

TEST_CASE("tasks of a group go to its bundles") {
  ClusterView view(0, small_job());
  Rng rng(1);
  const GroupId group{0, 1};
  auto d = demand("CPU=1");
  d.strategy = Strategy::placement_group;
  d.group = group;
  CHECK(view.choose(d, rng).error().code == Errc::not_found);
  view.set_group(group, {{parsed("CPU=1"), parsed("CPU=2"), parsed("CPU=1")}, {1, 2, 3}});
  std::set<std::int32_t> used;
  for (int i = 0; i < 3; ++i) used.insert(view.choose(d, rng)->bundle);
  CHECK(used == std::set<std::int32_t>{0, 1, 2});
  d.bundle = 1;
  CHECK(view.choose(d, rng)->rank == 2);
  d.bundle = 3;
  CHECK(view.choose(d, rng).error().code == Errc::invalid_argument);
  d.bundle = -1;
  d.resources = parsed("CPU=2");
  CHECK(view.choose(d, rng)->bundle == 1);
  view.on_rank_lost(2);
  CHECK(view.choose(d, rng).error().code == Errc::unavailable);
  d.resources = parsed("CPU=3");
  CHECK(view.choose(d, rng).error().code == Errc::unschedulable);
  d.resources = parsed("CPU=1");
  d.hints = {{3, 5}};
  CHECK(view.choose(d, rng)->bundle == 2);
}

TEST_CASE("demands and rank descriptions survive the wire; no prefix and no mangled copy harms") {
  auto d = demand("CPU=1,x=2");
  d.labels = {{"zone", LabelRule::Op::in, {"a", "b"}}, {"k", LabelRule::Op::exists, {}}};
  d.hints = {{3, 1000}, {5, 1}};
  Rng rng(1);
  for (const auto strategy : {Strategy::normal, Strategy::node_affinity, Strategy::placement_group}) {
    d.strategy = strategy;
    d.affinity_rank = kNoRank;
    d.affinity_node = strategy == Strategy::node_affinity ? "host" : "";
    d.soft = strategy == Strategy::node_affinity;
    d.group = strategy == Strategy::placement_group ? GroupId{1, 7} : GroupId{};
    d.bundle = strategy == Strategy::placement_group ? 4 : -1;
    Bytes bytes;
    Writer out(bytes);
    d.encode(out);
    Reader in(bytes);
    CHECK(Demand::decode(in) == d);
    CHECK(in.done());
    for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
      Reader part(BytesView(bytes).first(cut));
      (void)Demand::decode(part);
      CHECK(!part.ok());
    }
    for (int i = 0; i < 2000; ++i) {
      auto mangled = bytes;
      for (auto flips = 1 + rng.below(4); flips > 0; --flips)
        mangled[rng.below(mangled.size())] = static_cast<std::byte>(rng.below(256));
      Reader bad(mangled);
      (void)Demand::decode(bad);
    }
  }
  const RankInfo info{parsed("CPU=2"), "node", {{"a", "b"}}};
  Bytes bytes;
  Writer out(bytes);
  info.encode(out);
  Reader in(bytes);
  CHECK(RankInfo::decode(in) == info);
}

TEST_CASE("a class that does not fit lets others pass, and keeps its own order") {
  ResourcePool pool(parsed("CPU=2,GPU=1"));
  PlacementQueue queue(pool, {.bounces_max = 0, .starving_after = kSecond});
  using Offer = PlacementQueue::Offer;
  CHECK(queue.offer(1, parsed("GPU=1"), {}, 0, 0) == Offer::start);
  CHECK(queue.offer(2, parsed("GPU=1"), {}, 0, 1) == Offer::queued);
  CHECK(queue.offer(3, parsed("GPU=1"), {}, 0, 2) == Offer::queued);
  CHECK(queue.offer(4, parsed("CPU=2"), {}, 0, 3) == Offer::start);
  CHECK(queue.offer(5, parsed("GPU=2"), {}, 0, 4) == Offer::refused);
  CHECK(queue.offer(6, parsed("CPU=1"), key_of(), 0, 4) == Offer::refused);
  std::vector<HolderId> start;
  queue.drain(5, start);
  CHECK(start.empty());
  pool.release(1);
  queue.drain(6, start);
  CHECK(start == std::vector<HolderId>{2});
  CHECK(queue.cancel(3));
  CHECK(!queue.cancel(3));
  CHECK(queue.size() == 0);
}

TEST_CASE("a demand bounces twice before the target keeps it, one of a bundle never") {
  ResourcePool pool(parsed("CPU=2"));
  PlacementQueue queue(pool);
  using Offer = PlacementQueue::Offer;
  REQUIRE(pool.try_reserve(key_of(), parsed("CPU=1")));
  CHECK(queue.offer(1, parsed("CPU=0.6"), key_of(), 0, 0) == Offer::start);
  CHECK(queue.offer(2, parsed("CPU=0.6"), key_of(), 0, 0) == Offer::queued);
  CHECK(queue.offer(3, parsed("CPU=2"), {}, 0, 0) == Offer::bounce);
  CHECK(queue.offer(3, parsed("CPU=2"), {}, 1, 0) == Offer::bounce);
  CHECK(queue.offer(3, parsed("CPU=2"), {}, 2, 0) == Offer::queued);
  std::vector<HolderId> out;
  queue.cancel_bundle(key_of(), out);
  CHECK(out == std::vector<HolderId>{2});
  pool.release(1);
  pool.cancel_reservation(key_of());
  out.clear();
  queue.drain(1, out);
  CHECK(out == std::vector<HolderId>{3});
}

TEST_CASE("a demand of any bundle takes the first with room, and goes on when none has") {
  ResourcePool pool(parsed("CPU=4"));
  PlacementQueue queue(pool, {.bounces_max = 1, .starving_after = 10});
  using Offer = PlacementQueue::Offer;
  const auto group = key_of().group;
  const BundleKey small{group, 0}, large{group, 1}, any{group, BundleKey::kAny};
  REQUIRE(pool.try_reserve(small, parsed("CPU=1")));
  REQUIRE(pool.try_reserve(large, parsed("CPU=2")));
  CHECK(queue.offer(1, parsed("CPU=3"), any, 0, 0) == Offer::refused);
  CHECK(queue.offer(1, parsed("CPU=2"), any, 0, 0) == Offer::start);
  CHECK(pool.bundle_of(1) == large);
  CHECK(queue.offer(2, parsed("CPU=2"), any, 0, 0) == Offer::bounce);
  CHECK(queue.offer(2, parsed("CPU=2"), any, 1, 0) == Offer::queued);
  CHECK(queue.offer(3, parsed("CPU=2"), any, UINT32_MAX, 0) == Offer::queued);
  // One that starves keeps nothing from those that fit elsewhere.
  CHECK(queue.offer(4, parsed("CPU=1"), any, 0, 20) == Offer::start);
  CHECK(pool.bundle_of(4) == small);
  std::vector<HolderId> out;
  CHECK(queue.take_stuck(-1, 9, out));
  CHECK(out.empty());
  CHECK(!queue.take_stuck(20, 9, out));
  CHECK(out == std::vector<HolderId>{2});  // 3 can go nowhere else
  out.clear();
  CHECK(queue.offer(5, parsed("CPU=2"), any, 1, 20) == Offer::queued);
  pool.release(1);
  queue.drain(30, out);
  CHECK(out == std::vector<HolderId>{3});
  out.clear();
  CHECK(queue.take_stuck(25, 9, out));
  CHECK(out.empty());  // one has started since
  queue.cancel_bundle(small, out);
  CHECK(out.empty());
  queue.cancel_bundle(large, out);
  CHECK(out == std::vector<HolderId>{5});
}

TEST_CASE("a large demand starts in the end although small ones keep coming") {
  ResourcePool pool(parsed("CPU=4,x=1"));
  PlacementQueue queue(pool, {.bounces_max = 0, .starving_after = 100});
  Rng rng(1);
  HolderId next = 2;
  std::vector<std::pair<Nanos, HolderId>> running;
  std::vector<HolderId> start;
  std::set<HolderId> small;
  Nanos started = -1;
  for (Nanos now = 0; now < 2000; ++now) {
    start.clear();
    bool freed = false;
    std::erase_if(running, [&](const auto& entry) {
      if (entry.first > now) return false;
      pool.release(entry.second);
      freed = true;
      return true;
    });
    if (now == 10) CHECK(queue.offer(1, parsed("CPU=4"), {}, 0, now) == PlacementQueue::Offer::queued);
    if (freed) queue.drain(now, start);
    if (queue.offer(next, parsed("CPU=1.5"), {}, 0, now) == PlacementQueue::Offer::start) start.push_back(next);
    ++next;
    for (const auto holder : start) {
      if (holder == 1) started = now;
      running.emplace_back(now + 5 + static_cast<Nanos>(rng.below(40)), holder);
    }
    // What it does not ask for stays open to others while it starves.
    if (now == 500 && started < 0)
      CHECK(queue.offer(next++, parsed("x=1"), {}, 0, now) == PlacementQueue::Offer::start);
  }
  CHECK(started >= 10);
  CHECK(started <= 10 + 100 + 45);
}

TEST_CASE("what waits counts against the headroom until it starts, is cancelled or is taken") {
  ResourcePool pool(parsed("CPU=2"));
  PlacementQueue queue(pool, {.bounces_max = 0, .starving_after = kSecond});
  auto version = queue.version();
  const auto changed = [&] { return std::exchange(version, queue.version()) < version; };
  const auto cpu = [&] { return queue.headroom().cpu_units() / Resources::kUnit; };
  queue.offer(1, parsed("CPU=2"), {}, 0, 0);
  for (HolderId holder = 2; holder <= 5; ++holder) queue.offer(holder, parsed("CPU=1"), {}, 0, 0);
  CHECK(cpu() == -4);
  CHECK(changed());
  CHECK(queue.cancel(2));
  CHECK(cpu() == -3);
  CHECK(changed());
  std::vector<HolderId> taken;
  queue.take_fitting(parsed("CPU=1"), 8, taken);
  CHECK(cpu() == -2);
  pool.release(1);
  queue.drain(1, taken);
  CHECK(cpu() == 0);
  CHECK(changed());
  CHECK(pool.available().cpu_units() == 0);
}

TEST_CASE("thieves get the oldest that fit together") {
  ResourcePool pool(parsed("CPU=1,GPU=1"));
  PlacementQueue queue(pool, {.bounces_max = 0, .starving_after = kSecond});
  REQUIRE(queue.offer(1, parsed("CPU=1,GPU=1"), {}, 0, 0) == PlacementQueue::Offer::start);
  for (HolderId holder = 2; holder <= 5; ++holder)
    REQUIRE(queue.offer(holder, parsed(holder % 2 == 0 ? "GPU=1" : "CPU=0.5"), {}, 0, 0) ==
            PlacementQueue::Offer::queued);
  std::vector<HolderId> taken;
  queue.take_fitting(parsed("CPU=2,GPU=1"), 3, taken);
  CHECK(taken == std::vector<HolderId>{2, 3, 5});
  CHECK(queue.size() == 1);
}

TEST_CASE("what was assumed of a rank counts until its next report, and an older one says nothing") {
  ClusterView view(0, {RankInfo{Resources::cpus(2), "a", {}}, RankInfo{Resources::cpus(2), "b", {}}});
  view.assume(1, Resources::cpus(1));
  view.assume(1, Resources::cpus(1));
  CHECK(view.available(1) == Resources::cpus(0));
  view.update(1, 3, Resources::cpus(1));
  CHECK(view.available(1) == Resources::cpus(1));
  view.assume(1, Resources::cpus(1));
  view.update(1, 2, Resources::cpus(2));
  CHECK(view.available(1) == Resources::cpus(0));
  view.update(1, 3, Resources::cpus(1));
  CHECK(view.available(1) == Resources::cpus(1));
}

TEST_CASE("what a rank sent counts until a report that has heard it, not one that was on its way") {
  ClusterView view(0, {RankInfo{parsed("CPU=4"), "a", {}}, RankInfo{parsed("CPU=4,GPU=2,tool=1"), "b", {}}});
  view.assume(1, parsed("CPU=1"), 5);
  view.assume(1, parsed("CPU=1,tool=1"), 7);
  CHECK(view.available(1) == parsed("CPU=2,GPU=2"));
  view.update(1, 2, parsed("CPU=4,GPU=1,tool=1"), 4);
  CHECK(view.available(1) == parsed("CPU=2,GPU=1"));
  view.update(1, 3, parsed("CPU=3,GPU=1,tool=1"), 6);
  CHECK(view.available(1) == parsed("CPU=2,GPU=1"));
  view.expect(1, parsed("CPU=1"), 9);
  CHECK(view.available(1) == parsed("CPU=3,GPU=1"));
  view.update(1, 4, parsed("CPU=2,GPU=2"), 8);
  CHECK(view.available(1) == parsed("CPU=3,GPU=2"));
  view.update(1, 5, parsed("CPU=3,GPU=2,tool=1"), 9);
  CHECK(view.available(1) == parsed("CPU=3,GPU=2,tool=1"));
  view.assume(1, parsed("CPU=1"), 10);
  view.update(1, 5, parsed("CPU=3,GPU=2,tool=1"), 10);
  CHECK(view.available(1) == parsed("CPU=3,GPU=2,tool=1"));
}

TEST_CASE("an empty seat is nobody; its rank is told of first, and chosen once all know it") {
  auto job = small_job();
  job.push_back({parsed("CPU=64"), "ignored", {{"zone", "ignored"}}});
  const std::vector<Seat> seats{Seat::taken, Seat::taken, Seat::dead, Seat::taken, Seat::empty};
  ClusterView view(0, job, true, seats);
  Rng rng(1);
  CHECK(view.nodes() == 2);
  CHECK(view.total(4).empty());
  CHECK(!view.alive(2));
  CHECK(!view.alive(4));
  // Asked for often enough, a demand has an index by now, if it is a large job; the kind of rank is new in any case.
  for (int i = 0; i < 100; ++i) CHECK(view.choose(demand("CPU=16"), rng).error().code == Errc::unavailable);
  auto there = demand("CPU=1");
  there.strategy = Strategy::node_affinity;
  there.affinity_rank = 4;
  auto refused = view.choose(there, rng);
  CHECK(refused.error().code == Errc::unavailable);
  CHECK(mentions(refused.error(), "has not come yet"));
  // A rank that died does not come back.
  there.affinity_rank = 2;
  CHECK(view.choose(there, rng).error().code == Errc::unschedulable);

  view.on_rank_coming(4, {parsed("CPU=16,tpu=1"), "c", {{"zone", "z"}}});
  CHECK(view.nodes() == 3);
  CHECK(view.node_id(4) == "c");
  CHECK(view.labels(4).at("zone") == "z");
  CHECK(view.comes(4));
  CHECK(!view.alive(4));
  CHECK(view.choose(demand("tpu=1"), rng).error().code == Errc::unavailable);
  // Others may have placed bundles there already.
  const GroupId group{1, 1};
  view.set_group(group, {{parsed("CPU=1")}, {4}});
  auto inside = demand("CPU=1");
  inside.strategy = Strategy::placement_group;
  inside.group = group;
  CHECK(view.choose(inside, rng)->rank == 4);
  view.update(4, 1, parsed("CPU=15,tpu=1"));

  view.on_rank_joined(4);
  CHECK(view.alive(4));
  CHECK(!view.comes(4));
  CHECK(view.choose(demand("tpu=1"), rng)->rank == 4);
  CHECK(!view.choose(demand("CPU=16"), rng)->fits_now);
  there.affinity_rank = 4;
  CHECK(view.choose(there, rng)->rank == 4);
  view.on_rank_lost(4);
  CHECK(view.choose(demand("tpu=1"), rng).error().code == Errc::unavailable);
  CHECK(view.choose(there, rng).error().code == Errc::unschedulable);
}

TEST_CASE("a rank that dies before all know it is dead like any other") {
  auto job = small_job();
  job.emplace_back();
  ClusterView view(0, job, true, {Seat::taken, Seat::taken, Seat::taken, Seat::taken, Seat::empty});
  Rng rng(1);
  view.on_rank_coming(4, {parsed("tpu=1"), "c", {}});
  view.on_rank_lost(4);
  view.on_rank_joined(4);
  CHECK(!view.alive(4));
  CHECK(view.choose(demand("tpu=1"), rng).error().code == Errc::unavailable);
  auto left = view.choose(demand("CPU=8"), rng);
  REQUIRE(left.ok());
  CHECK((left->rank == 2 || left->rank == 3));
}

TEST_CASE("a rank that joins a large job is found through the index of a demand that was asked for often") {
  constexpr Rank kRanks = 400;
  std::vector<RankInfo> job(kRanks, RankInfo{parsed("CPU=1"), "a", {}});
  std::vector<Seat> seats(kRanks, Seat::taken);
  for (Rank rank = kRanks - 2; rank < kRanks; ++rank) seats[rank] = Seat::empty;
  ClusterView view(0, job, true, seats);
  Rng rng(1);
  for (int i = 0; i < 100; ++i) CHECK(view.choose(demand("CPU=1"), rng).ok());
  for (Rank rank = 0; rank < kRanks; ++rank) view.update(rank, 1, {});
  CHECK(!view.choose(demand("CPU=1"), rng)->fits_now);
  // One of a known kind, one of a new kind.
  for (Rank rank = kRanks - 2; rank < kRanks; ++rank) {
    view.on_rank_coming(rank, {parsed(rank == kRanks - 2 ? "CPU=1" : "CPU=2"), "b", {}});
    view.update(rank, 1, view.total(rank));
    CHECK(!view.choose(demand("CPU=1"), rng)->fits_now);
    view.on_rank_joined(rank);
    auto choice = view.choose(demand("CPU=1"), rng);
    CHECK(choice->rank == rank);
    CHECK(choice->fits_now);
    view.update(rank, 2, {});
  }
}
