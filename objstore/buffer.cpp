#include "objstore/buffer.hpp"

namespace trireme::objstore {

namespace {

struct ForeignHold : Hold {
  explicit ForeignHold(std::function<void()> on_released) : Hold(&ForeignHold::drop), released(std::move(on_released)) {
    count.store(1, std::memory_order_relaxed);  // not shared yet
  }

  static void drop(Hold* hold) {
    // acq_rel: pairs with the other holders' drops, so that all their reads happen before `released`.
    if (hold->count.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    auto* self = static_cast<ForeignHold*>(hold);
    const auto released = std::move(self->released);
    delete self;
    if (released) released();
  }

  std::function<void()> released;
};

}  // namespace

Buffer Buffer::foreign(std::span<const std::byte> bytes, std::uint64_t offset, std::uint64_t generation,
                       std::function<void()> released) {
  return Buffer(new ForeignHold(std::move(released)), bytes, offset, generation);
}

}  // namespace trireme::objstore
