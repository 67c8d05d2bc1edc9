#pragma once

#include <cstddef>
#include <cstdint>

namespace trireme {

/// A block that nobody uses, and the next one of its list.
struct FreeBlock {
  FreeBlock* next;
};
struct FreeBlocks {
  FreeBlock* first = nullptr;
  std::uint32_t count = 0;
};

/// Where the block cache's blocks of one size come from and go to: slabs of 2 MiB (Bonwick 1994), cut as they are
/// needed.
///
/// From its fifth slab on a size is in demand, and the kernel is asked for huge pages: a backlog of messages or tasks
/// grows through fresh memory, and a fault for every 4 KiB costs more than the messages do. Before, what a huge page
/// has beyond what is needed would be a large part of a size's memory. A slab whose blocks are all back is returned to
/// the system, but for one.
///
/// Threading: the caller's lock. Errors: std::bad_alloc. Units: bytes; the size of a block is a multiple of 16.
class BlockSlabs {
 public:
  static constexpr std::size_t kSlabBytes = std::size_t{2} << 20U;

  explicit BlockSlabs(std::size_t block_bytes);
  BlockSlabs(const BlockSlabs&) = delete;
  BlockSlabs& operator=(const BlockSlabs&) = delete;
  /// All blocks must be back.
  ~BlockSlabs();

  /// At least one block, at most `limit`; fresh ones fill a page or a few, no more.
  FreeBlocks take(std::uint32_t limit);
  void give(FreeBlock* first) noexcept;
  /// Slabs that the system has been asked for and that were not returned.
  std::size_t slabs() const { return slabs_; }

 private:
  struct Slab;
  void grow();
  void give_one(FreeBlock* block) noexcept;
  void list(Slab* slab) noexcept;
  void unlist(Slab* slab) noexcept;

  const std::size_t block_bytes_;
  Slab* listed_ = nullptr;  // slabs that have blocks to give, the one that was given to last first
  Slab* spare_ = nullptr;   // an empty one, listed too
  std::size_t slabs_ = 0;
};

}  // namespace trireme
