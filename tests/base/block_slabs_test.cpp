#include "base/block_slabs.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <set>
#include <vector>

namespace {

using trireme::BlockSlabs;
using trireme::FreeBlock;

constexpr std::size_t kBytes = 192;

std::vector<FreeBlock*> take(BlockSlabs& slabs, std::size_t count) {
  std::vector<FreeBlock*> blocks;
  while (blocks.size() < count) {
    const auto taken = slabs.take(static_cast<std::uint32_t>(count - blocks.size()));
    REQUIRE(taken.count >= 1);
    REQUIRE(taken.count <= count - blocks.size());
    std::uint32_t seen = 0;
    for (auto* block = taken.first; block != nullptr; block = block->next, ++seen) blocks.push_back(block);
    REQUIRE(seen == taken.count);
  }
  return blocks;
}

void give(BlockSlabs& slabs, const std::vector<FreeBlock*>& blocks, std::size_t from = 0, std::size_t step = 1) {
  for (auto i = from; i < blocks.size(); i += step) {
    blocks[i]->next = nullptr;
    slabs.give(blocks[i]);
  }
}

TEST_CASE("blocks of slabs do not overlap, and hold what is written") {
  BlockSlabs slabs(kBytes);
  const auto blocks = take(slabs, 30000);  // 5.5 MiB
  CHECK(slabs.slabs() == 3);
  std::set<std::uintptr_t> begins;
  for (auto* block : blocks) {
    CHECK(reinterpret_cast<std::uintptr_t>(block) % 64 == 0);
    begins.insert(reinterpret_cast<std::uintptr_t>(block));
    std::memset(static_cast<void*>(block), 0x5A, kBytes);
  }
  REQUIRE(begins.size() == blocks.size());
  std::uintptr_t before = 0;
  for (auto at : begins) {
    REQUIRE(at - before >= kBytes);
    before = at;
  }
  give(slabs, blocks);
}

TEST_CASE("slabs whose blocks are all back are returned, but for one") {
  BlockSlabs slabs(kBytes);
  for (int round = 0; round < 3; ++round) {
    const auto blocks = take(slabs, 50000);
    CHECK(slabs.slabs() == 5);
    give(slabs, blocks, 0, 2);  // every second one: nothing is empty
    CHECK(slabs.slabs() == 5);
    give(slabs, blocks, 1, 2);
    CHECK(slabs.slabs() == 1);
  }
}

TEST_CASE("what came back is used before fresh memory") {
  BlockSlabs slabs(kBytes);
  const auto blocks = take(slabs, 25000);
  const auto before = slabs.slabs();
  give(slabs, blocks, 0, 3);
  std::set<FreeBlock*> back;
  for (std::size_t i = 0; i < blocks.size(); i += 3) back.insert(blocks[i]);
  std::size_t again = 0;
  const auto taken = take(slabs, back.size());
  for (auto* block : taken) again += back.count(block);
  CHECK(slabs.slabs() == before);
  CHECK(again > back.size() * 9 / 10);  // the slab that was being cut may add fresh ones
  give(slabs, taken);
  for (std::size_t i = 0; i < blocks.size(); ++i)
    if (i % 3 != 0) {
      blocks[i]->next = nullptr;
      slabs.give(blocks[i]);
    }
  CHECK(slabs.slabs() == 1);
}

}  // namespace
