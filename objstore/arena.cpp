#include "objstore/arena.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <thread>
#include <vector>

#include "base/check.hpp"
#include "objstore/page_heap.hpp"

namespace trireme::objstore {

namespace {

constexpr std::uint64_t kHeaderBytes = sizeof(BlockHeader);
constexpr std::uint64_t kHugePageBytes = 2U << 20U;
constexpr std::uint64_t kArenaBytesMin = 1U << 20U;
constexpr std::uint64_t kSlabBytesMin = 64U << 10U;
constexpr std::uint64_t kSmallBytesMax = 64U << 10U;  // of data
constexpr std::uint64_t kBlocksPerSlabMin = 8;
constexpr unsigned kBlocksPerSlabMax = 512;
constexpr unsigned kShardsMax = 32;
constexpr unsigned kClasses = 36;

/// Block sizes with header: steps of 64 up to 512, then four per doubling, so at most a fifth is lost to rounding.
constexpr std::array<std::uint32_t, kClasses> make_class_bytes() {
  std::array<std::uint32_t, kClasses> out{};
  unsigned n = 0;
  for (std::uint32_t bytes = 128; bytes <= 512; bytes += 64) out[n++] = bytes;
  for (std::uint32_t step = 128; step <= 16384; step *= 2)
    for (std::uint32_t i = 5; i <= 8 && n < kClasses - 1; ++i) out[n++] = step * i;
  // The last class fits 64 KiB of data exactly, after a page that ends with the header: copies of whole pages are
  // faster where a page begins.
  while (n < kClasses) out[n++] = static_cast<std::uint32_t>(kPageBytes + kSmallBytesMax);
  return out;
}
constexpr auto kClassBytes = make_class_bytes();
static_assert(kClassBytes[kClasses - 2] == 65536 && kClassBytes[kClasses - 1] == kPageBytes + kSmallBytesMax);

/// Where in a block its data begins.
constexpr std::uint64_t data_at(unsigned size_class) { return size_class == kClasses - 1 ? kPageBytes : kHeaderBytes; }

unsigned class_of(std::uint64_t block_bytes) {
  if (block_bytes <= 512) return block_bytes <= 128 ? 0 : static_cast<unsigned>((block_bytes + 63) / 64 - 2);
  if (block_bytes > 65536) return kClasses - 1;
  const unsigned log = static_cast<unsigned>(std::bit_width(block_bytes - 1)) - 1;  // 2^log < block_bytes <= 2^(log+1)
  const auto quarter = static_cast<unsigned>((block_bytes - 1) >> (log - 2U)) - 4;  // 0..3
  return 7 + (log - 9) * 4 + quarter;
}

std::uint64_t slab_bytes(unsigned size_class) {
  const auto bytes = std::max<std::uint64_t>(kSlabBytesMin, std::uint64_t{kClassBytes[size_class]} * kBlocksPerSlabMin);
  return (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

/// Free slabs kept back for reuse: at most this share of the arena.
constexpr std::uint64_t kKeptShare = 32;
/// A small block may take a larger class's place when no page is left: up to four times its size.
constexpr unsigned kClassesTriedWhenFull = 8;
/// Freed memory that keeps its pages by default, where the arena has as much.
constexpr std::uint64_t kWarmBytesMin = 1U << 30U;
constexpr int kMadvPopulateWrite = 23;  // MADV_POPULATE_WRITE, which older headers lack

struct Bin;

/// A run of pages cut into blocks of one class. Guarded by its bin's mutex.
struct Slab {
  std::uint64_t page = 0;
  std::uint32_t block_bytes = 0;
  std::uint32_t capacity = 0;
  std::uint32_t free = 0;
  Bin* bin = nullptr;
  bool kept = false;       // empty, and counted in empty_slab_bytes
  Slab* before = nullptr;  // in one of the bin's lists
  Slab* after = nullptr;
  std::array<std::uint64_t, kBlocksPerSlabMax / 64> free_bits{};
};

/// The slabs of one size class in one shard.
struct alignas(64) Bin {
  std::mutex mutex;         // guards what follows
  Slab* partial = nullptr;  // slabs with a free block; the head is used first
  Slab* full = nullptr;
  std::uint64_t allocations = 0;  // ever; makes generations
  std::uint64_t live = 0;
  std::uint16_t number = 0;     // unique in the arena; constant
  std::uint8_t size_class = 0;  // constant

  static void link(Slab*& list, Slab* slab) {
    slab->before = nullptr;
    slab->after = list;
    if (list != nullptr) list->before = slab;
    list = slab;
  }
  static void unlink(Slab*& list, Slab* slab) {
    (slab->before != nullptr ? slab->before->after : list) = slab->after;
    if (slab->after != nullptr) slab->after->before = slab->before;
  }
};

/// What stands at a page: nothing (0), a slab (its address), or the data of a large block (its pages << 1 | 1).
///
/// Relaxed throughout: whoever frees a block got it from whoever allocated it, and that hand-over orders the entry.
using PageEntry = std::atomic<std::uintptr_t>;

/// Spreads threads over shards.
unsigned thread_number() {
  static std::atomic<unsigned> next{0};
  thread_local const unsigned mine = next.fetch_add(1, std::memory_order_relaxed);
  return mine;
}

/// Generations are (count of allocations << 16 | where counted): unique without a counter that all threads share.
constexpr unsigned kWhereBits = 16;
constexpr std::uint64_t kWhereLarge = 0xFFFF;
static_assert(kShardsMax * kClasses < kWhereLarge);

}  // namespace

struct Arena::Impl {
  int fd = -1;
  std::byte* base = nullptr;
  std::uint64_t bytes = 0;
  void* reserved = nullptr;  // address space around base, for its alignment
  std::uint64_t reserved_bytes = 0;
  PageEntry* pages = nullptr;
  std::uint64_t pages_bytes = 0;
  std::unique_ptr<PageHeap> heap;
  unsigned shards = 1;
  std::unique_ptr<Bin[]> bins;                      // [shard * kClasses + class]
  std::atomic<std::uint64_t> large_allocations{0};  // relaxed: only unique
  std::atomic<std::uint64_t> large_live{0};         // relaxed: statistics
  std::atomic<std::uint64_t> large_bytes{0};        // relaxed: statistics
  std::atomic<std::uint64_t> empty_slab_bytes{0};   // relaxed: a budget, may be off for a moment

  ~Impl();
  Block finish(std::uint64_t offset, std::uint64_t size, std::uint64_t generation);
  std::optional<Block> allocate_small(unsigned size_class, std::uint64_t size);
  std::optional<Block> allocate_large(std::uint64_t size);
  Block take(Bin& bin, std::uint64_t size);
  Slab* make_slab(unsigned size_class);
  void free_small(Slab* slab, std::uint64_t offset);
  void release(Slab* slab);
  bool trim();
};

Arena::Impl::~Impl() {
  for (unsigned i = 0; bins && i < shards * kClasses; ++i)
    for (auto** list : {&bins[i].partial, &bins[i].full})
      while (auto* slab = *list) {
        Bin::unlink(*list, slab);
        delete slab;
      }
  if (pages != nullptr) ::munmap(static_cast<void*>(pages), pages_bytes);
  if (reserved != nullptr) ::munmap(reserved, reserved_bytes);
  if (fd >= 0) ::close(fd);
}

Block Arena::Impl::finish(std::uint64_t offset, std::uint64_t size, std::uint64_t generation) {
  auto* header = reinterpret_cast<BlockHeader*>(base + offset - kHeaderBytes);
  header->size = size;
  header->generation.store(generation, std::memory_order_release);  // pairs with a peer's acquire
  return {offset, size, generation};
}

/// With bin.mutex held and bin.partial not empty.
Block Arena::Impl::take(Bin& bin, std::uint64_t size) {
  Slab* slab = bin.partial;
  if (slab->free == slab->capacity && slab->kept) {
    slab->kept = false;
    empty_slab_bytes.fetch_sub(slab_bytes(bin.size_class), std::memory_order_relaxed);
  }
  unsigned word = 0;
  while (slab->free_bits[word] == 0) ++word;
  const auto bit = static_cast<unsigned>(std::countr_zero(slab->free_bits[word]));
  slab->free_bits[word] &= slab->free_bits[word] - 1;
  if (--slab->free == 0) {
    Bin::unlink(bin.partial, slab);
    Bin::link(bin.full, slab);
  }
  ++bin.live;
  const auto generation = ++bin.allocations << kWhereBits | bin.number;
  const auto index = std::uint64_t{word} * 64 + bit;
  return finish(slab->page * kPageBytes + index * slab->block_bytes + data_at(bin.size_class), size, generation);
}

Slab* Arena::Impl::make_slab(unsigned size_class) {
  const auto slab_pages = slab_bytes(size_class) / kPageBytes;
  auto page = heap->allocate_high(slab_pages);
  if (!page && trim()) page = heap->allocate_high(slab_pages);
  if (!page) return nullptr;
  auto* slab = new Slab;
  slab->page = *page;
  slab->block_bytes = kClassBytes[size_class];
  slab->capacity = static_cast<std::uint32_t>(
      std::min<std::uint64_t>(kBlocksPerSlabMax, slab_bytes(size_class) / slab->block_bytes));
  slab->free = slab->capacity;
  for (unsigned i = 0; i < slab->capacity; ++i) slab->free_bits[i / 64] |= std::uint64_t{1} << (i % 64);
  for (std::uint64_t i = 0; i < slab_pages; ++i)
    pages[*page + i].store(reinterpret_cast<std::uintptr_t>(slab), std::memory_order_relaxed);
  return slab;
}

std::optional<Block> Arena::Impl::allocate_small(unsigned size_class, std::uint64_t size) {
  const unsigned shard = thread_number() & (shards - 1);
  Bin& bin = bins[shard * kClasses + size_class];
  {
    const std::lock_guard lock(bin.mutex);
    if (bin.partial != nullptr) return take(bin, size);
  }
  // The bin's lock is not held while a slab is made: making one may trim all bins.
  if (auto* slab = make_slab(size_class)) {
    const std::lock_guard lock(bin.mutex);
    slab->bin = &bin;
    Bin::link(bin.partial, slab);
    return take(bin, size);
  }
  // No pages are left. Free blocks of other shards and of somewhat larger classes still serve.
  const unsigned last = std::min(kClasses - 1, size_class + kClassesTriedWhenFull);
  for (unsigned larger = size_class; larger <= last; ++larger)
    for (unsigned i = 0; i < shards; ++i) {
      Bin& other = bins[((shard + i) & (shards - 1)) * kClasses + larger];
      const std::lock_guard lock(other.mutex);
      if (other.partial != nullptr) return take(other, size);
    }
  return std::nullopt;
}

std::optional<Block> Arena::Impl::allocate_large(std::uint64_t size) {
  // The header takes the end of a page of its own, so that the data begins on the next.
  if (size > bytes) return std::nullopt;
  const auto needed = (size + kPageBytes - 1) / kPageBytes + 1;
  auto page = heap->allocate(needed);
  if (!page && trim()) page = heap->allocate(needed);
  if (!page) return std::nullopt;
  pages[*page + 1].store(needed << 1U | 1U, std::memory_order_relaxed);
  large_live.fetch_add(1, std::memory_order_relaxed);
  large_bytes.fetch_add(needed * kPageBytes, std::memory_order_relaxed);
  const auto count = large_allocations.fetch_add(1, std::memory_order_relaxed) + 1;
  return finish((*page + 1) * kPageBytes, size, count << kWhereBits | kWhereLarge);
}

/// The slab is in no list any more.
void Arena::Impl::release(Slab* slab) {
  const auto slab_pages = slab_bytes(slab->bin->size_class) / kPageBytes;
  for (std::uint64_t i = 0; i < slab_pages; ++i) pages[slab->page + i].store(0, std::memory_order_relaxed);
  heap->free(slab->page, slab_pages);
  delete slab;
}

void Arena::Impl::free_small(Slab* slab, std::uint64_t offset) {
  Bin& bin = *slab->bin;
  const auto at = offset - data_at(bin.size_class) - slab->page * kPageBytes;
  TRIREME_CHECK(at % slab->block_bytes == 0, "offset is not that of a block");
  const auto index = at / slab->block_bytes;
  auto* header = reinterpret_cast<BlockHeader*>(base + offset - kHeaderBytes);
  {
    const std::lock_guard lock(bin.mutex);
    auto& word = slab->free_bits[index / 64];
    const auto bit = std::uint64_t{1} << (index % 64);
    TRIREME_CHECK((word & bit) == 0, "block freed twice");
    header->generation.store(0, std::memory_order_release);  // pairs with a peer's acquire
    word |= bit;
    --bin.live;
    if (slab->free++ == 0) {
      Bin::unlink(bin.full, slab);
      Bin::link(bin.partial, slab);
    }
    if (slab->free < slab->capacity) return;
    // Empty. Some are kept, so that one block allocated and freed in turn does not cost a slab each time.
    const auto mine = slab_bytes(bin.size_class);
    if (empty_slab_bytes.fetch_add(mine, std::memory_order_relaxed) + mine <= bytes / kKeptShare) {
      slab->kept = true;
      return;
    }
    empty_slab_bytes.fetch_sub(mine, std::memory_order_relaxed);
    Bin::unlink(bin.partial, slab);
  }
  release(slab);
}

/// Gives all empty slabs back to the page heap. True when there was one.
bool Arena::Impl::trim() {
  Slab* empty = nullptr;
  for (unsigned i = 0; i < shards * kClasses; ++i) {
    Bin& bin = bins[i];
    const std::lock_guard lock(bin.mutex);
    for (Slab *slab = bin.partial, *after = nullptr; slab != nullptr; slab = after) {
      after = slab->after;
      if (slab->free < slab->capacity) continue;
      if (slab->kept) empty_slab_bytes.fetch_sub(slab_bytes(bin.size_class), std::memory_order_relaxed);
      Bin::unlink(bin.partial, slab);
      slab->after = empty;
      empty = slab;
    }
  }
  const bool any = empty != nullptr;
  while (empty != nullptr) release(std::exchange(empty, empty->after));
  return any;
}

Arena::Arena(std::unique_ptr<Impl> impl, std::byte* base, std::uint64_t bytes)
    : impl_(std::move(impl)), base_(base), bytes_(bytes) {}
Arena::~Arena() = default;

Result<std::unique_ptr<Arena>> Arena::create(const ArenaOptions& options) {
  auto impl = std::make_unique<Impl>();
  auto bytes = options.bytes != 0 ? options.bytes : default_arena_bytes(options.ranks_on_node);
  bytes = (std::max(bytes, kArenaBytesMin) + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  const auto refused = [&](std::string_view what) {
    const int error = errno;
    return make_error(Errc::io,
                      fmt::format("{} for an arena of {} bytes: {}. Set TRIREME_ARENA_BYTES to a smaller size, "
                                  "or raise the limit on address space (ulimit -v).",
                                  what, bytes, std::strerror(error)));
  };
  impl->bytes = bytes;
  impl->fd = ::memfd_create(options.name.c_str(), MFD_CLOEXEC);
  if (impl->fd < 0) return refused("memfd_create failed");
  if (::ftruncate(impl->fd, static_cast<off_t>(bytes)) != 0) return refused("ftruncate failed");

  // Huge pages need an address that is a multiple of their size.
  impl->reserved_bytes = bytes + kHugePageBytes;
  void* reserved = ::mmap(nullptr, impl->reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return refused("reserving address space failed");
  impl->reserved = reserved;
  const auto aligned =
      (reinterpret_cast<std::uintptr_t>(reserved) + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  void* base = ::mmap(reinterpret_cast<void*>(aligned), bytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_FIXED | MAP_NORESERVE, impl->fd, 0);
  if (base == MAP_FAILED) return refused("mmap failed");
  impl->base = static_cast<std::byte*>(base);
  if (options.huge_pages) ::madvise(base, bytes, MADV_HUGEPAGE);
  ::madvise(base, bytes, MADV_DONTDUMP);  // a core file holds the program, not the data

  impl->pages_bytes = bytes / kPageBytes * sizeof(PageEntry);
  void* pages =
      ::mmap(nullptr, impl->pages_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) return refused("mapping the page table failed");
  impl->pages = static_cast<PageEntry*>(pages);  // zero bytes are empty entries

  const auto warm =
      options.warm_bytes_max != 0 ? options.warm_bytes_max : std::max(bytes / 2, std::min(bytes, kWarmBytesMin));
  impl->heap = std::make_unique<PageHeap>(impl->base, bytes, warm);
  impl->shards = std::min(kShardsMax, std::bit_ceil(2 * std::max(1U, std::thread::hardware_concurrency())));
  impl->bins = std::make_unique<Bin[]>(impl->shards * kClasses);
  for (unsigned i = 0; i < impl->shards * kClasses; ++i) {
    impl->bins[i].number = static_cast<std::uint16_t>(i);
    impl->bins[i].size_class = static_cast<std::uint8_t>(i % kClasses);
  }
  auto* const at = impl->base;
  return std::unique_ptr<Arena>(new Arena(std::move(impl), at, bytes));
}

std::optional<Block> Arena::allocate(std::uint64_t size) {
  if (size <= kSmallBytesMax) return impl_->allocate_small(class_of(size + kHeaderBytes), size);
  return impl_->allocate_large(size);
}

void Arena::free(std::uint64_t offset) {
  TRIREME_CHECK(offset >= kHeaderBytes && offset < bytes_, "offset outside the arena");
  auto& entry = impl_->pages[offset / kPageBytes];
  const auto value = entry.load(std::memory_order_relaxed);
  TRIREME_CHECK(value != 0, "freed what is not allocated");
  if ((value & 1U) == 0) {
    impl_->free_small(reinterpret_cast<Slab*>(value), offset);
    return;
  }
  TRIREME_CHECK(offset % kPageBytes == 0, "offset is not that of a block");
  reinterpret_cast<BlockHeader*>(base_ + offset - kHeaderBytes)
      ->generation.store(0, std::memory_order_release);  // pairs with a peer's acquire
  entry.store(0, std::memory_order_relaxed);
  const auto pages = value >> 1U;
  impl_->large_live.fetch_sub(1, std::memory_order_relaxed);
  impl_->large_bytes.fetch_sub(pages * kPageBytes, std::memory_order_relaxed);
  impl_->heap->free(offset / kPageBytes - 1, pages);
}

int Arena::fd() const { return impl_->fd; }
void Arena::close_file() {
  if (impl_->fd >= 0) ::close(std::exchange(impl_->fd, -1));
}
std::uint64_t Arena::largest_block() const { return bytes_ - kPageBytes; }
std::uint64_t Arena::used_bytes() const { return impl_->heap->used_pages() * kPageBytes; }

ArenaStats Arena::stats() const {
  ArenaStats out;
  out.bytes = bytes_;
  out.used_bytes = used_bytes();
  out.blocks = impl_->large_live.load(std::memory_order_relaxed);
  out.block_bytes = impl_->large_bytes.load(std::memory_order_relaxed);
  for (unsigned i = 0; i < impl_->shards * kClasses; ++i) {
    Bin& bin = impl_->bins[i];
    const std::lock_guard lock(bin.mutex);
    out.blocks += bin.live;
    out.block_bytes += bin.live * kClassBytes[bin.size_class];
  }
  const auto pages = impl_->heap->largest_free_pages();
  out.largest_free = pages > 0 ? (pages - 1) * kPageBytes : 0;
  out.warm_free_bytes = impl_->heap->warm_free_bytes();
  return out;
}

void Arena::populate(std::uint64_t offset, std::uint64_t size, unsigned threads) {
  const auto begin = offset / kPageBytes * kPageBytes;
  const auto end = std::min(bytes_, (offset + size + kPageBytes - 1) / kPageBytes * kPageBytes);
  if (begin >= end) return;
  const auto fault_in = [this](std::uint64_t from, std::uint64_t to) {
    if (::madvise(base_ + from, to - from, kMadvPopulateWrite) == 0) return;
    // Kernels before 5.14: touch each page without changing what another thread may be writing there.
    for (auto at = from; at < to; at += kPageBytes)
      std::atomic_ref(*reinterpret_cast<std::uint8_t*>(base_ + at)).fetch_or(0, std::memory_order_relaxed);
  };
  const auto part = ((end - begin) / std::max(1U, threads) + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  std::vector<std::thread> helpers;
  auto from = begin;
  for (; from + part < end; from += part) helpers.emplace_back(fault_in, from, from + part);
  fault_in(from, end);
  for (auto& helper : helpers) helper.join();
}

}  // namespace trireme::objstore
