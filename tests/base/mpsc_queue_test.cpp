#include "base/mpsc_queue.hpp"

#include <doctest/doctest.h>

#include <thread>
#include <vector>

namespace trireme {
namespace {

struct Item : MpscNode {
  int producer = 0;
  int number = 0;
};

TEST_CASE("one thread's items come out in order, and the queue knows when it is empty") {
  MpscQueue queue;
  std::vector<Item> items(100);
  CHECK(queue.empty());
  CHECK(queue.pop() == nullptr);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 100; ++i) {
      items[i].number = i;
      CHECK(queue.push(&items[i]) == (i == 0));
      CHECK_FALSE(queue.empty());
    }
    for (int i = 0; i < 100; ++i) {
      auto* item = static_cast<Item*>(queue.pop());
      REQUIRE(item != nullptr);
      CHECK(item->number == i);
    }
    CHECK(queue.pop() == nullptr);
    CHECK(queue.empty());
  }
}

TEST_CASE("items of several producers all arrive once, in order per producer") {
  constexpr int kProducers = 4, kItems = 20'000;
  MpscQueue queue;
  std::vector<std::vector<Item>> items(kProducers);
  std::vector<std::thread> threads;
  for (int p = 0; p < kProducers; ++p) {
    items[p] = std::vector<Item>(kItems);
    threads.emplace_back([&queue, &mine = items[p], p] {
      for (int i = 0; i < kItems; ++i) {
        mine[i].producer = p;
        mine[i].number = i;
        queue.push(&mine[i]);
      }
    });
  }
  std::vector<int> next(kProducers);
  bool ordered = true;
  for (int got = 0; got < kProducers * kItems;) {
    auto* item = static_cast<Item*>(queue.pop());
    if (item == nullptr) {
      std::this_thread::yield();
      continue;
    }
    ordered = ordered && item->number == next[item->producer]++;
    ++got;
  }
  for (auto& thread : threads) thread.join();
  CHECK(ordered);
  CHECK(queue.empty());
  CHECK(queue.pop() == nullptr);
}

}  // namespace
}  // namespace trireme
