// Waiting inside tasks, however deep, never stops the rank.
#include <doctest/doctest.h>

#include <stdexcept>
#include <thread>

#include "tests/core/gate.hpp"
#include "trireme/trireme.hpp"

using trireme::Ref;
using trireme::test::Gate;

namespace waiting_test {

// The thread sanitizer has room for some 8,000 fibers.
#ifdef __SANITIZE_THREAD__
constexpr int kNested = 2'000;
#else
constexpr int kNested = 10'000;
#endif

int down(int n) { return n == 0 ? 0 : 1 + trireme::get(trireme::submit<&down>(n - 1)); }
int down_with_timeout(int n) {
  return n == 0 ? 0 : 1 + trireme::get(trireme::submit<&down_with_timeout>(n - 1), std::chrono::hours(1));
}
int inside(Ref<int> ref) { return trireme::get(ref) + 1; }
int inside_group(std::vector<Ref<int>> refs) { return static_cast<int>(trireme::wait(refs, refs.size()).first.size()); }
int wide(int count) {
  Gate<> gate;
  std::vector<Ref<int>> refs;
  for (int i = 0; i < count; ++i) refs.push_back(trireme::submit<&inside>(gate.ref()));
  gate.open(1);
  int total = 0;
  for (const int value : trireme::get(refs)) total += value;
  return total;
}

int in_catch(Ref<int> gate, int depth) {
  const std::string mine = "exception " + std::to_string(depth);
  try {
    throw std::runtime_error(mine);
  } catch (const std::runtime_error& outer) {
    try {
      const int value = trireme::get(gate);
      if (outer.what() != mine) return -1;
      throw std::logic_error(std::to_string(value));
    } catch (const std::logic_error& inner) {
      const int more = trireme::get(trireme::submit<&inside>(gate));
      try {
        throw;
      } catch (const std::logic_error& again) {
        if (&again != &inner) return -2;
      }
      return outer.what() == mine ? std::stoi(inner.what()) + more : -3;
    }
  }
}

int from_destructor(Ref<int> gate, int* seen) {
  struct Waits {
    Ref<int> ref;
    int* out;
    ~Waits() { *out = trireme::get(ref) + std::uncaught_exceptions(); }
  };
  try {
    Waits waits{gate, seen};
    throw std::runtime_error("unwinding");
  } catch (const std::runtime_error&) {
    return *seen;
  }
}
int unwinds(Ref<int> gate) {
  int seen = 0;
  return from_destructor(gate, &seen);
}

}  // namespace waiting_test
using namespace waiting_test;

TEST_CASE("a chain in which each task waits for the one it submitted") {
  CHECK(trireme::get(trireme::submit<&down>(kNested)) == kNested);
}

TEST_CASE("the same with timeouts, which run nothing in place") {
  CHECK(trireme::get(trireme::submit<&down_with_timeout>(kNested)) == kNested);
}

TEST_CASE("a chain that is submitted from its end") {
  Gate<> gate;
  auto last = gate.ref();
  for (int i = 0; i < kNested; ++i) last = trireme::submit<&inside>(last);
  gate.open(0);
  CHECK(trireme::get(last) == kNested);
}

TEST_CASE("thousands of tasks wait for the same value at once") {
  CHECK(wide(kNested) == 2 * kNested);
  CHECK(trireme::get(trireme::submit<&wide>(kNested)) == 2 * kNested);
}

TEST_CASE("tasks wait for groups of others") {
  Gate<> gate;
  std::vector<Ref<int>> level(20, gate.ref());
  std::vector<Ref<int>> groups;
  for (int i = 0; i < 200; ++i) groups.push_back(trireme::submit<&inside_group>(level));
  gate.open();
  for (const int ready : trireme::get(groups)) CHECK(ready == 20);
}

TEST_CASE("waiting inside catch blocks keeps each task's own exceptions") {
  Gate<> gate;
  std::vector<Ref<int>> refs;
  for (int i = 0; i < 500; ++i) refs.push_back(trireme::submit<&in_catch>(gate.ref(), i));
  gate.open(20);
  for (const int value : trireme::get(refs)) CHECK(value == 41);
}

TEST_CASE("waiting while the stack unwinds") {
  Gate<> gate;
  std::vector<Ref<int>> refs;
  for (int i = 0; i < 100; ++i) refs.push_back(trireme::submit<&unwinds>(gate.ref()));
  gate.open(5);
  for (const int value : trireme::get(refs)) CHECK(value == 6);
}

TEST_CASE("threads of the program wait as tasks do, nested too") {
  std::vector<std::thread> threads;
  std::vector<int> results(6);
  for (std::size_t t = 0; t < results.size(); ++t) {
    threads.emplace_back([&results, t] {
      for (int round = 0; round < 20; ++round) results[t] += trireme::get(trireme::submit<&down>(50));
    });
  }
  for (auto& thread : threads) thread.join();
  for (const int result : results) CHECK(result == 1000);
}

TEST_CASE("a thread of the program waits for what another one opens") {
  for (int round = 0; round < 200; ++round) {
    Gate<> gate;
    std::thread opener([&] { gate.open(round); });
    CHECK(trireme::get(gate.ref()) == round);
    opener.join();
  }
}
