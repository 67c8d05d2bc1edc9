#include "base/block_cache.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "base/block_slabs.hpp"

// The sanitizers tell whether an object is used after its end; memory that is used again would hide it.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TRIREME_CACHE_BLOCKS 0
#else
#define TRIREME_CACHE_BLOCKS 1
#endif

namespace trireme {

#if TRIREME_CACHE_BLOCKS

namespace {

constexpr std::size_t kStep = 16;
constexpr std::size_t kClasses = 32;  // up to 512 bytes
/// What changes hands at once, and half of what a thread keeps.
constexpr std::uint32_t kBatch = 64;
/// Batches that wait for a taker, per class.
constexpr std::size_t kSharedMax = 256;

std::size_t class_of(std::size_t bytes) { return (bytes - 1) / kStep; }

/// Batches on their way between threads, and the slabs behind them. Reachable to the end: threads give back what they
/// have as they end.
struct Shared {
  std::mutex mutex;
  std::array<std::vector<FreeBlocks>, kClasses> batches;
  std::array<BlockSlabs, kClasses> slabs = make_slabs(std::make_index_sequence<kClasses>());

 private:
  template <std::size_t... Which>
  static std::array<BlockSlabs, kClasses> make_slabs(std::index_sequence<Which...>) {
    return {BlockSlabs{(Which + 1) * kStep}...};
  }
};
Shared& shared() {
  static auto& batches = *new Shared;
  return batches;
}

struct Cache {
  std::array<FreeBlocks, kClasses> lists;

  ~Cache() {
    auto& to = shared();
    const std::lock_guard lock(to.mutex);
    for (std::size_t which = 0; which < kClasses; ++which) to.slabs[which].give(lists[which].first);
  }
  FreeBlock* refill(std::size_t which) {
    auto& from = shared();
    const std::lock_guard lock(from.mutex);
    auto& batches = from.batches[which];
    if (batches.empty()) {
      lists[which] = from.slabs[which].take(kBatch);
    } else {
      lists[which] = batches.back();
      batches.pop_back();
    }
    return lists[which].first;
  }
  /// Of a list of two batches, the newer goes on.
  void hand_on(std::size_t which) noexcept {
    auto& list = lists[which];
    FreeBlocks batch{list.first, kBatch};
    auto* last = list.first;
    for (std::uint32_t i = 1; i < kBatch; ++i) last = last->next;
    list.first = std::exchange(last->next, nullptr);
    list.count -= kBatch;
    auto& to = shared();
    const std::lock_guard lock(to.mutex);
    auto& batches = to.batches[which];
    if (batches.capacity() == 0) batches.reserve(kSharedMax);
    if (batches.size() < kSharedMax) {
      batches.push_back(batch);
    } else {
      to.slabs[which].give(batch.first);
    }
  }
};

/// A thread's cache; null before the first use and after the thread's other objects have been destroyed.
thread_local Cache* mine = nullptr;
thread_local bool over = false;

struct Owner {
  std::unique_ptr<Cache> cache = std::make_unique<Cache>();
  Owner() { mine = cache.get(); }
  ~Owner() {
    mine = nullptr;
    over = true;
  }
};

Cache* make_mine() {
  if (over) return nullptr;
  thread_local Owner owner;
  return mine;
}

/// Of threads whose cache is gone.
void* take_shared(std::size_t which) {
  auto& from = shared();
  const std::lock_guard lock(from.mutex);
  return from.slabs[which].take(1).first;
}
void give_shared(void* block, std::size_t which) noexcept {
  auto& to = shared();
  const std::lock_guard lock(to.mutex);
  to.slabs[which].give(new (block) FreeBlock{nullptr});
}

}  // namespace

void* take_block(std::size_t bytes) {
  const auto which = class_of(bytes);
  if (which >= kClasses) return ::operator new(bytes);
  auto* cache = mine;
  if (cache != nullptr || (cache = make_mine()) != nullptr) [[likely]] {
    auto& list = cache->lists[which];
    auto* block = list.first;
    if (block == nullptr) [[unlikely]]
      block = cache->refill(which);
    list.first = block->next;
    --list.count;
    return block;
  }
  return take_shared(which);
}

void give_block(void* block, std::size_t bytes) noexcept {
  const auto which = class_of(bytes);
  auto* cache = mine;
  if (which >= kClasses) return ::operator delete(block);
  if (cache == nullptr && (cache = make_mine()) == nullptr) return give_shared(block, which);
  auto& list = cache->lists[which];
  list.first = new (block) FreeBlock{list.first};
  if (++list.count == 2 * kBatch) cache->hand_on(which);
}

#else

void* take_block(std::size_t bytes) { return ::operator new(bytes); }
void give_block(void* block, std::size_t) noexcept { ::operator delete(block); }

#endif

}  // namespace trireme
