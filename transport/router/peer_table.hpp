#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "base/check.hpp"
#include "transport/router.hpp"
#include "transport/router/frame.hpp"
#include "transport/router/inbound.hpp"

namespace trireme::transport {

/// What the router knows about one other rank.
struct Peer {
  Rank rank = kNoRank;
  Backend* backend = nullptr;
  bool alive = true;
  bool dirty = false;    ///< listed for the next flush()
  bool blocked = false;  ///< listed for a retry: `waiting` is not empty
  std::uint32_t number_out = 0;
  std::uint32_t number_in = 0;
  Frame* open = nullptr;  ///< begun and not yet handed on
  FrameQueue waiting;     ///< had no credit
  std::unique_ptr<Inbound> inbound;
  PeerStats stats;
};

/// Rank to Peer, made at first use: a hash table with linear probing, so that a router of a job with 100,000 ranks
/// that talks to ten of them stays small. Peers never move and are never removed.
///
/// Threading: one owner.
class PeerTable {
 public:
  PeerTable() : slots_(16) {}

  Peer* find(Rank rank) const {
    for (std::size_t at = hash(rank);; ++at) {
      const Slot& slot = slots_[at & (slots_.size() - 1)];
      if (slot.peer == nullptr || slot.rank == rank) return slot.peer;
    }
  }

  Peer& add(Rank rank) {
    TRIREME_DCHECK(find(rank) == nullptr, "a peer is added once");
    if (2 * (peers_.size() + 1) > slots_.size()) grow();
    Peer& peer = *peers_.emplace_back(std::make_unique<Peer>());
    peer.rank = rank;
    place({rank, &peer});
    return peer;
  }

  const std::vector<std::unique_ptr<Peer>>& all() const { return peers_; }

 private:
  struct Slot {
    Rank rank = kNoRank;
    Peer* peer = nullptr;
  };
  // Fibonacci hashing by the upper bits: neighbouring ranks spread.
  static std::size_t hash(Rank rank) { return static_cast<std::size_t>((rank * 0x9E3779B97F4A7C15ULL) >> 32U); }

  void place(Slot slot) {
    std::size_t at = hash(slot.rank);
    while (slots_[at & (slots_.size() - 1)].peer != nullptr) ++at;
    slots_[at & (slots_.size() - 1)] = slot;
  }
  void grow() {
    const auto old = std::exchange(slots_, std::vector<Slot>(slots_.size() * 2));
    for (const Slot& slot : old)
      if (slot.peer != nullptr) place(slot);
  }

  std::vector<Slot> slots_;
  std::vector<std::unique_ptr<Peer>> peers_;
};

}  // namespace trireme::transport
