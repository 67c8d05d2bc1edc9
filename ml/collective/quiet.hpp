#pragma once

#include "base/clock.hpp"

namespace trireme::ml::detail {

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Rounds without news, as long as spinning may go on. How long a round takes depends on the processor's pause and on
/// whether UCX is looked at, so it is time that counts.
class Quiet {
 public:
  explicit Quiet(Nanos spin) : spin_(spin) {}
  bool goes_on() {
    if (spin_ == 0) return false;
    if (++rounds_ % kRoundsPerLook != 0) return true;
    const Nanos now = SystemClock::read();
    if (until_ == 0) until_ = now + spin_;
    return now < until_;
  }

 private:
  static constexpr unsigned kRoundsPerLook = 32;
  Nanos spin_;
  unsigned rounds_ = 0;
  Nanos until_ = 0;
};

}  // namespace trireme::ml::detail
