#include "base/block_cache.hpp"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

namespace {

using trireme::give_block;
using trireme::take_block;

struct alignas(64) Wide : trireme::CachedBlock {
  std::array<std::byte, 64> bytes{};
};

TEST_CASE("blocks of every size are writable, aligned and apart") {
  std::vector<std::pair<void*, std::size_t>> taken;
  for (std::size_t bytes = 1; bytes < 1200; bytes += 13) {
    auto* block = take_block(bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(block) % alignof(std::max_align_t) == 0);
    std::memset(block, static_cast<int>(bytes % 251), bytes);
    taken.emplace_back(block, bytes);
  }
  for (const auto& [block, bytes] : taken) {
    const auto* at = static_cast<const unsigned char*>(block);
    for (std::size_t i = 0; i < bytes; ++i) REQUIRE(at[i] == bytes % 251);
    give_block(block, bytes);
  }
}

TEST_CASE("what a thread gave back is not given out twice") {
  std::set<void*> seen;
  std::vector<void*> taken;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 5000; ++i) taken.push_back(take_block(100));
    seen.clear();
    for (auto* block : taken) REQUIRE(seen.insert(block).second);
    for (auto* block : taken) give_block(block, 100);
    taken.clear();
  }
}

TEST_CASE("one thread takes what another gives back, and threads come and go") {
  constexpr int kRounds = 200;
  constexpr int kBlocks = 300;
  for (int life = 0; life < 3; ++life) {
    std::atomic<int> turn{0};
    std::vector<unsigned*> box;
    std::atomic<int> wrong{0};
    std::thread giver([&] {
      for (int round = 0; round < kRounds; ++round) {
        while (turn.load(std::memory_order_acquire) != 2 * round + 1) std::this_thread::yield();
        for (std::size_t i = 0; i < box.size(); ++i) {
          if (*box[i] != i) ++wrong;
          give_block(box[i], 200);
        }
        box.clear();
        turn.store(2 * round + 2, std::memory_order_release);
      }
    });
    for (int round = 0; round < kRounds; ++round) {
      while (turn.load(std::memory_order_acquire) != 2 * round) std::this_thread::yield();
      for (unsigned i = 0; i < kBlocks; ++i) {
        auto* block = static_cast<unsigned*>(take_block(200));
        *block = i;
        box.push_back(block);
      }
      turn.store(2 * round + 1, std::memory_order_release);
    }
    giver.join();
    CHECK(wrong.load() == 0);
  }
}

TEST_CASE("a class with a wider alignment gets it") {
  std::vector<Wide*> made;
  for (int i = 0; i < 20; ++i) {
    made.push_back(new Wide);
    CHECK(reinterpret_cast<std::uintptr_t>(made.back()) % 64 == 0);
  }
  for (auto* each : made) delete each;
}

}  // namespace
