#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/result.hpp"

namespace trireme::objstore {

/// Stands directly before the data of every block, in shared memory, so that whoever reads the data one-sidedly (a
/// get from another node, a peer that maps this arena) can tell afterwards whether it was still the same object.
///
/// Read it after the data: a generation that still matches proves that the block was not freed before the data was
/// read.
struct alignas(64) BlockHeader {
  /// Unique in the arena for every allocation; 0 while the block is free. Written by allocate() and free()
  /// (release), read by peers (acquire, or a get issued after the data has arrived).
  std::atomic<std::uint64_t> generation;
  std::uint64_t size;  ///< bytes asked for
  std::byte reserved[48];
};
static_assert(sizeof(BlockHeader) == 64);

/// A piece of an arena. `offset` is that of the data, counted from the arena's base; the header lies 64 bytes before.
struct Block {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::uint64_t generation = 0;
};

struct ArenaOptions {
  std::uint64_t bytes = 0;             ///< 0 = default_arena_bytes(ranks_on_node)
  unsigned ranks_on_node = 1;          ///< shares the default size
  std::uint64_t warm_bytes_max = 0;    ///< free memory that keeps its pages; 0 = half the arena, at least 1 GiB
  bool huge_pages = true;              ///< ask for transparent huge pages; ignored where they are not allowed
  std::string name = "trireme-arena";  ///< shown in /proc/<pid>/maps
};

struct ArenaStats {
  std::uint64_t bytes = 0;         ///< size of the mapping
  std::uint64_t used_bytes = 0;    ///< pages in blocks and in slabs of small blocks
  std::uint64_t block_bytes = 0;   ///< live blocks, as rounded up
  std::uint64_t blocks = 0;        ///< live blocks
  std::uint64_t largest_free = 0;  ///< largest data size one allocate() could get now (slabs kept back count as used)
  std::uint64_t warm_free_bytes = 0;  ///< free memory that still has its pages (an upper bound)
};

/// The memory of a rank that peers read: one memfd, mapped shared, grown by the kernel page by page as it is touched.
///
/// Blocks up to 64 KiB come from slabs of 36 size classes, sharded so that threads rarely meet; larger ones are
/// page-aligned ranges, best fit, coalesced when freed, up to the whole arena as one block. All bookkeeping is private
/// memory of this process: a worker that scribbles over the mapping damages data, never the allocator.
/// Freed ranges keep their pages up to a limit, since a page fault costs more than the copy into the page.
///
/// Threading: any thread.
/// Errors:    create() names what the system refused; allocate() is empty when no free range is large enough.
///            Freeing what is not allocated is a broken invariant.
/// Units:     bytes.
/// Lifetime:  outlives every block, and every peer's access through expose().
class Arena {
 public:
  static Result<std::unique_ptr<Arena>> create(const ArenaOptions& options);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// Data is 64-byte aligned, page-aligned above 64 KiB; content is undefined. size 0 gets a block too.
  std::optional<Block> allocate(std::uint64_t size);
  void free(std::uint64_t offset);

  std::byte* base() const { return base_; }
  std::uint64_t bytes() const { return bytes_; }
  std::span<std::byte> memory() const { return {base_, static_cast<std::size_t>(bytes_)}; }
  int fd() const;
  /// The mapping stays; nobody can map it any more.
  void close_file();
  std::byte* at(std::uint64_t offset) const { return base_ + offset; }
  std::uint64_t offset_of(const void* pointer) const {
    return static_cast<std::uint64_t>(static_cast<const std::byte*>(pointer) - base_);
  }
  bool contains(const void* pointer) const {
    return pointer >= base_ && static_cast<const std::byte*>(pointer) < base_ + bytes_;
  }
  const BlockHeader& header(std::uint64_t offset) const {
    return *reinterpret_cast<const BlockHeader*>(base_ + offset - sizeof(BlockHeader));
  }
  /// The largest size that an empty arena can give; more can never fit.
  std::uint64_t largest_block() const;
  /// Pages in blocks and slabs. Cheap, for pressure decisions.
  std::uint64_t used_bytes() const;
  ArenaStats stats() const;

  /// Faults the pages in ahead of use (the job's start, a known large put), with up to `threads` threads.
  void populate(std::uint64_t offset, std::uint64_t size, unsigned threads = 1);

 private:
  struct Impl;
  Arena(std::unique_ptr<Impl> impl, std::byte* base, std::uint64_t bytes);
  std::unique_ptr<Impl> impl_;
  std::byte* base_;
  std::uint64_t bytes_;
};

/// 30% of the memory this process may still use (MemAvailable and every cgroup limit above it), shared by the ranks of
/// the node. TRIREME_ARENA_BYTES (with suffix k, m, g) overrides it.
std::uint64_t default_arena_bytes(unsigned ranks_on_node);
/// Memory this process may still use. `root` is "" but in tests.
std::uint64_t available_memory(const std::string& root = {});

}  // namespace trireme::objstore
