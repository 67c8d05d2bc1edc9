#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/check.hpp"
#include "base/wire.hpp"

namespace trireme::transport {

/// The bytes of a frame, as Router sends them:
///
///   u32 number     counts the frames of a pair of ranks in one direction, modulo 2^32: order and loss are checked by
///   it record ...     until the end of the frame
///
///   record = varint (size << 2 | kind), [varint total, kind first only], `size` bytes
///   whole:  a message
///   first:  the beginning of a message of `total` bytes that does not fit one frame
///   more:   its continuation, at once behind it: no other record comes between
enum class RecordKind : std::uint8_t { whole = 0, first = 1, more = 2 };

inline constexpr std::size_t kFrameHeaderBytes = 4;
/// Two varints of at most 5 bytes: sizes stay below 2^32.
inline constexpr std::size_t kRecordHeaderBytesMax = 10;

/// A frame that is being filled or waits for credit. Its bytes follow the struct.
struct Frame {
  Frame* next = nullptr;
  std::uint32_t size = 0;
  std::uint32_t capacity = 0;

  std::byte* data() { return reinterpret_cast<std::byte*>(this + 1); }
  BytesView view() { return {data(), size}; }

  void put_varint(std::uint64_t value) {
    while (value >= 0x80) {
      data()[size++] = static_cast<std::byte>(value | 0x80U);
      value >>= 7U;
    }
    data()[size++] = static_cast<std::byte>(value);
  }
  void put(BytesView bytes) {
    if (!bytes.empty()) std::memcpy(data() + size, bytes.data(), bytes.size());
    size += static_cast<std::uint32_t>(bytes.size());
  }
};

/// Keeps few frames for reuse, so that sending allocates nothing in the steady state. Frames start small and grow:
/// a simulated rank among 100,000 pays for what it sends only.
///
/// Threading: one owner.
class FramePool {
 public:
  FramePool() = default;
  FramePool(const FramePool&) = delete;
  FramePool& operator=(const FramePool&) = delete;
  ~FramePool() {
    while (free_ != nullptr) std::free(std::exchange(free_, free_->next));
  }

  Frame* take() {
    if (free_ == nullptr) return allocate(nullptr, kCapacityFirst);
    Frame* frame = free_;
    free_ = frame->next;
    --free_count_;
    frame->next = nullptr;
    frame->size = 0;
    return frame;
  }
  void give(Frame* frame) {
    if (free_count_ == kFreeMax) {
      std::free(frame);
      return;
    }
    frame->next = free_;
    free_ = frame;
    ++free_count_;
  }
  /// Makes room for `bytes` in all; the frame may move. `limit` caps the doubling.
  static Frame* reserve(Frame* frame, std::size_t bytes, std::size_t limit) {
    if (bytes <= frame->capacity) [[likely]]
      return frame;
    std::size_t capacity = frame->capacity;
    while (capacity < bytes) capacity *= 2;
    return allocate(frame, capacity < limit ? capacity : limit);
  }

 private:
  static constexpr std::size_t kCapacityFirst = 496;
  static constexpr unsigned kFreeMax = 64;

  static Frame* allocate(Frame* old, std::size_t capacity) {
    auto* frame = static_cast<Frame*>(std::realloc(old, sizeof(Frame) + capacity));
    TRIREME_CHECK(frame != nullptr, "no memory for a message frame");
    if (old == nullptr) *frame = Frame{};
    frame->capacity = static_cast<std::uint32_t>(capacity);
    return frame;
  }

  Frame* free_ = nullptr;
  unsigned free_count_ = 0;
};

/// Frames in the order they will be sent.
class FrameQueue {
 public:
  bool empty() const { return head_ == nullptr; }
  Frame* front() { return head_; }
  std::size_t bytes() const { return bytes_; }
  void push(Frame* frame) {
    frame->next = nullptr;
    (head_ == nullptr ? head_ : tail_->next) = frame;
    tail_ = frame;
    bytes_ += frame->size;
  }
  Frame* pop() {
    Frame* frame = head_;
    head_ = frame->next;
    bytes_ -= frame->size;
    return frame;
  }

 private:
  Frame* head_ = nullptr;
  Frame* tail_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace trireme::transport
