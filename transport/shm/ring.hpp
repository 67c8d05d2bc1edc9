#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>

#include "base/check.hpp"
#include "base/wire.hpp"

namespace trireme::transport {

/// A queue of byte frames from one process to one other, over memory that both map (zeroed before first use).
///
///   RingControl | record | record | ... | 0
///
///   record = u64 header | bytes, padded to 8
///   header = 0: nothing here yet; frame size + 1; or kSkip: go on at the beginning of the data area
///
/// The producer writes a frame in place, zeroes the header behind it, then publishes the frame by its own header. So
/// the consumer learns of a frame from the same cache line that holds it, and neither side reads an index of the other
/// on the fast path: the producer looks at `consumed` only when the ring seems full.
///
/// Neither side trusts the other: a value that cannot be reads as `corrupt`, never as an access outside the ring.
struct RingControl {
  /// Bytes taken so far, modulo 2^64. Written by the consumer; its release pairs with the producer's acquire: the space
  /// is free again.
  alignas(64) std::atomic<std::uint64_t> consumed{0};
  /// 1 while the producer waits for room. Producer: sets it, then reads `consumed`. Consumer: writes `consumed`, then
  /// reads it. All four sequentially consistent, so that one of them sees the other.
  alignas(64) std::atomic<std::uint32_t> starved{0};
};

namespace ring_detail {
inline constexpr std::uint64_t kSkip = UINT64_MAX;
inline constexpr std::size_t kHeaderBytes = 8;
inline std::size_t record_bytes(std::size_t frame) { return kHeaderBytes + ((frame + 7) & ~std::size_t{7}); }
inline std::atomic_ref<std::uint64_t> header(std::byte* at) {
  return std::atomic_ref<std::uint64_t>(*reinterpret_cast<std::uint64_t*>(at));
}
}  // namespace ring_detail

enum class RingState : std::uint8_t { ready, empty, full, corrupt };

/// Largest frame of a ring over `memory` bytes: two records fit, so that one always fits behind a skip.
constexpr std::size_t ring_frame_bytes_max(std::size_t memory) {
  return ((memory - sizeof(RingControl)) / 2 & ~std::size_t{7}) - 4 * ring_detail::kHeaderBytes;
}

/// The sending end.
///
/// Threading: one owner. Lifetime: within the memory's, which is 64-byte aligned and a multiple of 8 bytes.
class RingProducer {
 public:
  RingProducer() = default;
  explicit RingProducer(std::span<std::byte> memory)
      : control_(std::launder(reinterpret_cast<RingControl*>(memory.data()))),
        data_(memory.data() + sizeof(RingControl)),
        capacity_(memory.size() - sizeof(RingControl)) {}

  /// Copies a frame of at most ring_frame_bytes_max() bytes in and publishes it: `ready`, `full` or `corrupt`.
  ///
  /// The publishing store is sequentially consistent: what the caller reads next, say whether the consumer sleeps, is
  /// ordered behind it.
  RingState put(BytesView frame) {
    using namespace ring_detail;
    const std::size_t record = record_bytes(frame.size());
    const std::size_t to_end = capacity_ - offset_;
    // A header of 8 bytes always fits before the end: everything is a multiple of 8.
    const std::size_t skip = record > to_end ? to_end : 0;
    const std::size_t need = skip + record + kHeaderBytes;
    if (produced_ + need - consumed_seen_ > capacity_) {
      const RingState state = refresh();
      if (state != RingState::ready) return state;
      if (produced_ + need - consumed_seen_ > capacity_) return RingState::full;
    }
    std::byte* first = data_ + offset_;
    std::byte* at = skip != 0 ? data_ : first;
    if (!frame.empty()) std::memcpy(at + kHeaderBytes, frame.data(), frame.size());
    offset_ = static_cast<std::size_t>(at - data_) + record;
    if (offset_ == capacity_) offset_ = 0;
    header(data_ + offset_).store(0, std::memory_order_relaxed);                   // published by the store below
    if (skip != 0) header(at).store(frame.size() + 1, std::memory_order_relaxed);  // likewise
    // Pairs with the acquire in RingConsumer::look().
    header(first).store(skip != 0 ? kSkip : frame.size() + 1, std::memory_order_seq_cst);
    produced_ += skip + record;
    return RingState::ready;
  }

  /// After `full`: asks the consumer to tell when there is room. False when there is some already: try again.
  bool ask_for_room() {
    control_->starved.store(1, std::memory_order_seq_cst);  // pairs with room_wanted()
    const std::uint64_t before = consumed_seen_;
    const std::uint64_t now = control_->consumed.load(std::memory_order_seq_cst);  // pairs with room_wanted()
    return now == before;
  }

 private:
  RingState refresh() {
    const std::uint64_t consumed =
        control_->consumed.load(std::memory_order_acquire);  // pairs with RingConsumer::pop()
    if (produced_ - consumed > capacity_) return RingState::corrupt;
    consumed_seen_ = consumed;
    return RingState::ready;
  }

  RingControl* control_ = nullptr;
  std::byte* data_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t offset_ = 0;
  std::uint64_t produced_ = 0;
  std::uint64_t consumed_seen_ = 0;
};

/// The receiving end.
///
/// Threading: one owner. Lifetime: as RingProducer.
class RingConsumer {
 public:
  RingConsumer() = default;
  explicit RingConsumer(std::span<std::byte> memory)
      : control_(std::launder(reinterpret_cast<RingControl*>(memory.data()))),
        data_(memory.data() + sizeof(RingControl)),
        capacity_(memory.size() - sizeof(RingControl)),
        frame_max_(ring_frame_bytes_max(memory.size())) {}

  bool attached() const { return data_ != nullptr; }

  /// `ready` with the next frame, in place, until pop(); `empty`; or `corrupt`.
  ///
  /// The load is sequentially consistent (an ordinary load on x86): a caller that withdrew a sign of its presence
  /// before sees every frame whose producer still saw the sign.
  RingState look(BytesView& frame) {
    using namespace ring_detail;
    // Pairs with the store in RingProducer::put().
    std::uint64_t head = header(data_ + offset_).load(std::memory_order_seq_cst);
    if (head == 0) return RingState::empty;
    skipped_ = 0;
    at_ = offset_;
    if (head == kSkip) {
      skipped_ = capacity_ - offset_;
      at_ = 0;
      head = header(data_).load(std::memory_order_relaxed);  // published by the skip
      if (head == kSkip || offset_ == 0) return RingState::corrupt;
    }
    if (head - 1 > frame_max_) return RingState::corrupt;  // a 0 behind a skip too
    const auto size = static_cast<std::size_t>(head - 1);
    if (at_ + record_bytes(size) > capacity_) return RingState::corrupt;
    frame = {data_ + at_ + kHeaderBytes, size};
    size_ = size;
    return RingState::ready;
  }

  /// Frees the frame that look() returned.
  void pop() {
    const std::size_t record = ring_detail::record_bytes(size_);
    offset_ = at_ + record;
    if (offset_ == capacity_) offset_ = 0;
    consumed_ += skipped_ + record;
    control_->consumed.store(consumed_, std::memory_order_release);  // pairs with RingProducer::refresh()
  }

  /// After some pop(): true when the producer waits for room and must be told; once per ask.
  bool room_wanted() {
    control_->consumed.store(consumed_, std::memory_order_seq_cst);            // pairs with ask_for_room()
    if (control_->starved.load(std::memory_order_seq_cst) == 0) return false;  // likewise
    return control_->starved.exchange(0, std::memory_order_seq_cst) != 0;
  }

 private:
  RingControl* control_ = nullptr;
  std::byte* data_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t frame_max_ = 0;
  std::size_t offset_ = 0;   // of the next header
  std::size_t at_ = 0;       // of the header of the frame looked at
  std::size_t skipped_ = 0;  // bytes at the end passed over before it
  std::size_t size_ = 0;
  std::uint64_t consumed_ = 0;
};

}  // namespace trireme::transport
