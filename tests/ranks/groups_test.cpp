// Placement groups over all ranks. Every rank of these runs has two cores.
#include <doctest/doctest.h>

#include <set>

#include "tests/ranks/everywhere.hpp"

using trireme::Errc;
using trireme::GroupStrategy;
using trireme::PlacementGroup;
using trireme::Rank;
using trireme::Ref;
using trireme::Resources;
using namespace trireme::test;

namespace ranks_groups {

Rank where(int) { return trireme::this_rank(); }
struct Where {
  Rank rank() const { return trireme::this_rank(); }
};

std::vector<Resources> bundles(std::size_t count, double cpus) {
  Resources each;
  each.cpus = cpus;
  return std::vector<Resources>(count, each);
}
trireme::TaskOptions in(const PlacementGroup& group, int bundle) {
  trireme::TaskOptions options;
  options.placement = group.on(bundle);
  return options;
}
std::size_t nodes() { return apart() ? trireme::rank_count() : 1; }

/// Runs a task in each bundle and tells where they ran.
std::vector<Rank> places(const PlacementGroup& group, int count) {
  std::vector<Ref<Rank>> refs;
  for (int i = 0; i < count; ++i) refs.push_back(trireme::submit_with<&where>(in(group, i), 0));
  return trireme::get(refs);
}

}  // namespace ranks_groups
using namespace ranks_groups;

TEST_CASE("packed bundles share a node where they fit") {
  for (const auto strategy : {GroupStrategy::pack, GroupStrategy::strict_pack}) {
    const PlacementGroup group(strategy, bundles(2, 1));
    trireme::get(group.ready());
    const auto ranks = places(group, 2);
    if (apart()) CHECK(ranks[0] == ranks[1]);
    CHECK(trireme::get(trireme::submit_with<&where>(in(group, -1), 0)) < trireme::rank_count());
  }
}

TEST_CASE("spread bundles take a rank each") {
  const PlacementGroup group(GroupStrategy::spread, bundles(trireme::rank_count(), 2));
  trireme::get(group.ready());
  const auto ranks = places(group, static_cast<int>(trireme::rank_count()));
  CHECK(std::set<Rank>(ranks.begin(), ranks.end()).size() == trireme::rank_count());
}

TEST_CASE("strictly spread bundles take a node each, or the group is an error that says why") {
  {
    const PlacementGroup group(GroupStrategy::strict_spread, bundles(nodes(), 1));
    trireme::get(group.ready());
    const auto ranks = places(group, static_cast<int>(nodes()));
    CHECK(std::set<Rank>(ranks.begin(), ranks.end()).size() == nodes());
  }
  const PlacementGroup impossible(GroupStrategy::strict_spread, bundles(nodes() + 1, 1));
  const auto error = thrown_by<trireme::Exception>([&] { trireme::get(impossible.ready()); });
  CHECK(error.code() == Errc::unschedulable);
  CHECK(error.message().find(std::to_string(nodes() + 1)) != std::string::npos);
  CHECK(error.message().find(std::to_string(nodes())) != std::string::npos);
  CHECK(thrown_by<trireme::Exception>([&] {
          trireme::get(trireme::submit_with<&where>(in(impossible, 0), 0));
        }).code() == Errc::unschedulable);
}

TEST_CASE("a group beyond the job's resources is an error at once") {
  const PlacementGroup group(GroupStrategy::pack, bundles(2 * trireme::rank_count() + 1, 1));
  CHECK(thrown_by<trireme::Exception>([&] { trireme::get(group.ready()); }).code() == Errc::unschedulable);
  const PlacementGroup strict(GroupStrategy::strict_pack, bundles(apart() ? 2 : trireme::rank_count() + 1, 2));
  CHECK(thrown_by<trireme::Exception>([&] { trireme::get(strict.ready()); }).code() == Errc::unschedulable);
}

TEST_CASE("groups that do not fit together follow one another") {
  for (int round = 0; round < 10; ++round) {
    const PlacementGroup group(GroupStrategy::spread, bundles(trireme::rank_count(), 2));
    trireme::get(group.ready());
    CHECK(places(group, static_cast<int>(trireme::rank_count())).size() == trireme::rank_count());
  }
}

TEST_CASE("actors live in bundles too") {
  const PlacementGroup group(GroupStrategy::spread, bundles(trireme::rank_count(), 2));
  std::set<Rank> ranks;
  std::vector<trireme::Actor<Where>> actors;
  for (int i = 0; i < static_cast<int>(trireme::rank_count()); ++i) {
    trireme::ActorOptions options;
    options.placement = group.on(i);
    options.resources.cpus = 1;
    actors.push_back(trireme::spawn_with<Where>(options));
  }
  for (const auto& actor : actors) ranks.insert(trireme::get(actor.call<&Where::rank>()));
  CHECK(ranks.size() == trireme::rank_count());
}

TEST_CASE("bad groups are refused") {
  CHECK(thrown_by<trireme::Exception>([] { PlacementGroup(GroupStrategy::pack, {}); }).code() ==
        Errc::invalid_argument);
  CHECK(thrown_by<trireme::Exception>([] { PlacementGroup(GroupStrategy::pack, bundles(1, -1)); }).code() ==
        Errc::invalid_argument);
  const PlacementGroup group(GroupStrategy::pack, bundles(1, 1));
  CHECK_THROWS_AS(trireme::get(trireme::submit_with<&where>(in(group, 5), 0)), trireme::Exception);
}

TEST_CASE("removed groups give their resources back, and nothing stays behind") {
  trireme::TaskOptions all;
  all.resources.cpus = 2;
  for (Rank rank = 0; rank < trireme::rank_count(); ++rank) {
    all.placement = trireme::Placement::on(rank);
    CHECK(trireme::get(trireme::submit_with<&where>(all, 0)) == rank);
  }
  std::string left;
  CHECK_MESSAGE(nothing_left(left), left);
}
