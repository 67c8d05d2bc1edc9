// A rank that works for hours needs no more memory than one that has worked for a minute.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <vector>

#include "tests/core/gate.hpp"
#include "tests/core/resident.hpp"
#include "trireme/trireme.hpp"

namespace soak_test {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kOperations = 3'000;
constexpr bool kMemoryCounts = false;  // the sanitizers keep what was freed
#else
constexpr std::uint64_t kOperations = 50'000;
constexpr bool kMemoryCounts = true;
#endif
// 64 bytes an operation would be 6 MB in the last two rounds.
constexpr std::size_t kGrowth = 2u << 20U;

int echo(int n) { return n; }
int fail(int) { throw std::runtime_error("as asked"); }
int length(const std::vector<char>& bytes) { return static_cast<int>(bytes.size()); }

struct Counter {
  int add(int by) { return n += by; }
  int n = 0;
};

int batches(std::uint64_t count) {
  int sum = 0;
  std::vector<trireme::Ref<int>> refs;
  for (std::uint64_t i = 0; i < count / 100; ++i) {
    for (int j = 0; j < 100; ++j) refs.push_back(trireme::submit<&echo>(1));
    for (const auto& ref : refs) sum += trireme::get(ref);
    refs.clear();
  }
  return sum;
}
/// The newest one is never waited for, so nothing comes back to the thread that made it.
int oldest_first(std::uint64_t count) {
  int sum = 0;
  trireme::Ref<int> last = trireme::submit<&echo>(0);
  for (std::uint64_t i = 0; i < count; ++i) {
    auto next = trireme::submit<&echo>(1);
    sum += trireme::get(last);
    last = std::move(next);
  }
  return sum + trireme::get(last);
}
int chains(std::uint64_t count) {
  int sum = 0;
  for (std::uint64_t i = 0; i < count; ++i) sum += trireme::get(trireme::submit<&echo>(trireme::submit<&echo>(1)));
  return sum;
}
int errors(std::uint64_t count) {
  int caught = 0;
  for (std::uint64_t i = 0; i < count / 10; ++i) {
    try {
      trireme::get(trireme::submit<&fail>(0));
    } catch (const trireme::Exception&) {
      ++caught;
    }
  }
  return caught;
}
int calls(std::uint64_t count) {
  const auto counter = trireme::spawn<Counter>();
  for (std::uint64_t i = 0; i < count; ++i) trireme::get(counter.call<&Counter::add>(1));
  return trireme::get(counter.call<&Counter::add>(0));
}
int calls_not_awaited(std::uint64_t count) {
  const auto counter = trireme::spawn<Counter>();
  int seen = 0;
  for (std::uint64_t i = 0; i < count / 100; ++i) {
    for (int j = 0; j < 99; ++j) counter.call<&Counter::add>(1);
    seen = trireme::get(counter.call<&Counter::add>(1));
  }
  return seen;
}
std::atomic<std::uint64_t> ended{0};
struct Mortal {
  ~Mortal() { ended.fetch_add(1); }
  int one() { return 1; }
};
/// Actors end behind their maker's back, so it waits for them now and then: what has not ended yet is no leak.
int actors(std::uint64_t count) {
  const trireme::test::Gate<int> never;
  const std::vector<trireme::Ref<int>> pending{never.ref()};
  const std::uint64_t before = ended.load();
  int sum = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    sum += trireme::get(trireme::spawn<Mortal>().call<&Mortal::one>());
    // A wait, so that the compute threads get the core.
    while (i % 500 == 499 && ended.load() < before + i + 1) trireme::wait(pending, 1, std::chrono::microseconds(100));
  }
  never.open(0);
  return sum;
}
int values(std::uint64_t count) {
  int sum = 0;
  const std::vector<char> large(300'000);
  for (std::uint64_t i = 0; i < count; ++i) sum += trireme::get(trireme::put(1));
  for (std::uint64_t i = 0; i < count / 100; ++i) sum += trireme::get(trireme::submit<&length>(trireme::put(large)));
  return sum;
}
/// Looks in vain leave nothing in what they look at.
int looks(std::uint64_t count) {
  const trireme::test::Gate<int> gate;
  const auto ref = gate.ref();
  int ready = 0;
  for (std::uint64_t i = 0; i < count / 10; ++i) {
    const std::vector<trireme::Ref<int>> refs{ref};
    ready += static_cast<int>(trireme::wait(refs, 1, std::chrono::nanoseconds(0)).first.size());
  }
  gate.open(1);
  return ready + trireme::get(ref);
}

using Load = int (*)(std::uint64_t);

template <Load F>
void check(const char* name) {
  for (const bool in_task : {false, true}) {
    INFO(name << (in_task ? " in a task" : " in the main thread"));
    std::size_t settled = 0;
    int result = 0;
    for (int round = 0; round < 4; ++round) {
      result = in_task ? trireme::get(trireme::submit<F>(kOperations)) : F(kOperations);
      if (round == 1) settled = trireme::test::resident_bytes();
    }
    CHECK(result > 0);
    const std::size_t now = trireme::test::resident_bytes();
    const std::size_t growth = now > settled ? now - settled : 0;
    std::printf("%-18s %-15s %6zu kB more after two further rounds of %llu\n", name,
                in_task ? "in a task" : "from outside", growth / 1024, static_cast<unsigned long long>(kOperations));
    if (kMemoryCounts) CHECK(growth < kGrowth);
  }
}

}  // namespace soak_test
using namespace soak_test;

TEST_CASE("memory stays what it is while tasks, calls, actors and objects come and go") {
  check<&batches>("batches");
  check<&oldest_first>("oldest first");
  check<&chains>("chains");
  check<&errors>("errors");
  check<&calls>("calls");
  check<&calls_not_awaited>("calls not awaited");
  check<&actors>("actors");
  check<&values>("values");
  check<&looks>("looks");
}
