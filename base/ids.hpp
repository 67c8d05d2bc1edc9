#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>

namespace trireme {

/// A rank of the job: 0 to size - 1, as the launcher numbers them.
using Rank = std::uint32_t;
inline constexpr Rank kNoRank = std::numeric_limits<Rank>::max();

/// Names an object, a task's result or an actor for the whole job.
///
/// `owner` is the rank that keeps its value or locations and its reference counts; `index` is drawn by the owner
/// and never reused within a job. index 0 is no object.
struct ObjectId {
  Rank owner = kNoRank;
  std::uint64_t index = 0;

  explicit operator bool() const { return index != 0; }
  auto operator<=>(const ObjectId&) const = default;
};

}  // namespace trireme

template <>
struct std::hash<trireme::ObjectId> {
  std::size_t operator()(const trireme::ObjectId& id) const noexcept {
    // Fibonacci hashing: indices are consecutive, so their low bits must be spread.
    return (id.index * 0x9E3779B97F4A7C15ULL) ^ (std::uint64_t{id.owner} << 32U | id.owner);
  }
};
