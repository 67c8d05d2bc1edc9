#pragma once

#include <atomic>
#include <cstdint>

#include "base/wire.hpp"
#include "transport/shm/os.hpp"
#include "transport/shm/ring.hpp"
#include "transport/shm/segment.hpp"

namespace trireme::transport {

/// What a rank of the node publishes: its process and the descriptors in it that peers open.
struct ShmAddress {
  std::int32_t pid = 0;
  std::int32_t segment_fd = -1;
  std::int32_t bell_fd = -1;
  std::int32_t memory_fd = -1;  ///< -1: exposes nothing that can be mapped
  std::uint64_t memory_bytes = 0;
  std::uint64_t nonce = 0;  ///< of the segment

  Bytes encode() const;
  static Result<ShmAddress> decode(BytesView bytes);
};

/// What the backend knows about one peer. Threading: as the backend.
struct ShmPeer {
  Rank rank = kNoRank;
  bool gone = false;    ///< lost, left or forgotten: reported, not looked at any more
  bool hot = false;     ///< in the list of rings that every poll looks at
  bool broken = false;  ///< a send found its ring corrupt
  std::uint32_t idle_polls = 0;

  PeerSegment out;
  RingProducer producer;
  std::atomic<std::uint64_t>* out_pending = nullptr;  ///< the word of this rank's bit in the peer's segment
  std::uint64_t out_bit = 0;

  RingConsumer in;  ///< attached at the peer's first frame
  std::uint32_t in_slot = 0;

  ShmAddress address;
  Fd pidfd;
  Fd bell;
  Mapping memory;
  bool memory_tried = false;

  /// Maps the exposed memory; leaves `memory` empty when the peer has none or it cannot be opened.
  void map_memory();
};

}  // namespace trireme::transport
