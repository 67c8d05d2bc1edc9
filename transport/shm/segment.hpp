#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/ids.hpp"
#include "base/result.hpp"
#include "transport/shm/os.hpp"

namespace trireme::transport {

inline constexpr std::uint32_t kSlotsMax = 512;

/// The first pages of a rank's segment, written by the rank and by every sender of the node. Rings follow, one per
/// sender that claimed a slot. All of it starts as zeros, and pages are touched only when used.
struct SegmentHead {
  static constexpr std::uint64_t kMagic = 0x31304D4853495254;  // "TRISHM01"

  std::uint64_t magic;
  std::uint64_t nonce;  ///< drawn anew by every backend: tells a process from a later one with the same pid
  std::uint32_t rank;
  std::uint32_t slots;
  std::uint64_t ring_bytes;
  /// 1 once the rank left in an orderly way. Sequentially consistent, with `pending`: a peer that stops looking sees
  /// it, or its bit is set again.
  std::atomic<std::uint32_t> closed;

  /// 1 while the rank sleeps or is about to. The rank sets it; a sender that takes it (exchange to 0) rings once.
  alignas(64) std::atomic<std::uint32_t> sleeping;

  /// A set bit: the rank looks into that sender's ring, now or before it sleeps. Set by the sender after it published,
  /// cleared by the rank before it looks a last time. All sequentially consistent, with the ring's headers: either the
  /// sender sees the bit cleared, or the rank sees the frame.
  alignas(64) std::atomic<std::uint64_t> pending[kSlotsMax / 64];

  /// Rank + 1 of the sender that owns the slot's ring, 0 = free. Claimed by compare-exchange by the sender (release),
  /// read by the rank (acquire).
  alignas(64) std::atomic<std::uint32_t> owner[kSlotsMax];
};

/// A rank's own segment: a sealed memfd, so that no peer can make it shrink under this rank's feet.
///
/// Threading: one owner.
class Segment {
 public:
  static Result<Segment> create(Rank rank, std::uint32_t slots, std::size_t ring_bytes);
  SegmentHead& head() const { return *reinterpret_cast<SegmentHead*>(memory_.bytes().data()); }
  std::span<std::byte> ring(std::uint32_t slot) const;
  /// Gives the ring's memory back and makes it zeros.
  void wipe_ring(std::uint32_t slot);
  int fd() const { return fd_.get(); }

 private:
  Fd fd_;
  Mapping memory_;
};

/// A peer's segment as a sender sees it: its head and the one ring claimed in it.
///
/// Threading: one owner. Errors: io or unavailable, saying what could not be opened and what that may mean.
class PeerSegment {
 public:
  PeerSegment() = default;
  /// Maps the segment that `pid` holds as `fd`, checks that it is the one meant, and claims a slot for `self`.
  static Result<PeerSegment> open(Rank self, Rank peer, int pid, int fd, std::uint64_t nonce);
  SegmentHead& head() const { return *reinterpret_cast<SegmentHead*>(head_.bytes().data()); }
  std::span<std::byte> ring() const { return ring_.bytes(); }
  std::uint32_t slot() const { return slot_; }

 private:
  Mapping head_;
  Mapping ring_;
  std::uint32_t slot_ = 0;
};

}  // namespace trireme::transport
