#include "scheduler/victims.hpp"

#include <bit>

#include "base/check.hpp"

namespace trireme::scheduler {

RankSet RankSet::of(std::span<const Rank> sorted) {
  RankSet set;
  for (const Rank rank : sorted) {
    if (!set.runs_.empty()) {
      auto& run = set.runs_.back();
      const auto last = run.first + (run.count - 1) * run.stride;
      if (run.count == 1) run.stride = rank - last;
      if (rank - last == run.stride) {
        ++run.count;
        ++set.size_;
        continue;
      }
    }
    set.runs_.push_back({rank, 1, 1});
    ++set.size_;
  }
  return set;
}

RankSet RankSet::range(Rank first, std::uint32_t count) {
  RankSet set;
  if (count > 0) set.runs_.push_back({first, count, 1});
  set.size_ = count;
  return set;
}

Rank RankSet::at(std::uint32_t position) const {
  for (const auto& run : runs_) {
    if (position < run.count) return run.first + position * run.stride;
    position -= run.count;
  }
  return kNoRank;
}

Victims::Victims(Rank self, std::uint32_t size) : Victims(self, size, {}) {}

Victims::Victims(Rank self, std::uint32_t size, std::vector<RankSet> levels)
    : self_(self), size_(size), levels_(std::move(levels)) {
  TRIREME_CHECK(self < size, "a rank is smaller than the job's size");
  levels_.push_back(RankSet::range(0, size));
  // A level that adds nobody to the one inside it would only repeat its tries.
  std::vector<RankSet> kept;
  for (auto& level : levels_)
    if (level.size() > (kept.empty() ? 1 : kept.back().size())) kept.push_back(std::move(level));
  levels_ = std::move(kept);
}

Victims Victims::from_levels(Rank self, std::uint32_t size, std::span<const std::vector<std::uint32_t>> groups) {
  std::vector<RankSet> levels;
  std::vector<Rank> members;
  for (const auto& group : groups) {
    TRIREME_CHECK(group.size() == size, "a topology level names a group for every rank");
    members.clear();
    for (Rank rank = 0; rank < size; ++rank)
      if (group[rank] == group[self]) members.push_back(rank);
    levels.push_back(RankSet::of(members));
  }
  return {self, size, std::move(levels)};
}

Victims Victims::among(Rank self, std::uint32_t size, std::span<const Rank> ranks) {
  Victims victims(Alone{}, self, size);
  if (auto set = RankSet::of(ranks); set.size() > 1) victims.levels_.push_back(std::move(set));
  return victims;
}

Rank Victims::pick(std::size_t level, Rng& rng) const {
  if (level >= levels_.size()) return kNoRank;
  const auto& set = levels_[level];
  // Every kept level has at least two ranks; missing self takes a few draws at worst.
  for (;;) {
    const Rank rank = set.at(static_cast<std::uint32_t>(rng.below(set.size())));
    if (rank != self_) return rank;
  }
}

std::uint32_t lifeline_dimensions(std::uint32_t size) {
  return size <= 1 ? 0 : static_cast<std::uint32_t>(std::bit_width(size - 1));
}

Rank lifeline(Rank self, std::uint32_t size, std::uint32_t dimension, std::uint32_t attempt) {
  if (dimension >= 32 || attempt >= (std::uint32_t{1} << dimension)) return kNoRank;
  const Rank rank = self ^ (std::uint32_t{1} << dimension) ^ attempt;
  return rank < size ? rank : kNoRank;
}

}  // namespace trireme::scheduler
