#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.hpp"
#include "base/rng.hpp"

namespace trireme::scheduler {

/// Ranks in arithmetic runs: block and cyclic placement by the launcher need one run each, whatever the size.
class RankSet {
 public:
  static RankSet of(std::span<const Rank> sorted);
  static RankSet range(Rank first, std::uint32_t count);

  std::uint32_t size() const { return size_; }
  Rank at(std::uint32_t position) const;
  std::size_t runs() const { return runs_.size(); }

 private:
  struct Run {
    Rank first = 0;
    std::uint32_t count = 0, stride = 1;
  };
  std::vector<Run> runs_;
  std::uint32_t size_ = 0;
};

/// Whom an idle rank asks: near ranks before far ones.
///
/// Threading: immutable after construction.
class Victims {
 public:
  /// All ranks alike.
  Victims(Rank self, std::uint32_t size);
  /// `levels`: the ranks near `self`, nearest first (NUMA domain, node, switch, ...), each containing the one before;
  /// the whole job is added as the last level.
  Victims(Rank self, std::uint32_t size, std::vector<RankSet> levels);
  /// `groups[l][r]` numbers the group of rank r at level l, nearest first, as read from Slurm's topology. Levels in
  /// which `self` is alone or which add nobody to the level before are dropped. O(size) once, not kept.
  static Victims from_levels(Rank self, std::uint32_t size, std::span<const std::vector<std::uint32_t>> groups);

  /// Those of `ranks` alone (ascending, self among them), all alike, in a job of `size`: the others have not come.
  static Victims among(Rank self, std::uint32_t size, std::span<const Rank> ranks);

  Rank self() const { return self_; }
  std::uint32_t size() const { return size_; }
  /// The last level is the whole job; 0 where this rank is alone.
  std::size_t levels() const { return levels_.size(); }
  std::uint32_t level_size(std::size_t level) const { return levels_[level].size(); }
  /// Uniform among the level's ranks without self; kNoRank in a job of one rank.
  Rank pick(std::size_t level, Rng& rng) const;

 private:
  struct Alone {};
  Victims(Alone, Rank self, std::uint32_t size) : self_(self), size_(size) {}

  Rank self_;
  std::uint32_t size_;
  std::vector<RankSet> levels_;
};

/// The lifeline graph: bit d of the rank flipped, a hypercube cut to `size` ranks (Saraswat et al., PPoPP 2011). It is
/// connected and symmetric; its degree and diameter are at most lifeline_dimensions().
std::uint32_t lifeline_dimensions(std::uint32_t size);
/// Attempt 0 is the neighbour of dimension d itself; attempts 1 to 2^d - 1 differ in lower bits too and stand in for it
/// when it is dead. kNoRank where there is no such rank.
Rank lifeline(Rank self, std::uint32_t size, std::uint32_t dimension, std::uint32_t attempt);

}  // namespace trireme::scheduler
