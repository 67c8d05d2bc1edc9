#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

namespace trireme::objstore {

/// Counts the Buffers that keep one piece of memory in place.
struct Hold {
  explicit Hold(void (*release_one)(Hold*)) : release(release_one) {}
  /// Raised by whoever has one already (relaxed), or by the store under its lock. Lowered by release (acq_rel: what a
  /// reader did with the memory happens before the memory is reused).
  std::atomic<std::uint32_t> count{0};
  void (*const release)(Hold*);
};

/// A reference-counted pin: the memory stays where it is and keeps its content while any copy of the Buffer lives.
///
/// Threading: different Buffers of one object from any threads; one Buffer from one thread at a time.
/// Lifetime:  must not outlive the Store (or whatever the release callback needs).
class Buffer {
 public:
  Buffer() = default;
  Buffer(const Buffer& other)
      : hold_(other.hold_),
        data_(other.data_),
        size_(other.size_),
        offset_(other.offset_),
        generation_(other.generation_) {
    if (hold_ != nullptr) hold_->count.fetch_add(1, std::memory_order_relaxed);
  }
  Buffer(Buffer&& other) noexcept
      : hold_(std::exchange(other.hold_, nullptr)),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        offset_(other.offset_),
        generation_(other.generation_) {}
  Buffer& operator=(Buffer other) noexcept {
    std::swap(hold_, other.hold_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(offset_, other.offset_);
    std::swap(generation_, other.generation_);
    return *this;
  }
  ~Buffer() { reset(); }
  void reset() {
    if (auto* hold = std::exchange(hold_, nullptr)) hold->release(hold);
    data_ = nullptr;
    size_ = 0;
  }

  explicit operator bool() const { return hold_ != nullptr; }
  const std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  std::span<const std::byte> bytes() const { return {data_, size_}; }
  /// Where the data lies in the arena that holds it, and the block's generation there.
  std::uint64_t offset() const { return offset_; }
  std::uint64_t generation() const { return generation_; }

  /// For memory that is not in this rank's store: a peer's mapped arena, a buffer of the embedding program.
  /// `released` runs once, on the thread that drops the last copy: keep it short.
  static Buffer foreign(std::span<const std::byte> bytes, std::uint64_t offset, std::uint64_t generation,
                        std::function<void()> released);

 private:
  friend class Store;
  /// Takes over one count of `hold`.
  Buffer(Hold* hold, std::span<const std::byte> bytes, std::uint64_t offset, std::uint64_t generation)
      : hold_(hold), data_(bytes.data()), size_(bytes.size()), offset_(offset), generation_(generation) {}

  Hold* hold_ = nullptr;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::uint64_t offset_ = 0;
  std::uint64_t generation_ = 0;
};

}  // namespace trireme::objstore
