#include "objstore/arena.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include <unistd.h>

#include "base/rng.hpp"

using namespace trireme;
using namespace trireme::objstore;

namespace {

constexpr std::uint64_t kMiB = 1U << 20U;

std::unique_ptr<Arena> make_arena(std::uint64_t bytes, std::uint64_t warm = 0) {
  ArenaOptions options;
  options.bytes = bytes;
  options.warm_bytes_max = warm;
  auto arena = Arena::create(options);
  REQUIRE(arena.ok());
  return std::move(*arena);
}

/// Mostly small, sometimes megabytes, borders of the classes included.
std::uint64_t draw_size(Rng& rng) {
  switch (rng.below(8)) {
    case 0:
      return rng.below(64);
    case 1:
      return (std::uint64_t{1} << (7 + rng.below(10))) - 64 + rng.below(3) - 1;
    case 2:
      return 65530 + rng.below(12);
    case 3:
      return rng.below(3 * kMiB);
    default:
      return rng.below(5000);
  }
}

void fill(Arena& arena, const Block& block, std::uint64_t tag) {
  // First, last and some of the middle: enough to see any overlap, cheap enough for megabytes.
  auto* data = arena.at(block.offset);
  for (std::uint64_t at = 0; at < block.size; at += std::max<std::uint64_t>(1, block.size / 64))
    data[at] = static_cast<std::byte>(tag);
  if (block.size > 0) data[block.size - 1] = static_cast<std::byte>(tag);
}

bool intact(const Arena& arena, const Block& block, std::uint64_t tag) {
  const auto* data = arena.at(block.offset);
  for (std::uint64_t at = 0; at < block.size; at += std::max<std::uint64_t>(1, block.size / 64))
    if (data[at] != static_cast<std::byte>(tag)) return false;
  return block.size == 0 || data[block.size - 1] == static_cast<std::byte>(tag);
}

}  // namespace

TEST_CASE("random allocation and release agrees with a model of intervals") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    auto arena = make_arena(32 * kMiB, seed % 2 == 0 ? 4 * kMiB : 0);
    struct Live {
      Block block;
      std::uint64_t tag;
    };
    std::map<std::uint64_t, Live> model;  // by offset
    std::uint64_t last_tag = 0;
    for (int step = 0; step < 4000; ++step) {
      if (model.empty() || rng.chance(0.55)) {
        const auto size = draw_size(rng);
        const auto block = arena->allocate(size);
        if (!block) {
          REQUIRE(arena->stats().largest_free < size);
          continue;
        }
        REQUIRE(block->size == size);
        REQUIRE(block->offset % 64 == 0);
        if (size > 64 * 1024) REQUIRE(block->offset % 4096 == 0);
        REQUIRE(block->offset + size <= arena->bytes());
        // The block with its header overlaps no other block with its header.
        const auto next = model.lower_bound(block->offset);
        if (next != model.end()) REQUIRE(block->offset + size <= next->first - sizeof(BlockHeader));
        if (next != model.begin()) {
          const auto& before = std::prev(next)->second.block;
          REQUIRE(before.offset + before.size <= block->offset - sizeof(BlockHeader));
        }
        REQUIRE(arena->header(block->offset).generation == block->generation);
        REQUIRE(arena->header(block->offset).size == size);
        fill(*arena, *block, ++last_tag);
        model.emplace(block->offset, Live{*block, last_tag});
      } else {
        auto victim = model.lower_bound(rng.below(arena->bytes()));
        if (victim == model.end()) victim = model.begin();
        REQUIRE(intact(*arena, victim->second.block, victim->second.tag));
        REQUIRE(arena->header(victim->first).generation == victim->second.block.generation);
        arena->free(victim->first);
        REQUIRE(arena->header(victim->first).generation != victim->second.block.generation);
        model.erase(victim);
      }
      if (step % 500 == 0) REQUIRE(arena->stats().blocks == model.size());
    }
    for (const auto& [offset, live] : model) {
      REQUIRE(intact(*arena, live.block, live.tag));
      arena->free(offset);
    }
    CHECK(arena->stats().blocks == 0);
    CHECK(arena->stats().block_bytes == 0);
    // Everything came together again: the whole arena is one object.
    const auto whole = arena->allocate(arena->largest_block());
    REQUIRE(whole);
    CHECK_FALSE(arena->allocate(1 * kMiB));
    arena->free(whole->offset);
    CHECK(arena->used_bytes() == 0);
  }
}

TEST_CASE("the whole arena can be one object, and not a byte more") {
  auto arena = make_arena(8 * kMiB);
  CHECK_FALSE(arena->allocate(arena->largest_block() + 1));
  CHECK_FALSE(arena->allocate(UINT64_MAX));
  const auto whole = arena->allocate(arena->largest_block());
  REQUIRE(whole);
  std::memset(arena->at(whole->offset), 0x5A, whole->size);
  CHECK(arena->header(whole->offset).generation == whole->generation);
  CHECK_FALSE(arena->allocate(1));
  arena->free(whole->offset);
  CHECK(arena->allocate(1));
}

TEST_CASE("a hole takes a large block only when its neighbours are free") {
  auto arena = make_arena(32 * kMiB);
  std::vector<Block> blocks;
  while (auto block = arena->allocate(kMiB)) blocks.push_back(*block);
  REQUIRE(blocks.size() == 31);
  std::sort(blocks.begin(), blocks.end(), [](const auto& a, const auto& b) { return a.offset < b.offset; });
  for (std::size_t i = 0; i < blocks.size(); i += 2) arena->free(blocks[i].offset);
  CHECK_FALSE(arena->allocate(2 * kMiB));
  CHECK(arena->stats().largest_free < 2 * kMiB);
  arena->free(blocks[11].offset);
  CHECK(arena->allocate(3 * kMiB));
  CHECK_FALSE(arena->allocate(2 * kMiB));
}

TEST_CASE("a generation never comes back") {
  auto arena = make_arena(4 * kMiB);
  std::vector<std::uint64_t> seen;
  for (const std::uint64_t size : {0ULL, 1ULL, 1000ULL, 70'000ULL, 1'000'000ULL})
    for (int i = 0; i < 200; ++i) {
      const auto block = arena->allocate(size);
      REQUIRE(block);
      CHECK(block->generation != 0);
      seen.push_back(block->generation);
      arena->free(block->offset);
      // What a late remote reader would find.
      CHECK(arena->header(block->offset).generation != block->generation);
    }
  std::sort(seen.begin(), seen.end());
  CHECK(std::adjacent_find(seen.begin(), seen.end()) == seen.end());
}

TEST_CASE("a full arena serves small blocks from larger classes and recovers when blocks are freed") {
  auto arena = make_arena(2 * kMiB);
  std::vector<Block> blocks;
  while (auto block = arena->allocate(300)) blocks.push_back(*block);
  CHECK(blocks.size() > 4000);
  CHECK_FALSE(arena->allocate(300));
  CHECK_FALSE(arena->allocate(10));
  arena->free(blocks.back().offset);
  blocks.pop_back();
  const auto smaller = arena->allocate(10);  // no page is left for its own class
  REQUIRE(smaller);
  arena->free(smaller->offset);
  for (const auto& block : blocks) arena->free(block.offset);
  CHECK(arena->allocate(arena->largest_block()));
}

TEST_CASE("freed memory keeps its pages up to the limit and gives back the rest") {
  auto arena = make_arena(64 * kMiB, 16 * kMiB);
  const auto block = arena->allocate(40 * kMiB);
  REQUIRE(block);
  std::memset(arena->at(block->offset), 1, block->size);
  arena->free(block->offset);
  const auto warm = arena->stats().warm_free_bytes;
  CHECK(warm <= 16 * kMiB);
  CHECK(warm >= 8 * kMiB);
  // Pages that were given back read as zero, those that stayed warm keep their bytes: the low end stays.
  CHECK(arena->at(block->offset)[kMiB] == std::byte{1});
  CHECK(arena->at(block->offset)[39 * kMiB] == std::byte{0});
  CHECK(arena->allocate(arena->largest_block()));
}

TEST_CASE("threads allocate, hand over and free without losing or sharing a block") {
  auto arena = make_arena(64 * kMiB, 8 * kMiB);
  constexpr int kThreads = 4;
  constexpr int kSteps = 8000;
  std::mutex shared_mutex;
  std::vector<std::pair<Block, std::uint64_t>> shared;  // freed by whoever comes along
  std::atomic<int> damaged{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t)
    threads.emplace_back([&, t] {
      Rng rng(static_cast<std::uint64_t>(t) + 100);
      std::vector<std::pair<Block, std::uint64_t>> mine;
      const auto check_and_free = [&](const std::pair<Block, std::uint64_t>& held) {
        if (!intact(*arena, held.first, held.second)) damaged.fetch_add(1);
        if (arena->header(held.first.offset).generation != held.first.generation) damaged.fetch_add(1);
        arena->free(held.first.offset);
      };
      for (int step = 0; step < kSteps; ++step) {
        if (rng.chance(0.5)) {
          const auto block = arena->allocate(rng.chance(0.05) ? rng.below(kMiB) : rng.below(4000));
          if (!block) continue;
          const auto tag = rng.next();
          fill(*arena, *block, tag);
          if (rng.chance(0.3)) {
            const std::lock_guard lock(shared_mutex);
            shared.emplace_back(*block, tag);
          } else {
            mine.emplace_back(*block, tag);
          }
        } else if (rng.chance(0.5)) {
          std::unique_lock lock(shared_mutex);
          if (shared.empty()) continue;
          const auto held = shared.back();
          shared.pop_back();
          lock.unlock();
          check_and_free(held);
        } else if (!mine.empty()) {
          std::swap(mine[rng.below(mine.size())], mine.back());
          check_and_free(mine.back());
          mine.pop_back();
        }
      }
      for (const auto& held : mine) check_and_free(held);
    });
  for (auto& thread : threads) thread.join();
  for (const auto& held : shared) arena->free(held.first.offset);
  CHECK(damaged == 0);
  CHECK(arena->stats().blocks == 0);
  CHECK(arena->allocate(arena->largest_block()));
}

TEST_CASE("a second mapping of the descriptor sees the same bytes") {
  auto arena = make_arena(4 * kMiB);
  const auto block = arena->allocate(5000);
  REQUIRE(block);
  std::memset(arena->at(block->offset), 7, 5000);
  std::byte seen[16];
  REQUIRE(::pread(arena->fd(), seen, sizeof seen, static_cast<off_t>(block->offset + 4900)) == 16);
  CHECK(seen[15] == std::byte{7});
  CHECK(arena->offset_of(arena->at(block->offset)) == block->offset);
  CHECK(arena->contains(arena->at(block->offset)));
  CHECK_FALSE(arena->contains(seen));
}

TEST_CASE("populate changes no byte") {
  auto arena = make_arena(16 * kMiB);
  const auto block = arena->allocate(9 * kMiB);
  REQUIRE(block);
  fill(*arena, *block, 3);
  arena->populate(block->offset, block->size, 3);
  arena->populate(arena->bytes() - 10, 1000);
  CHECK(intact(*arena, *block, 3));
}

TEST_CASE("available memory is the tightest of the machine and every cgroup above the process") {
  namespace fs = std::filesystem;
  char pattern[] = "/tmp/trireme-memory-XXXXXX";
  const fs::path root = ::mkdtemp(pattern);
  const auto write = [&](const std::string& file, const std::string& text) {
    fs::create_directories((root / file).parent_path());
    std::ofstream(root / file) << text;
  };
  write("proc/meminfo", "MemTotal:       1000000 kB\nMemAvailable:    500000 kB\n");
  CHECK(available_memory(root) == 500'000'000ULL / 1000 * 1024);

  write("proc/self/cgroup", "0::/job/step\n");
  write("sys/fs/cgroup/job/step/memory.max", "max\n");
  write("sys/fs/cgroup/job/memory.max", "100000000\n");
  write("sys/fs/cgroup/job/memory.current", "30000000\n");
  write("sys/fs/cgroup/job/memory.stat", "anon 5\ninactive_file 10000000\n");
  CHECK(available_memory(root) == 80'000'000);

  write("proc/self/cgroup", "7:cpu,memory:/a\n0::/job/step\n");
  write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "50000000\n");
  write("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "60000000\n");
  CHECK(available_memory(root) == 0);
  fs::remove_all(root);
}

TEST_CASE("the default size is shared by the ranks of the node and can be overridden") {
  ::unsetenv("TRIREME_ARENA_BYTES");
  const auto one = default_arena_bytes(1);
  CHECK(one >= 64 * kMiB);
  CHECK(one < available_memory());
  CHECK(default_arena_bytes(4) <= std::max(one / 3, 64 * kMiB));
  ::setenv("TRIREME_ARENA_BYTES", "1.5g", 1);
  CHECK(default_arena_bytes(7) == 1536 * kMiB);
  ::unsetenv("TRIREME_ARENA_BYTES");
}
