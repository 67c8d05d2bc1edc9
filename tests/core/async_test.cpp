// Coroutines as tasks: they wait without holding a thread.
#include <doctest/doctest.h>

#include <stdexcept>

#include "tests/core/gate.hpp"
#include "trireme/trireme.hpp"

using trireme::Async;
using trireme::Ref;
using trireme::TaskError;
using trireme::test::Gate;
using trireme::test::thrown_by;

namespace async_test {

int twice(int n) { return 2 * n; }
int fail(int n) { throw std::out_of_range("at " + std::to_string(n)); }

Async<int> immediate(int n) { co_return n; }
Async<int> add(Ref<int> a, Ref<int> b) {
  const int left = co_await a;
  const int right = co_await b;
  co_return left + right;
}
Async<int> loop(int n) {
  int sum = 0;
  for (int i = 0; i < n; ++i) sum += co_await trireme::submit<&twice>(i);
  co_return sum;
}
Async<int> deep(int n) {
  if (n == 0) co_return 0;
  const int below = co_await deep(n - 1);
  co_return below + co_await trireme::submit<&twice>(1);
}
Async<void> store(Ref<int> from, std::int64_t to) {
  const int value = co_await from;
  *reinterpret_cast<int*>(to) = value;
}
Async<int> uses_void(Ref<int> from) {
  int value = 0;
  co_await store(from, reinterpret_cast<std::int64_t>(&value));
  co_return value;
}
Async<int> throws_first(int n) {
  if (n >= 0) throw std::invalid_argument("before any wait");
  co_return n;
}
Async<int> throws_later(Ref<int> ref) {
  const int n = co_await ref;
  throw std::invalid_argument("after " + std::to_string(n));
}
Async<int> catches(Ref<int> ref) {
  std::string text;
  try {
    co_await throws_later(ref);
  } catch (const std::invalid_argument& error) {
    text = error.what();
  }
  co_return static_cast<int>(text.size()) + co_await ref;
}
Async<int> awaits_failure(int n) { co_return co_await trireme::submit<&fail>(n); }
Async<std::vector<std::string>> strings(Ref<int> count) {
  co_return std::vector<std::string>(static_cast<std::size_t>(co_await count), std::string(100, 'c'));
}
Async<std::tuple<int, std::string>> pair(Ref<int> ref) {
  const int n = co_await ref;
  co_return std::tuple<int, std::string>(n, std::string(static_cast<std::size_t>(n), 'p'));
}
Async<int> blocks_as_well(Ref<int> ref) {
  const int before = co_await ref;
  co_return before + trireme::get(trireme::submit<&twice>(before));
}

#ifdef __SANITIZE_THREAD__
constexpr int kMany = 5'000;
#else
constexpr int kMany = 50'000;
#endif

}  // namespace async_test
using namespace async_test;

TEST_CASE("a coroutine's co_return is the task's result") {
  CHECK(trireme::get(trireme::submit<&immediate>(5)) == 5);
  CHECK(trireme::get(trireme::submit<&loop>(100)) == 9900);
  CHECK(trireme::get(trireme::submit<&strings>(Ref<int>(trireme::put(3)))).size() == 3);
}

TEST_CASE("a coroutine waits for references, ready or not") {
  Gate<> gate;
  const auto both = trireme::submit<&add>(gate.ref(), trireme::put(1));
  const auto after = trireme::submit<&add>(both, both);
  gate.open(2);
  CHECK(trireme::get(both) == 3);
  CHECK(trireme::get(after) == 6);
}

TEST_CASE("coroutines wait for coroutines") {
  CHECK(trireme::get(trireme::submit<&deep>(100)) == 200);
  Gate<> gate;
  const auto ref = trireme::submit<&uses_void>(gate.ref());
  gate.open(8);
  CHECK(trireme::get(ref) == 8);
}

TEST_CASE("exceptions of coroutines are results like others") {
  const auto first = thrown_by<TaskError>([] { trireme::get(trireme::submit<&throws_first>(1)); });
  CHECK(first.type() == "std::invalid_argument");
  CHECK(first.message() == "before any wait");
  CHECK(first.info().task.find("throws_first") != std::string::npos);
  Gate<> gate;
  const auto ref = trireme::submit<&throws_later>(gate.ref());
  gate.open(3);
  CHECK(thrown_by<TaskError>([&] { trireme::get(ref); }).message() == "after 3");
  CHECK(trireme::get(trireme::submit<&catches>(gate.ref())) == 7 + 3);
}

TEST_CASE("an error that is awaited keeps its origin") {
  const auto error = thrown_by<TaskError>([] { trireme::get(trireme::submit<&awaits_failure>(4)); });
  CHECK(error.type() == "std::out_of_range");
  CHECK(error.message() == "at 4");
  CHECK(error.info().task.find("fail") != std::string::npos);
  CHECK(error.info().task.find("awaits_failure") == std::string::npos);
  CHECK(thrown_by<trireme::Exception>([] { trireme::get(trireme::submit<&add>(Ref<int>(), Ref<int>())); }).code() ==
        trireme::Errc::invalid_argument);
}

TEST_CASE("a coroutine may return several values") {
  Gate<> gate;
  auto [number, text] = trireme::submit_split<&pair>(gate.ref());
  gate.open(4);
  CHECK(trireme::get(number) == 4);
  CHECK(trireme::get(text) == "pppp");
}

TEST_CASE("a coroutine may block too") {
  Gate<> gate;
  std::vector<Ref<int>> refs;
  for (int i = 0; i < 100; ++i) refs.push_back(trireme::submit<&blocks_as_well>(gate.ref()));
  gate.open(2);
  for (const int value : trireme::get(refs)) CHECK(value == 6);
}

TEST_CASE("many coroutines wait at once, without a thread or a stack each") {
  Gate<> gate;
  std::vector<Ref<int>> refs;
  for (int i = 0; i < kMany; ++i) refs.push_back(trireme::submit<&add>(gate.ref(), gate.ref()));
  gate.open(1);
  long sum = 0;
  for (const int value : trireme::get(refs)) sum += value;
  CHECK(sum == 2L * kMany);
}
