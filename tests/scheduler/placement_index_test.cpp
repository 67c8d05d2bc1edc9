#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "scheduler/placement.hpp"
#include "scheduler/placement_index.hpp"

using namespace trireme;
using namespace trireme::scheduler;

TEST_CASE("an index of room agrees with a table that is searched") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    const auto ranks = static_cast<std::uint32_t>(1 + rng.below(40));
    RoomIndex index(ranks, seed);
    std::map<Rank, double> table;
    for (int i = 0; i < 500; ++i) {
      const auto rank = static_cast<Rank>(rng.below(ranks));
      if (rng.chance(0.1)) {
        index.erase(rank);
        table.erase(rank);
      } else {
        // Whole and half numbers, so that there are equals.
        table[rank] = static_cast<double>(rng.below(16)) / 2 - 5;
        index.set(rank, table[rank]);
      }
      std::vector<Rank> avoid;
      for (auto n = rng.below(5); n > 0; --n) avoid.push_back(static_cast<Rank>(rng.below(ranks)));
      bool fits = false, busy = false;
      double most = -100;
      for (const auto& [candidate, room] : table) {
        if (std::find(avoid.begin(), avoid.end(), candidate) != avoid.end()) continue;
        fits = fits || room >= 1;
        busy = busy || room < 1;
        if (room < 1) most = std::max(most, room);
      }
      const auto is_avoided = [&](Rank r) { return std::find(avoid.begin(), avoid.end(), r) != avoid.end(); };
      const Rank free = index.fitting(avoid);
      REQUIRE((free != kNoRank) == fits);
      if (fits) {
        CHECK(table.at(free) >= 1);
        CHECK(!is_avoided(free));
      }
      const Rank least = index.least_busy(avoid);
      REQUIRE((least != kNoRank) == busy);
      if (busy) {
        CHECK(table.at(least) == most);
        CHECK(!is_avoided(least));
      }
    }
  }
}

TEST_CASE("ranks of equal room are all chosen") {
  RoomIndex index(10, 1);
  std::set<Rank> seen;
  for (Rank rank = 0; rank < 10; ++rank) index.set(rank, rank < 5 ? 1 : 0);
  for (int i = 0; i < 200; ++i) seen.insert(index.fitting({}));
  CHECK(seen == std::set<Rank>{0, 1, 2, 3, 4});
  seen.clear();
  for (int i = 0; i < 200; ++i) {
    const Rank rank = index.least_busy({});
    seen.insert(rank);
    index.set(rank, 0);  // as busy as it was
  }
  CHECK(seen == std::set<Rank>{5, 6, 7, 8, 9});
}

namespace {

Resources parsed(std::string_view text) { return *Resources::parse(text); }

/// One rank a node; every third has a label.
std::vector<RankInfo> large_job(std::uint32_t ranks) {
  std::vector<RankInfo> infos;
  for (Rank rank = 0; rank < ranks; ++rank)
    infos.push_back({parsed(rank % 2 == 0 ? "CPU=8,GPU=2" : "CPU=8"), std::to_string(rank),
                     rank % 3 == 0 ? Labels{{"fast", ""}} : Labels{}});
  return infos;
}

}  // namespace

TEST_CASE("in a large job a demand asked for often finds the one free rank, then the least busy") {
  constexpr std::uint32_t kRanks = 2000;
  ClusterView view(0, large_job(kRanks));
  Rng rng(1);
  Demand d;
  d.resources = parsed("GPU=1");
  // Two on each of the ranks with GPUs fill the job: each is found, although looks at random ranks would miss the last.
  for (std::uint32_t i = 0; i < kRanks; ++i) {
    auto choice = view.choose(d, rng);
    REQUIRE(choice.ok());
    CHECK(choice->rank % 2 == 0);
    REQUIRE(choice->fits_now);
    view.assume(choice->rank, d.resources);
  }
  CHECK(!view.choose(d, rng)->fits_now);
  view.update(1234, 1, parsed("GPU=1"));
  CHECK(view.choose(d, rng)->rank == 1234);
  CHECK(view.choose(d, rng, {1234})->rank != 1234);
  view.update(1234, 1, parsed("GPU=2"));
  view.on_rank_lost(1234);
  CHECK(view.choose(d, rng)->rank != 1234);
  for (Rank rank = 0; rank < kRanks; rank += 2) view.update(rank, 2, parsed("CPU=8"));
  // A backlog of one everywhere but on 10.
  for (Rank rank = 0; rank < kRanks; rank += 2)
    if (rank != 10) view.assume(rank, d.resources);
  auto least = view.choose(d, rng);
  CHECK(least->rank == 10);
  CHECK(!least->fits_now);
}

TEST_CASE("in a large job labels and the death of a whole class are seen by the index") {
  ClusterView view(1, large_job(900));
  Rng rng(1);
  Demand d;
  d.resources = parsed("GPU=1");
  d.labels = {{"fast", LabelRule::Op::does_not_exist, {}}};
  for (int i = 0; i < 300; ++i) {
    auto choice = view.choose(d, rng);
    REQUIRE(choice.ok());
    CHECK(choice->rank % 2 == 0);
    CHECK(choice->rank % 3 != 0);
    CHECK(choice->fits_now);
    view.assume(choice->rank, d.resources);
  }
  for (Rank rank = 0; rank < 900; rank += 2)
    if (rank % 3 != 0) view.on_rank_lost(rank);
  CHECK(view.choose(d, rng).error().code == Errc::unschedulable);
}

TEST_CASE("more kinds of demand than there are indexes are all placed") {
  constexpr std::uint32_t kRanks = 600;
  ClusterView view(0, large_job(kRanks));
  Rng rng(1);
  for (int round = 0; round < 60; ++round) {
    for (int kind = 1; kind <= 12; ++kind) {
      Demand d;
      d.resources.set_cpu_units(kind * 1000);
      // The first kinds come in bursts, which gives each an index that pushes another out.
      for (int i = 0; i < (round % 20 == kind ? 40 : 1); ++i) {
        auto choice = view.choose(d, rng);
        REQUIRE(choice.ok());
        CHECK(choice->fits_now);
        view.assume(choice->rank, d.resources);
        view.update(choice->rank, 1, view.total(choice->rank));
      }
    }
  }
}
