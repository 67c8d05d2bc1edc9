// A rank holds a million idle actors.
#include <doctest/doctest.h>

#include <sys/resource.h>

#include <cstdio>

#include "tests/core/resident.hpp"
#include "trireme/trireme.hpp"

namespace million_test {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kActors = 50'000;
constexpr bool kMemoryCounts = false;
#else
constexpr std::size_t kActors = 1'000'000;
constexpr bool kMemoryCounts = true;
#endif

struct Counter {
  explicit Counter(int start) : n(start) {}
  int add(int by) { return n += by; }
  int n;
};

}  // namespace million_test
using namespace million_test;

TEST_CASE("a million idle actors fit in one rank, and each still answers") {
  const auto before = trireme::test::resident_bytes();
  {
    std::vector<trireme::Actor<Counter>> actors;
    actors.reserve(kActors);
    for (std::size_t i = 0; i < kActors; ++i) actors.push_back(trireme::spawn<Counter>(static_cast<int>(i % 1000)));
    // Calls are handled in the order they were made, so the last answer comes after all constructors of its thread.
    for (std::size_t i = 0; i < kActors; i += 97) {
      CHECK(trireme::get(actors[i].call<&Counter::add>(1)) == static_cast<int>(i % 1000) + 1);
    }
    CHECK(trireme::get(actors.back().call<&Counter::add>(1)) == static_cast<int>((kActors - 1) % 1000) + 1);
    const double per_actor =
        static_cast<double>(trireme::test::resident_bytes() - before) / static_cast<double>(kActors);
    std::printf("%zu actors, %.0f bytes each\n", kActors, per_actor);
    if (kMemoryCounts) CHECK(per_actor < 2000);
  }
}
