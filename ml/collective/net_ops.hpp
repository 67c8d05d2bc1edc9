#pragma once

#include <bit>
#include <span>

#include "ml/collective/fabric.hpp"

namespace trireme::ml {

/// Collectives by messages, among any members wherever they run.

/// Who takes part, and this member's position among them. All parts of an operation pass the same `members`; `base`
/// keeps the steps of its parts apart.
struct Team {
  std::span<const std::uint32_t> members;
  std::uint32_t self = 0;
  std::uint32_t base = 0;
  std::uint32_t size() const { return static_cast<std::uint32_t>(members.size()); }
  std::uint32_t at(std::uint32_t position) const { return members[position % members.size()]; }
};

/// Recursive doubling among `n` members, as the one at position `self` sees it. A power of two of them, the core, does
/// it: of the first 2 * (n - core) positions every even one gives its part to the next, and gets the result from it.
struct Doubling {
  Doubling(std::uint32_t n, std::uint32_t self)
      : core(std::bit_floor(n)),
        extra(n - core),
        paired(self < 2 * extra),
        aside(paired && self % 2 == 0),
        place(paired ? self / 2 : self - extra) {}
  /// Steps: 0 to the helper, 1 back from it, then one for each distance.
  static constexpr std::uint32_t kFirstStep = 2;
  bool is_second(std::uint32_t distance) const { return (place & distance) != 0; }  ///< of the two that exchange
  std::uint32_t partner(std::uint32_t distance) const {
    const std::uint32_t other = place ^ distance;
    return other < extra ? 2 * other + 1 : other + extra;
  }

  std::uint32_t core;
  std::uint32_t extra;
  bool paired;
  bool aside;  ///< not of the core
  std::uint32_t place;
};

/// Whether message_all_reduce() takes recursive doubling.
bool takes_doubling(const Fabric& fabric, std::uint32_t members, std::size_t count, std::size_t bytes);

/// Base of the steps of what the nodes' leaders do among themselves.
inline constexpr std::uint32_t kLeaders = 1U << 29U;

Task message_barrier(Fabric& fabric, Team team);

/// In place, the result on everybody. By recursive doubling or by the ring, as the size suggests. Without mean.
Task message_all_reduce(Fabric& fabric, Team team, void* data, std::size_t count, DType type, ReduceOp op);

/// Combines in the order of positions: parts of `in` (of `counts[i]` elements, one after another) go to their members,
/// each of which combines its own into `out`.
Task message_reduce_scatter(Fabric& fabric, Team team, const void* in, void* out, std::span<const std::size_t> counts,
                            DType type, ReduceOp op, unsigned mean_of);
/// The same order, the result on everybody.
Task ordered_all_reduce(Fabric& fabric, Team team, void* data, std::size_t count, DType type, ReduceOp op,
                        unsigned mean_of);
/// The same order, the result at position `root`, whose `data` alone is changed.
Task ordered_reduce(Fabric& fabric, Team team, void* data, std::size_t count, DType type, ReduceOp op, unsigned mean_of,
                    std::uint32_t root);

Task message_broadcast(Fabric& fabric, Team team, void* data, std::size_t bytes, std::uint32_t root);
/// Position i brings `bytes[i]` bytes, which lie at their place in `all`: one after another.
Task message_all_gather(Fabric& fabric, Team team, void* all, std::span<const std::size_t> bytes);
Task message_all_to_all(Fabric& fabric, Team team, const void* from, void* to, std::size_t bytes);

}  // namespace trireme::ml
