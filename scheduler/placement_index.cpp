#include "scheduler/placement_index.hpp"

#include <algorithm>
#include <utility>

namespace trireme::scheduler {
namespace {

bool contains(const std::vector<Rank>& ranks, Rank rank) {
  return std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
}

}  // namespace

void RoomIndex::put(std::uint32_t at, Busy entry) {
  place_[entry.rank] = kBusy | at;
  busy_[at] = entry;
}

void RoomIndex::rise(std::uint32_t at, Busy entry) {
  for (; at > 0; at = (at - 1) / 2) {
    const auto& above = busy_[(at - 1) / 2];
    if (!entry.before(above)) break;
    put(at, above);
  }
  put(at, entry);
}

void RoomIndex::sink(std::uint32_t at, Busy entry) {
  for (;;) {
    auto below = 2 * at + 1;
    if (below >= busy_.size()) break;
    if (below + 1 < busy_.size() && busy_[below + 1].before(busy_[below])) ++below;
    if (!busy_[below].before(entry)) break;
    put(at, busy_[below]);
    at = below;
  }
  put(at, entry);
}

void RoomIndex::set(Rank rank, double room) {
  const auto place = place_[rank];
  const bool fits = room >= 1;
  if (place != kNowhere) {
    if (fits && (place & kBusy) == 0) return;
    if (!fits && (place & kBusy) != 0) {
      const auto at = place & ~kBusy;
      const Busy entry{room, static_cast<std::uint32_t>(rng_.next()), rank};
      entry.before(busy_[at]) ? rise(at, entry) : sink(at, entry);
      return;
    }
    erase(rank);
  }
  if (fits) {
    place_[rank] = static_cast<std::uint32_t>(fitting_.size());
    fitting_.push_back(rank);
  } else {
    busy_.emplace_back();
    rise(static_cast<std::uint32_t>(busy_.size() - 1), {room, static_cast<std::uint32_t>(rng_.next()), rank});
  }
}

void RoomIndex::erase(Rank rank) {
  const auto place = std::exchange(place_[rank], kNowhere);
  if (place == kNowhere) return;
  if ((place & kBusy) == 0) {
    const Rank last = fitting_.back();
    fitting_.pop_back();
    if (last == rank) return;
    fitting_[place] = last;
    place_[last] = place;
    return;
  }
  const auto at = place & ~kBusy;
  const auto last = busy_.back();
  busy_.pop_back();
  if (last.rank == rank) return;
  const bool up = at > 0 && last.before(busy_[(at - 1) / 2]);
  up ? rise(at, last) : sink(at, last);
}

Rank RoomIndex::fitting(const std::vector<Rank>& avoid) {
  if (fitting_.empty()) return kNoRank;
  const auto start = rng_.below(fitting_.size());
  // One step more than there are ranks to avoid finds one, if there is one.
  for (std::size_t i = 0; i < std::min(fitting_.size(), avoid.size() + 1); ++i) {
    const Rank rank = fitting_[(start + i) % fitting_.size()];
    if (!contains(avoid, rank)) return rank;
  }
  return kNoRank;
}

Rank RoomIndex::least_busy(const std::vector<Rank>& avoid) const {
  // Below a rank that is not avoided nothing is better, so only ranks to avoid are opened.
  std::vector<std::uint32_t> open;
  if (!busy_.empty()) open.push_back(0);
  const Busy* best = nullptr;
  while (!open.empty()) {
    const auto at = open.back();
    open.pop_back();
    const auto& entry = busy_[at];
    if (best != nullptr && !entry.before(*best)) continue;
    if (!contains(avoid, entry.rank)) {
      best = &entry;
      continue;
    }
    for (const auto below : {2 * at + 1, 2 * at + 2})
      if (below < busy_.size()) open.push_back(below);
  }
  return best == nullptr ? kNoRank : best->rank;
}

}  // namespace trireme::scheduler
