#include "scheduler/deque.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <thread>
#include <vector>

#include "base/rng.hpp"

using trireme::scheduler::WorkStealingDeque;

TEST_CASE("a deque used by one thread behaves like a double-ended queue") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    trireme::Rng rng(seed);
    WorkStealingDeque<std::uintptr_t> deque(2);
    std::deque<std::uintptr_t> model;
    std::uintptr_t next = 1;
    for (int step = 0; step < 20'000; ++step) {
      // Phases of growth and of shrinking, so that the array grows and the deque runs empty.
      const bool grow = (step / 500) % 2 == 0;
      const auto dice = rng.below(10);
      if (dice < (grow ? 7U : 3U)) {
        deque.push(next);
        model.push_back(next++);
      } else if (dice == 7) {
        const std::uintptr_t expected = model.empty() ? 0 : model.front();
        if (!model.empty()) model.pop_front();
        REQUIRE(deque.steal() == expected);
      } else if (dice == 8) {
        const bool newest = rng.below(2) == 0;
        const std::uintptr_t asked = newest && !model.empty() ? model.back() : next + 5;
        const bool expected = newest && !model.empty();
        REQUIRE(deque.pop_if(asked) == expected);
        if (expected) model.pop_back();
      } else {
        const std::uintptr_t expected = model.empty() ? 0 : model.back();
        if (!model.empty()) model.pop_back();
        REQUIRE(deque.pop() == expected);
      }
      REQUIRE(deque.size() == model.size());
      REQUIRE(deque.looks_empty() == model.empty());
    }
  }
}

TEST_CASE("an entry stolen from under pop_if is not taken twice") {
  WorkStealingDeque<std::uintptr_t> deque;
  deque.push(7);
  CHECK(deque.steal() == 7);
  CHECK_FALSE(deque.pop_if(7));
  deque.push(8);
  CHECK_FALSE(deque.pop_if(7));
  CHECK(deque.pop_if(8));
  CHECK(deque.pop() == 0);
}

TEST_CASE("steal_if leaves an unwanted oldest entry where it is") {
  WorkStealingDeque<std::uintptr_t> deque;
  deque.push(1);
  deque.push(2);
  const auto even = [](std::uintptr_t entry) { return entry % 2 == 0; };
  CHECK(deque.steal_if(even) == 0);
  CHECK(deque.steal() == 1);
  CHECK(deque.steal_if(even) == 2);
  CHECK(deque.steal_if(even) == 0);
}

TEST_CASE("every entry is taken exactly once by the owner and the thieves together") {
  constexpr std::uintptr_t kItems = 200'000;
  constexpr int kThieves = 3;
  WorkStealingDeque<std::uintptr_t> deque(2);
  std::vector<std::atomic<int>> taken(kItems + 1);
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> stolen{0};
  std::vector<std::thread> thieves;
  for (int i = 0; i < kThieves; ++i) {
    thieves.emplace_back([&] {
      std::uint64_t mine = 0;
      while (true) {
        const bool last_look = done.load();
        while (const std::uintptr_t item = deque.steal()) {
          taken[item].fetch_add(1, std::memory_order_relaxed);
          ++mine;
        }
        if (last_look) break;
      }
      stolen.fetch_add(mine);
    });
  }
  std::uint64_t popped = 0;
  trireme::Rng rng(11);
  std::uintptr_t next = 1;
  while (next <= kItems) {
    for (auto burst = rng.below(8) + 1; burst > 0 && next <= kItems; --burst) deque.push(next++);
    // Mostly short deques: the race for the last entry is what is to be hit.
    for (auto burst = rng.below(9); burst > 0; --burst) {
      std::uintptr_t item = 0;
      if (burst % 3 == 0) {
        item = deque.pop_if(next - 1) ? next - 1 : 0;
      } else {
        item = deque.pop();
      }
      if (item == 0) continue;
      taken[item].fetch_add(1, std::memory_order_relaxed);
      ++popped;
    }
  }
  done.store(true);
  for (auto& thief : thieves) thief.join();
  while (const std::uintptr_t item = deque.pop()) {
    taken[item].fetch_add(1);
    ++popped;
  }
  CHECK(popped + stolen.load() == kItems);
  std::size_t wrong = 0;
  for (std::uintptr_t item = 1; item <= kItems; ++item) wrong += taken[item].load() != 1 ? 1U : 0U;
  CHECK(wrong == 0);
}
