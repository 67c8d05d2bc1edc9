#pragma once

#include <cstddef>

namespace trireme::ml {

/// Where one algorithm gives way to another. Chosen for 512 KiB of second-level cache a core and UCX over TCP; the row
/// "all-reduce, CPU" of the benchmarks shows whether they suit a machine. Every member must have the same.
struct Thresholds {
  /// Inside a node: up to this many bytes in all, every member reads what every other wrote; above, each combines a
  /// part of every chunk.
  std::size_t node_direct_bytes = 16U << 10U;
  /// Staged at a time: contributions and results of a chunk stay in the cache.
  std::size_t node_chunk_bytes = 256U << 10U;
  /// Between nodes: recursive doubling up to here (fewest steps), the ring above (fewest bytes). Between two, both move
  /// the same bytes.
  std::size_t net_doubling_bytes = 32U << 10U;
  std::size_t net_doubling_of_two_bytes = 128U << 10U;
  /// Piece of the ring: small enough that combining overlaps with moving.
  std::size_t net_segment_bytes = 512U << 10U;
  /// Broadcast between nodes: a binomial tree up to here, a chain of segments above.
  std::size_t net_tree_bytes = 64U << 10U;
  /// fixed_order: up to here everybody sends everything to everybody; above, to the member that combines that part.
  std::size_t fixed_direct_bytes = 8U << 10U;
};
inline constexpr Thresholds kThresholds;

}  // namespace trireme::ml
