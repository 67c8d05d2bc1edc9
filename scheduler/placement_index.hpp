#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.hpp"
#include "base/rng.hpp"

namespace trireme::scheduler {

/// The ranks that could run one kind of demand, by the room that they have for it: what ClusterView::choose() asks in a
/// job that is too large to look at every rank.
///
/// Invariants: a rank is in `fitting_` (room of 1 or more, in any order), in `busy_` (a heap, most room first), or in
/// neither; `place_` says where. Equal rooms are ordered by a number drawn when the rank last moved, so that submitters
/// with the same picture do not all choose the same rank.
///
/// Threading: one owner. Units: room in demands, see room() in placement.cpp. Costs: set() and erase() O(log ranks) at
/// worst, choices O(length of avoid).
class RoomIndex {
 public:
  RoomIndex(std::uint32_t ranks, std::uint64_t seed) : place_(ranks, kNowhere), rng_(seed) {}

  void set(Rank rank, double room);
  void erase(Rank rank);

  /// A random rank where the demand fits and that is not to be avoided; kNoRank when there is none.
  Rank fitting(const std::vector<Rank>& avoid);
  /// The rank with most room of those where it does not fit and that are not to be avoided; kNoRank when there is none.
  Rank least_busy(const std::vector<Rank>& avoid) const;

 private:
  static constexpr std::uint32_t kNowhere = UINT32_MAX;
  static constexpr std::uint32_t kBusy = 1U << 31U;  ///< flag in place_: an index of busy_, not of fitting_
  struct Busy {
    double room;
    std::uint32_t draw;
    Rank rank;
    bool before(const Busy& other) const { return room != other.room ? room > other.room : draw < other.draw; }
  };
  void put(std::uint32_t at, Busy entry);
  void rise(std::uint32_t at, Busy entry);
  void sink(std::uint32_t at, Busy entry);

  std::vector<Rank> fitting_;
  std::vector<Busy> busy_;
  std::vector<std::uint32_t> place_;
  Rng rng_;
};

}  // namespace trireme::scheduler
