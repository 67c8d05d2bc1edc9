// Tasks over all ranks: placement, results, stealing, errors.
#include <doctest/doctest.h>

#include <set>
#include <stdexcept>

#include "tests/ranks/everywhere.hpp"

using trireme::Errc;
using trireme::Rank;
using trireme::Ref;
using trireme::TaskError;
using namespace trireme::test;

namespace ranks_tasks {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kLargest = 4U << 20U;
#else
constexpr std::size_t kLargest = 32U << 20U;
#endif

std::uint8_t pattern(std::size_t i, int seed) {
  return static_cast<std::uint8_t>((i * 131 + (i >> 8U)) ^ static_cast<std::size_t>(seed));
}
std::vector<std::uint8_t> make(std::size_t bytes, int seed) {
  std::vector<std::uint8_t> out(bytes);
  for (std::size_t i = 0; i < bytes; ++i) out[i] = pattern(i, seed);
  return out;
}
bool right(const std::vector<std::uint8_t>& bytes, std::size_t size, int seed) {
  if (bytes.size() != size) return false;
  for (std::size_t i = 0; i < size; ++i) {
    if (bytes[i] != pattern(i, seed)) return false;
  }
  return true;
}

Rank where(int) { return trireme::this_rank(); }
Rank relay(Rank to) { return trireme::get(trireme::submit_with<&where>(on(to), 0)); }
int add(int a, int b) { return a + b; }
int fail(int n) { throw std::out_of_range("no " + std::to_string(n)); }
int pass(int n) { return n; }
std::size_t size_of(const std::vector<std::uint8_t>& bytes) { return bytes.size(); }
int sum_of(const std::vector<Ref<int>>& refs) {
  int sum = 0;
  for (const auto& ref : refs) sum += trireme::get(ref);
  return sum;
}
struct Adder {
  int total = 0;
  int add(int n) { return total += n; }
};
int get_inside(Ref<int> ref) { return trireme::get(ref); }
std::tuple<int, std::string, std::vector<std::uint8_t>> three(int n) {
  if (n < 0) throw std::invalid_argument("negative");
  return {n, std::string(static_cast<std::size_t>(n), 's'), make(static_cast<std::size_t>(n) * 1000, n)};
}
trireme::Async<int> later(Ref<int> ref, int n) { co_return co_await ref + n; }

/// Long enough to be worth stealing.
Rank work(int n) {
  volatile double x = n;
  for (int i = 0; i < 20'000; ++i) x = x * 1.0000001 + 1;
  return trireme::this_rank();
}
int tree(int depth) {
  if (depth == 0) return work(1) >= 0 ? 1 : 0;
  const auto left = trireme::submit<&tree>(depth - 1);
  const auto right = trireme::submit<&tree>(depth - 1);
  return trireme::get(left) + trireme::get(right);
}

}  // namespace ranks_tasks
using namespace ranks_tasks;

TEST_CASE("tasks run where they are told, from any rank") {
  for (Rank rank = 0; rank < trireme::rank_count(); ++rank) {
    CHECK(trireme::get(trireme::submit_with<&where>(on(rank), 0)) == rank);
    for (Rank to = 0; to < trireme::rank_count(); ++to)
      CHECK(trireme::get(trireme::submit_with<&relay>(on(rank), to)) == to);
  }
}

TEST_CASE("results of every size come back, and go on as arguments") {
  const Rank last = trireme::rank_count() - 1;
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{100}, std::size_t{4096}, std::size_t{8191}, std::size_t{8192},
        std::size_t{8193}, std::size_t{65'536}, std::size_t{1} << 20U, kLargest}) {
    CAPTURE(size);
    const auto result = trireme::submit_with<&make>(on(last), size, 3);
    const auto here = trireme::submit_with<&right>(on(0), result, size, 3);
    const auto there = trireme::submit_with<&right>(on(last / 2), result, size, 3);
    CHECK(trireme::get(there));
    CHECK(trireme::get(here));
    CHECK(right(trireme::get(result), size, 3));
  }
}

TEST_CASE("values of every size travel as arguments") {
  const Rank last = trireme::rank_count() - 1;
  for (const std::size_t size : {std::size_t{0}, std::size_t{8193}, std::size_t{300'000}, kLargest / 4}) {
    CAPTURE(size);
    CHECK(trireme::get(trireme::submit_with<&right>(on(last), make(size, 5), size, 5)));
    CHECK(trireme::get(trireme::submit_with<&right>(on(last), trireme::put(make(size, 5)), size, 5)));
  }
}

TEST_CASE("a small value that is there goes with the task or call: nobody asks for it, or lets go of it") {
  for (Rank rank = 0; rank < trireme::rank_count(); ++rank) {
    const auto small = trireme::put(5);
    const auto made = trireme::submit<&pass>(6);
    CHECK(trireme::get(made) == 6);
    CHECK(trireme::get(trireme::submit_with<&add>(on(rank), small, made)) == 11);
    auto adder = trireme::spawn_with<Adder>(actor_on(rank));
    CHECK(trireme::get(adder.call<&Adder::add>(small)) == 5);
    CHECK_FALSE(small.cell()->exported());
    const auto several = trireme::put(make(100, 2));
    CHECK(trireme::get(trireme::submit_with<&size_of>(on(rank), several)) == 100);
    CHECK_FALSE(several.cell()->exported());
    // Those inside of it are known as before.
    CHECK(trireme::get(trireme::submit_with<&sum_of>(on(rank), trireme::put(std::vector{small, made}))) == 11);
    CHECK(small.cell()->exported() == (rank != trireme::this_rank()));
    const auto larger = trireme::put(make(2000, 1));
    CHECK(trireme::get(trireme::submit_with<&size_of>(on(rank), larger)) == 2000);
    CHECK(larger.cell()->exported() == (rank != trireme::this_rank()));
  }
}

TEST_CASE("many results are under way at once") {
  std::vector<Ref<std::vector<std::uint8_t>>> made;
  for (int i = 0; i < 40; ++i)
    made.push_back(
        trireme::submit_with<&make>(on(static_cast<Rank>(i) % trireme::rank_count()), std::size_t{100'000}, i));
  for (int i = 0; i < 40; ++i) CHECK(right(trireme::get(made[static_cast<std::size_t>(i)]), 100'000, i));
}

TEST_CASE("dependences cross ranks, values and errors alike") {
  Ref<int> sum = trireme::put(0);
  for (int i = 0; i < 50; ++i)
    sum = trireme::submit_with<&add>(on(static_cast<Rank>(i) % trireme::rank_count()), sum, 1);
  CHECK(trireme::get(sum) == 50);
  const Rank last = trireme::rank_count() - 1;
  Ref<int> failed = trireme::submit_with<&fail>(on(last), 7);
  for (int i = 0; i < 10; ++i)
    failed = trireme::submit_with<&pass>(on(static_cast<Rank>(i) % trireme::rank_count()), failed);
  const auto error = thrown_by<TaskError>([&] { trireme::get(failed); });
  CHECK(error.rank() == last);
  CHECK(error.message() == "no 7");
  CHECK(thrown_by<TaskError>([&] { trireme::get(trireme::submit_with<&get_inside>(on(0), failed)); }).rank() == last);
}

TEST_CASE("errors say which rank and host") {
  for (Rank rank = 0; rank < trireme::rank_count(); ++rank) {
    const auto error = thrown_by<TaskError>([&] { trireme::get(trireme::submit_with<&fail>(on(rank), 1)); });
    CHECK(error.type() == "std::out_of_range");
    CHECK(error.message() == "no 1");
    CHECK(error.rank() == rank);
    CHECK_FALSE(error.host().empty());
    const std::string line = error.what();
    CHECK(line.find("rank " + std::to_string(rank)) != std::string::npos);
    CHECK(line.find(error.host()) != std::string::npos);
    CHECK(line.find("fail") != std::string::npos);
  }
}

TEST_CASE("several returns and coroutines work from afar") {
  const Rank last = trireme::rank_count() - 1;
  for (int n : {1, 30}) {
    // Split tasks have no options: enough of them that some are stolen.
    std::vector<decltype(trireme::submit_split<&three>(n))> all;
    for (int i = 0; i < 200; ++i) all.push_back(trireme::submit_split<&three>(n));
    for (auto& [number, text, bytes] : all) {
      CHECK(right(trireme::get(bytes), static_cast<std::size_t>(n) * 1000, n));
      CHECK(trireme::get(text).size() == static_cast<std::size_t>(n));
      CHECK(trireme::get(number) == n);
    }
  }
  std::vector<Ref<std::string>> failed;
  for (int i = 0; i < 200; ++i) failed.push_back(std::get<1>(trireme::submit_split<&three>(-1)));
  for (const auto& ref : failed) CHECK(thrown_by<TaskError>([&] { trireme::get(ref); }).message() == "negative");
  CHECK(trireme::get(trireme::submit_with<&later>(on(last), trireme::submit_with<&add>(on(0), 1, 2), 4)) == 7);
}

TEST_CASE("idle ranks take tasks from a busy one until all have had some") {
  std::set<Rank> seen;
  while (seen.size() < trireme::rank_count()) {
    std::vector<Ref<Rank>> refs;
    for (int i = 0; i < 500; ++i) refs.push_back(trireme::submit<&work>(i));
    for (const Rank rank : trireme::get(refs)) seen.insert(rank);
  }
  CHECK(seen.size() == trireme::rank_count());
}

TEST_CASE("a tree of tasks spreads over the ranks and comes back whole") {
  CHECK(trireme::get(trireme::submit<&tree>(11)) == 2048);
}

TEST_CASE("spread uses every rank; soft affinity goes elsewhere, hard affinity is an error") {
  trireme::TaskOptions spread;
  spread.placement = trireme::Placement::spread();
  std::set<Rank> seen;
  // A rank that seems to be full, as long as no news of it came since it had other tasks, is passed over.
  while (seen.size() < trireme::rank_count()) {
    std::vector<Ref<Rank>> refs;
    for (Rank i = 0; i < 4 * trireme::rank_count(); ++i) refs.push_back(trireme::submit_with<&where>(spread, 0));
    for (const Rank rank : trireme::get(refs)) seen.insert(rank);
  }

  trireme::TaskOptions options;
  options.placement = trireme::Placement::on(99);
  const auto error = thrown_by<trireme::Exception>([&] { trireme::get(trireme::submit_with<&where>(options, 0)); });
  CHECK((error.code() == Errc::unschedulable || error.code() == Errc::not_found));
  CHECK(error.message().find("99") != std::string::npos);
  options.placement = trireme::Placement::on(99, true);
  CHECK(trireme::get(trireme::submit_with<&where>(options, 0)) < trireme::rank_count());
  options.placement = trireme::Placement::on_node("no such node");
  CHECK(thrown_by<trireme::Exception>([&] { trireme::get(trireme::submit_with<&where>(options, 0)); })
            .message()
            .find("no such node") != std::string::npos);
  options.placement = trireme::Placement::on_node("no such node", true);
  CHECK(trireme::get(trireme::submit_with<&where>(options, 0)) < trireme::rank_count());
  if (apart()) {
    for (Rank rank = 0; rank < trireme::rank_count(); ++rank) {
      options.placement = trireme::Placement::on_node("node" + std::to_string(rank));
      CHECK(trireme::get(trireme::submit_with<&where>(options, 0)) == rank);
    }
  }
}

TEST_CASE("more tasks with resources than fit at once run in turn, and what fits nowhere is an error") {
  trireme::TaskOptions options;
  options.resources.cpus = 2;
  std::vector<Ref<Rank>> refs;
  for (int i = 0; i < 60; ++i) refs.push_back(trireme::submit_with<&work>(options, i));
  CHECK(trireme::get(refs).size() == 60);
  options.resources.cpus = 3;  // a task runs in one rank, and each has two
  const auto error = thrown_by<trireme::Exception>([&] { trireme::get(trireme::submit_with<&work>(options, 0)); });
  CHECK(error.code() == Errc::unschedulable);
  CHECK(error.message().find("3") != std::string::npos);
}

TEST_CASE("nothing stays behind after tasks") {
  std::string left;
  CHECK_MESSAGE(nothing_left(left), left);
}
