// Groups among tasks and actors of a runtime, who meet by name. Rank 0 runs the cases, the others serve.
#include <doctest/doctest.h>

#include <numeric>
#include <vector>

#include "tests/ranks/everywhere.hpp"
#include "trireme/ml/group.hpp"

using namespace trireme;

namespace runtime_group_test {

double total(std::uint32_t rank, std::uint32_t size) {
  auto group = ml::make_group("total", rank, size);
  std::vector<double> data(100'000, rank + 1.0);
  group.all_reduce(std::span(data));
  return data.back();
}

double meet_and_wait(std::uint32_t rank, std::uint32_t size) {
  auto group = ml::make_group("meeting", rank, size, {.timeout_ns = 20'000'000'000});
  double mine = rank + 1.0;
  group.all_reduce(std::span(&mine, 1));
  return mine;
}

class Member {
 public:
  Member(std::uint32_t rank, std::uint32_t size) : group_(ml::make_group("actors", rank, size)) {}
  std::int64_t add(std::int64_t mine) {
    group_.all_reduce(std::span(&mine, 1));
    return mine;
  }

 private:
  ml::Communicator group_;
};

int error_code(std::uint32_t size) {
  try {
    ml::make_group("alone", 0, size, {.timeout_ns = 200'000'000});
  } catch (const ml::CollectiveError& error) {
    return static_cast<int>(error.code());
  }
  return 0;
}

}  // namespace runtime_group_test

using namespace runtime_group_test;

TEST_CASE("tasks on every rank form a group, again under the same name, and leave nothing behind") {
  for (int round = 0; round < 3; ++round) {
    std::vector<Ref<double>> results;
    for (Rank rank = 0; rank < rank_count(); ++rank)
      results.push_back(submit_with<&total>(test::on(rank), rank, rank_count()));
    for (auto& result : results) CHECK(get(result) == rank_count() * (rank_count() + 1) / 2.0);
  }
  std::string left;
  CHECK_MESSAGE(test::nothing_left(left), left);
}

TEST_CASE("where members meet answers the others before its own rank's thread is held by the first operation") {
  for (int round = 0; round < 200; ++round) {
    std::vector<Ref<double>> results;
    for (Rank rank = 0; rank < rank_count(); ++rank)
      results.push_back(submit_with<&meet_and_wait>(test::on(rank), rank, rank_count()));
    for (auto& result : results) CHECK(get(result) == rank_count() * (rank_count() + 1) / 2.0);
  }
}

TEST_CASE("actors keep their group between calls") {
  std::vector<Actor<Member>> members;
  for (Rank rank = 0; rank < rank_count(); ++rank)
    members.push_back(spawn_with<Member>(test::actor_on(rank), rank, rank_count()));
  for (std::int64_t round = 1; round <= 10; ++round) {
    std::vector<Ref<std::int64_t>> sums;
    for (Rank rank = 0; rank < rank_count(); ++rank)
      sums.push_back(members[rank].call<&Member::add>(round * (rank + 1)));
    for (auto& sum : sums) CHECK(get(sum) == round * rank_count() * (rank_count() + 1) / 2);
  }
}

TEST_CASE("who waits for members that never come is told so") {
  CHECK(get(submit<&error_code>(2U)) == static_cast<int>(Errc::timeout));
}
