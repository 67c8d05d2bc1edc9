#include "core/memory_watch.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace trireme::core {

void MemoryWatch::begin() {
  if (due_ != kForever) return;
  since_ = clock_.now();
  served_ = store_.stats().served;
  look_again_after(kPatience);
}

void MemoryWatch::look_again_after(Nanos patience) {
  patience_ = patience;
  due_ = clock_.now() + patience;
}

int MemoryWatch::poll() {
  if (due_ == kForever || clock_.now() < due_) return 0;
  due_ = kForever;
  const auto stats = store_.stats();
  if (stats.waiting == 0) return 1;
  if (stats.served != served_) {
    begin();
    return 1;
  }
  say_(fmt::format("{} objects ({} bytes) have waited for shared memory for {} s, and none of them got it: {}",
                   stats.waiting, stats.waiting_bytes, (clock_.now() - since_) / kSecond, store_.why_waiting()));
  look_again_after(std::min(patience_ * 2, kRarest));
  return 1;
}

}  // namespace trireme::core
