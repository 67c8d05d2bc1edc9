#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace trireme::ml {

/// Where one algorithm of a group gives way to another. A group takes what its member 0 has, so that all agree.
///
/// The defaults suit two cores with 512 KiB to 2 MiB of second-level cache each, and UCX over TCP.
/// `trireme-tune-collectives`, run as the job will be, measures them and prints what TRIREME_COLLECTIVES is to be.
///
/// Units: bytes, where nothing else is said.
struct Thresholds {
  /// Inside a node: up to this many bytes in all, every member reads what every other wrote (32 KiB a member at most);
  /// above, each combines a part of every chunk.
  std::size_t node_direct = std::size_t{16} << 10U;
  /// Staged at a time, at most 1 MiB: contributions and results of a chunk stay in the cache.
  std::size_t node_chunk = std::size_t{128} << 10U;
  /// Between nodes: recursive doubling up to here (fewest steps), the ring above (fewest bytes). Between two, both move
  /// the same bytes.
  std::size_t net_doubling = std::size_t{32} << 10U;
  std::size_t net_doubling_of_two = std::size_t{256} << 10U;
  /// Piece of the ring: small enough that combining overlaps with moving.
  std::size_t net_segment = std::size_t{1} << 20U;
  /// Pieces of the ring that are under way at once, a number of 0 to 64; 0: one over TCP, where more only fill the
  /// sockets' buffers and fall out of the cache, else four.
  std::size_t net_ahead = 0;
  /// Broadcast between nodes: a binomial tree up to here, a chain of segments above.
  std::size_t net_tree = std::size_t{64} << 10U;
  /// fixed_order: up to here everybody sends everything to everybody; above, to the member that combines that part.
  std::size_t fixed_direct = std::size_t{8} << 10U;

  bool operator==(const Thresholds&) const = default;
};

/// "name=value,name=value,..." with the names above; k and m may follow a number, and what is not named keeps its
/// default. Errors: invalid_argument for an unknown name, what is no number, or what is out of range.
Result<Thresholds> parse_thresholds(std::string_view text);
/// All of them, as parse_thresholds() reads it.
std::string to_string(const Thresholds& thresholds);

}  // namespace trireme::ml
