#include <doctest/doctest.h>

#include <numeric>
#include <set>
#include <vector>

#include "scheduler/victims.hpp"

using namespace trireme;
using namespace trireme::scheduler;

TEST_CASE("a rank set gives back its ranks, and regular ones take one run") {
  Rng rng(1);
  for (int round = 0; round < 200; ++round) {
    std::vector<Rank> ranks;
    for (Rank rank = 0; rank < 60; ++rank)
      if (rng.chance(0.1 + 0.01 * (round % 80))) ranks.push_back(rank);
    const auto set = RankSet::of(ranks);
    CAPTURE(round);
    REQUIRE(set.size() == ranks.size());
    for (std::uint32_t i = 0; i < set.size(); ++i) CHECK(set.at(i) == ranks[i]);
    CHECK(set.at(set.size()) == kNoRank);
  }
  std::vector<Rank> cyclic;
  for (Rank rank = 3; rank < 100'000; rank += 512) cyclic.push_back(rank);
  CHECK(RankSet::of(cyclic).runs() == 1);
}

TEST_CASE("victims come from the level asked, never oneself, and all of them") {
  std::vector<std::uint32_t> node(12), job(12, 0);
  for (Rank rank = 0; rank < 12; ++rank) node[rank] = rank % 3;  // cyclic placement
  const std::vector<std::vector<std::uint32_t>> groups{node, job};
  const auto victims = Victims::from_levels(4, 12, groups);
  // The job-wide level of the topology is the whole job already.
  REQUIRE(victims.levels() == 2);
  Rng rng(1);
  std::set<Rank> near, far;
  for (int i = 0; i < 2000; ++i) {
    near.insert(victims.pick(0, rng));
    far.insert(victims.pick(1, rng));
  }
  CHECK(near == std::set<Rank>{1, 7, 10});
  CHECK(far.size() == 11);
  CHECK(!far.contains(4));
}

TEST_CASE("a job of one rank has no victims") {
  const Victims victims(0, 1);
  Rng rng(1);
  CHECK(victims.levels() == 0);
  CHECK(victims.pick(0, rng) == kNoRank);
  CHECK(lifeline_dimensions(1) == 0);
}

TEST_CASE("the lifeline graph is symmetric, connected and as deep as its dimensions") {
  for (const std::uint32_t size : {2U, 3U, 5U, 8U, 100U, 1000U, 4097U}) {
    CAPTURE(size);
    std::vector<std::uint32_t> depth(size, UINT32_MAX);
    std::vector<Rank> front{0};
    depth[0] = 0;
    std::uint32_t deepest = 0;
    while (!front.empty()) {
      std::vector<Rank> next;
      for (const Rank rank : front) {
        for (std::uint32_t d = 0; d < lifeline_dimensions(size); ++d) {
          const Rank other = lifeline(rank, size, d, 0);
          if (other == kNoRank) continue;
          CHECK(lifeline(other, size, d, 0) == rank);
          if (depth[other] != UINT32_MAX) continue;
          depth[other] = depth[rank] + 1;
          deepest = std::max(deepest, depth[other]);
          next.push_back(other);
        }
      }
      front = std::move(next);
    }
    for (const auto d : depth) CHECK(d != UINT32_MAX);
    CHECK(deepest <= lifeline_dimensions(size));
  }
}

TEST_CASE("among some ranks of a job only those are victims") {
  const std::vector<Rank> present{0, 3, 4, 9};
  const auto victims = Victims::among(3, 100, present);
  CHECK(victims.size() == 100);
  REQUIRE(victims.levels() == 1);
  Rng rng(1);
  std::set<Rank> picked;
  for (int i = 0; i < 200; ++i) picked.insert(victims.pick(0, rng));
  CHECK(picked == std::set<Rank>{0, 4, 9});
  CHECK(Victims::among(3, 100, std::vector<Rank>{3}).levels() == 0);
}
