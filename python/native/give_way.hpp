#pragma once

#include <sched.h>

#include <algorithm>

#include "base/clock.hpp"

namespace trireme::python {

/// For who spins: lets others have the core, since the one that is to answer may need it.
///
/// A program that computes takes the core for milliseconds then, where a thread that sleeps would be woken at once. So
/// after a turn that was too long for an answer nobody is let ahead for a while.
/// Threading: one owner.
class GiveWay {
 public:
  void operator()(Nanos now) {
    if (now < not_before_) return;
    ::sched_yield();
    const auto back = SystemClock::read();
    if (back - now < kTooLong) {
      pause_ = kPauseMin;
      return;
    }
    not_before_ = back + pause_;
    pause_ = std::min(2 * pause_, kPauseMax);
  }

 private:
  static constexpr Nanos kTooLong = 200 * kMicrosecond;
  static constexpr Nanos kPauseMin = 50 * kMillisecond;
  static constexpr Nanos kPauseMax = 2 * kSecond;
  Nanos not_before_ = 0;
  Nanos pause_ = kPauseMin;
};

}  // namespace trireme::python
