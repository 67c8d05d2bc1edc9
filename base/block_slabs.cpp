#include "base/block_slabs.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <new>
#include <utility>

#include "base/check.hpp"

namespace trireme {

namespace {

/// Of a size; then a huge page that is hardly used adds a quarter at most.
constexpr std::size_t kSlabsOfSmallPages = 4;
/// What fresh blocks of one take() touch.
constexpr std::size_t kFreshBytes = 8192;

/// Aligned to its size, so that a block's address tells its slab.
void* map_slab() {
  constexpr auto size = BlockSlabs::kSlabBytes;
  auto* got = ::mmap(nullptr, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (got == MAP_FAILED) throw std::bad_alloc();
  auto* begin = static_cast<std::byte*>(got);
  const auto before = (size - reinterpret_cast<std::uintptr_t>(begin) % size) % size;
  if (before != 0) ::munmap(begin, before);
  ::munmap(begin + before + size, size - before);
  return begin + before;
}

}  // namespace

/// Lies at the start of its memory; blocks follow.
struct alignas(64) BlockSlabs::Slab {
  Slab* next = nullptr;
  Slab* before = nullptr;
  FreeBlock* returned = nullptr;
  std::size_t cut = sizeof(Slab);  // from the start of the slab: what has been a block before
  std::uint32_t out = 0;           // blocks that are in use, or in a cache
  bool is_listed = false;
};

BlockSlabs::BlockSlabs(std::size_t block_bytes) : block_bytes_(block_bytes) {
  TRIREME_CHECK(block_bytes % 16 == 0 && block_bytes <= kSlabBytes / 2,
                "a block's size is a multiple of 16, below 1 MiB");
}

BlockSlabs::~BlockSlabs() {
  while (listed_ != nullptr) {
    auto* slab = listed_;
    unlist(slab);
    ::munmap(slab, kSlabBytes);
  }
}

void BlockSlabs::list(Slab* slab) noexcept {
  slab->is_listed = true;
  slab->before = nullptr;
  slab->next = listed_;
  if (listed_ != nullptr) listed_->before = slab;
  listed_ = slab;
}

void BlockSlabs::unlist(Slab* slab) noexcept {
  slab->is_listed = false;
  (slab->before != nullptr ? slab->before->next : listed_) = slab->next;
  if (slab->next != nullptr) slab->next->before = slab->before;
}

void BlockSlabs::grow() {
  auto* memory = map_slab();
  // Without huge pages it works as well, so the answer does not matter.
  if (slabs_ >= kSlabsOfSmallPages) ::madvise(memory, kSlabBytes, MADV_HUGEPAGE);
  list(new (memory) Slab);
  ++slabs_;
}

FreeBlocks BlockSlabs::take(std::uint32_t limit) {
  if (listed_ == nullptr) grow();
  auto* slab = listed_;
  if (slab == spare_) spare_ = nullptr;
  FreeBlocks taken;
  for (; taken.count < limit && slab->returned != nullptr; ++taken.count) {
    auto* block = std::exchange(slab->returned, slab->returned->next);
    block->next = taken.first;
    taken.first = block;
  }
  if (taken.count == 0) {
    const auto most = std::min<std::size_t>(limit, std::max<std::size_t>(1, kFreshBytes / block_bytes_));
    const auto fresh = std::min(most, (kSlabBytes - slab->cut) / block_bytes_);
    auto* start = reinterpret_cast<std::byte*>(slab) + slab->cut;
    for (auto i = fresh; i-- > 0;) taken.first = new (start + i * block_bytes_) FreeBlock{taken.first};
    taken.count = static_cast<std::uint32_t>(fresh);
    slab->cut += fresh * block_bytes_;
  }
  slab->out += taken.count;
  if (slab->returned == nullptr && slab->cut + block_bytes_ > kSlabBytes) unlist(slab);
  return taken;
}

void BlockSlabs::give_one(FreeBlock* block) noexcept {
  auto* slab = reinterpret_cast<Slab*>(reinterpret_cast<std::uintptr_t>(block) & ~(kSlabBytes - 1));
  block->next = slab->returned;
  slab->returned = block;
  if (!slab->is_listed) list(slab);
  if (--slab->out != 0) return;
  if (spare_ == nullptr) {
    spare_ = slab;
    return;
  }
  unlist(slab);
  ::munmap(slab, kSlabBytes);
  --slabs_;
}

void BlockSlabs::give(FreeBlock* first) noexcept {
  while (first != nullptr) give_one(std::exchange(first, first->next));
}

}  // namespace trireme
