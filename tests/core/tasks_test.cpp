// Tasks in one rank: arguments, results, dependences, errors.
#include <doctest/doctest.h>

#include <stdexcept>
#include <thread>

#include "tests/core/gate.hpp"
#include "trireme/trireme.hpp"

using trireme::Errc;
using trireme::Ref;
using trireme::TaskError;
using trireme::test::Gate;
using trireme::test::thrown_by;

namespace tasks_test {

struct Unprintable {
  int x = 0;
};
class Special : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

int add(int a, int b) { return a + b; }
int add_refs(const int& a, const int& b) noexcept { return a + b; }
std::string join(std::string a, const std::string& b) { return a + b; }
void nothing() {}
std::vector<int> filled(int count, int value) { return std::vector<int>(static_cast<std::size_t>(count), value); }
std::size_t count_of(const std::vector<int>& values) { return values.size(); }
std::uintptr_t where_is(const std::vector<int>& values) { return reinterpret_cast<std::uintptr_t>(values.data()); }
int through(Ref<int> ref) { return trireme::get(ref) + 1; }
Ref<int> pass_on(Ref<int> ref) { return ref; }
Ref<int> submit_more(int n) { return trireme::submit<&add>(n, 1); }
int sum_of(std::vector<Ref<int>> refs) {
  int total = 0;
  for (const int value : trireme::get(refs)) total += value;
  return total;
}
int fib(int n) {
  if (n < 2) return n;
  const auto a = trireme::submit<&fib>(n - 1);
  return fib(n - 2) + trireme::get(a);
}
int fail(int at) {
  if (at == 3) throw Special("not three");
  throw std::out_of_range("too far: " + std::to_string(at));
}
int fail_oddly(int) { throw Unprintable{5}; }
int fail_with_number(int n) { throw n; }
int explain(int) {
  try {
    trireme::get(trireme::submit<&fail>(1));
  } catch (const TaskError& error) {
    throw Special("because " + error.message());
  }
  return 0;
}
int recover(int n) {
  try {
    return trireme::get(trireme::submit<&fail>(n));
  } catch (const TaskError&) {
    return -n;
  }
}
std::tuple<int, std::string, std::vector<int>> three(int n) {
  if (n < 0) throw Special("negative");
  return {n, std::string(static_cast<std::size_t>(n), 's'), filled(n, 1)};
}

}  // namespace tasks_test
using namespace tasks_test;

TEST_CASE("a task takes values, literals and references, and gives a reference") {
  const auto x = trireme::submit<&add>(1, 2);
  CHECK(trireme::get(x) == 3);
  CHECK(trireme::get(trireme::submit<&add>(x, trireme::submit<&add>(x, 5))) == 11);
  CHECK(trireme::get(trireme::submit<&add_refs>(trireme::put(4), x)) == 7);
  CHECK(trireme::get(trireme::submit<&join>("a", trireme::put(std::string("b")))) == "ab");
  CHECK(trireme::get(trireme::submit<[](int n) { return n * n; }>(7)) == 49);
  trireme::get(trireme::submit<&nothing>());
}

TEST_CASE("a reference argument is not copied on its way to a const reference") {
  const auto big = trireme::submit<&filled>(1000, 3);
  CHECK(trireme::get(trireme::submit<&where_is>(big)) == trireme::get(trireme::submit<&where_is>(big)));
  CHECK(trireme::get(trireme::submit<&count_of>(big)) == 1000);
}

TEST_CASE("a parameter of type Ref gets the reference itself, whole or in containers") {
  Gate<> gate;
  const auto passed = trireme::submit<&pass_on>(gate.ref());
  CHECK(trireme::get(passed) == gate.ref());
  const auto sum = trireme::submit<&sum_of>(std::vector{gate.ref(), trireme::put(5)});
  const auto one = trireme::submit<&through>(gate.ref());
  gate.open(10);
  CHECK(trireme::get(sum) == 15);
  CHECK(trireme::get(one) == 11);
  CHECK(trireme::get(trireme::get(trireme::submit<&submit_more>(1))) == 2);
}

TEST_CASE("a task starts only when its arguments are there") {
  Gate<> left, right;
  const auto both = trireme::submit<&add>(left.ref(), right.ref());
  const auto after = trireme::submit<&add>(both, both);
  right.open(2);
  CHECK_FALSE(both.ready());
  left.open(1);
  CHECK(trireme::get(after) == 6);
}

TEST_CASE("a long chain of dependent tasks runs to its end") {
  Gate<> first;
  auto last = first.ref();
  for (int i = 0; i < 20'000; ++i) last = trireme::submit<&add>(last, 1);
  first.open(0);
  CHECK(trireme::get(last) == 20'000);
}

TEST_CASE("many tasks depend on one, and one on many") {
  Gate<> source;
  std::vector<Ref<int>> middle;
  for (int i = 0; i < 5000; ++i) middle.push_back(trireme::submit<&add>(source.ref(), i));
  const auto sum = trireme::submit<&sum_of>(middle);
  source.open(1);
  CHECK(trireme::get(sum) == 5000 + 4999 * 5000 / 2);
}

TEST_CASE("tasks submit tasks") { CHECK(trireme::get(trireme::submit<&fib>(18)) == 2584); }

TEST_CASE("map makes one task per element, in order") {
  const auto refs = trireme::map<&tasks_test::submit_more>(std::vector{1, 2, 3});
  CHECK(refs.size() == 3);
  for (int i = 0; i < 3; ++i) CHECK(trireme::get(trireme::get(refs[static_cast<std::size_t>(i)])) == i + 2);
}

TEST_CASE("several returns resolve each on its own") {
  auto [number, text, values] = trireme::submit_split<&three>(4);
  CHECK(trireme::get(trireme::submit<&count_of>(values)) == 4);
  CHECK(trireme::get(text) == "ssss");
  CHECK(trireme::get(number) == 4);
  // Only one of them is kept, before and after the task ran.
  const auto kept = std::get<1>(trireme::submit_split<&three>(2));
  CHECK(trireme::get(kept) == "ss");
}

TEST_CASE("several returns all carry the error") {
  const auto refs = trireme::submit_split<&three>(-1);
  CHECK(thrown_by<TaskError>([&] { trireme::get(std::get<1>(refs)); }).message() == "negative");
  CHECK(thrown_by<TaskError>([&] { trireme::get(std::get<0>(refs)); }).message() == "negative");
  CHECK(thrown_by<TaskError>([&] { trireme::get(trireme::submit<&count_of>(std::get<2>(refs))); }).message() ==
        "negative");
}

TEST_CASE("several returns wait for arguments, and fail with them") {
  Gate<> gate, bad;
  auto later = trireme::submit_split<&three>(gate.ref());
  auto never = trireme::submit_split<&three>(bad.ref());
  gate.open(3);
  bad.fail({Errc::object_lost, "gone", "", 0, "", ""});
  CHECK(trireme::get(std::get<1>(later)) == "sss");
  CHECK(thrown_by<trireme::Exception>([&] { trireme::get(std::get<1>(never)); }).code() == Errc::object_lost);
}

TEST_CASE("an exception comes back with type, text, rank, host and function") {
  const auto ref = trireme::submit<&fail>(9);
  for (int i = 0; i < 2; ++i) {
    const auto error = thrown_by<TaskError>([&] { trireme::get(ref); });
    CHECK(error.code() == Errc::task_failed);
    CHECK(error.type() == "std::out_of_range");
    CHECK(error.message() == "too far: 9");
    CHECK(error.rank() == trireme::this_rank());
    CHECK_FALSE(error.host().empty());
    CHECK(error.info().task.find("fail") != std::string::npos);
    const std::string line = error.what();
    for (const auto* part : {"std::out_of_range", "too far: 9", "rank 0", "fail"})
      CHECK(line.find(part) != std::string::npos);
    CHECK(line.find(error.host()) != std::string::npos);
  }
  CHECK(thrown_by<TaskError>([&] { trireme::get(trireme::submit<&fail>(3)); }).type() == "tasks_test::Special");
}

TEST_CASE("what is not a std::exception comes back as well") {
  const auto number = thrown_by<TaskError>([&] { trireme::get(trireme::submit<&fail_with_number>(3)); });
  CHECK(number.type() == "int");
  const auto odd = thrown_by<TaskError>([&] { trireme::get(trireme::submit<&fail_oddly>(3)); });
  CHECK(odd.type() == "tasks_test::Unprintable");
}

TEST_CASE("an error passes through dependants and keeps its origin") {
  auto ref = trireme::submit<&fail>(7);
  for (int i = 0; i < 100; ++i) ref = trireme::submit<&add>(ref, 1);
  const auto direct = thrown_by<TaskError>([&] { trireme::get(ref); });
  CHECK(direct.type() == "std::out_of_range");
  CHECK(direct.message() == "too far: 7");
  CHECK(direct.info().task.find("fail") != std::string::npos);
  const auto waited = thrown_by<TaskError>([&] { trireme::get(trireme::submit<&through>(ref)); });
  CHECK(std::string(waited.what()) == direct.what());
}

TEST_CASE("a task may handle an error, or throw another with an origin of its own") {
  CHECK(trireme::get(trireme::submit<&recover>(5)) == -5);
  const auto error = thrown_by<TaskError>([&] { trireme::get(trireme::submit<&explain>(0)); });
  CHECK(error.type() == "tasks_test::Special");
  CHECK(error.message() == "because too far: 1");
  CHECK(error.info().task.find("explain") != std::string::npos);
}

TEST_CASE("results that nobody wants are dropped, before and after they are there") {
  for (int i = 0; i < 1000; ++i) (void)trireme::submit<&filled>(100, i);
  Gate<> gate;
  for (int i = 0; i < 1000; ++i) (void)trireme::submit<&add>(gate.ref(), i);
  gate.open(1);
  CHECK(trireme::get(trireme::submit<&add>(1, 1)) == 2);
}

TEST_CASE("many threads submit and get at the same time") {
  std::vector<std::thread> threads;
  std::vector<long> totals(4);
  for (std::size_t t = 0; t < totals.size(); ++t) {
    threads.emplace_back([&totals, t] {
      std::vector<Ref<int>> refs;
      for (int i = 0; i < 2000; ++i) refs.push_back(trireme::submit<&add>(i, static_cast<int>(t)));
      for (const int value : trireme::get(refs)) totals[t] += value;
    });
  }
  for (auto& thread : threads) thread.join();
  for (std::size_t t = 0; t < totals.size(); ++t) CHECK(totals[t] == 1999 * 1000 + 2000 * static_cast<long>(t));
}

TEST_CASE("an empty reference is refused where it is used") {
  const Ref<int> empty;
  for (const auto& step : {std::function<void()>([&] { trireme::get(empty); }),
                           std::function<void()>([&] { trireme::get(empty, std::chrono::seconds(1)); }),
                           std::function<void()>([&] { trireme::wait(std::vector{empty}); }),
                           std::function<void()>([&] { trireme::get(trireme::submit<&add>(empty, 1)); }),
                           std::function<void()>([&] { (void)trireme::submit_split<&three>(empty); })}) {
    const auto error = thrown_by<trireme::Exception>(step);
    CHECK(error.code() == Errc::invalid_argument);
    CHECK(error.message().find("empty Ref") != std::string::npos);
  }
  // As a value of its own it may travel.
  CHECK_FALSE(trireme::get(trireme::submit<&pass_on>(empty)));
}

TEST_CASE("options that make no sense are the task's error, and say what was asked and what exists") {
  const auto error_of = [](const trireme::TaskOptions& options) {
    return thrown_by<trireme::Exception>([&] { trireme::get(trireme::submit_with<&add>(options, 1, 2)); });
  };
  trireme::TaskOptions options;
  SUBCASE("negative cores") {
    options.resources.cpus = -1;
    CHECK(error_of(options).code() == Errc::invalid_argument);
  }
  SUBCASE("negative custom resource") {
    options.resources.custom["licence"] = -2;
    CHECK(error_of(options).code() == Errc::invalid_argument);
  }
  SUBCASE("more cores than there are") {
    options.resources.cpus = 4096;
    const auto error = error_of(options);
    CHECK(error.code() == Errc::unschedulable);
    CHECK(error.message().find("4096") != std::string::npos);
    CHECK(error.message().find("CPU") != std::string::npos);
  }
  SUBCASE("a custom resource that nobody has") {
    options.resources.custom["unicorn"] = 1;
    const auto error = error_of(options);
    CHECK(error.code() == Errc::unschedulable);
    CHECK(error.message().find("unicorn") != std::string::npos);
  }
  SUBCASE("a rank that is not there") {
    options.placement = trireme::Placement::on(99);
    const auto error = error_of(options);
    CHECK((error.code() == Errc::unschedulable || error.code() == Errc::not_found));
    CHECK(error.message().find("99") != std::string::npos);
  }
  SUBCASE("a rank that is not there, softly: elsewhere") {
    options.placement = trireme::Placement::on(99, true);
    CHECK(trireme::get(trireme::submit_with<&add>(options, 1, 2)) == 3);
  }
  SUBCASE("what fits runs, more than at once fits in turn") {
    options.resources.cpus = 2;
    std::vector<Ref<int>> refs;
    for (int i = 0; i < 50; ++i) refs.push_back(trireme::submit_with<&add>(options, i, 1));
    CHECK(trireme::get(refs).back() == 50);
  }
}
