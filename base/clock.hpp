#pragma once

#include <cstdint>

namespace trireme {

/// Nanoseconds. Durations, and points on a Clock.
using Nanos = std::int64_t;
inline constexpr Nanos kMicrosecond = 1'000;
inline constexpr Nanos kMillisecond = 1'000'000;
inline constexpr Nanos kSecond = 1'000'000'000;
inline constexpr Nanos kForever = INT64_MAX;

/// Time as protocol code sees it: monotonic in production, virtual in simulation.
///
/// Threading: now() from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Nanos now() const = 0;
};

/// CLOCK_MONOTONIC.
class SystemClock final : public Clock {
 public:
  Nanos now() const override { return read(); }
  static Nanos read();
};

}  // namespace trireme
