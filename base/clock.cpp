#include "base/clock.hpp"

#include <ctime>

namespace trireme {

Nanos SystemClock::read() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return Nanos{now.tv_sec} * kSecond + now.tv_nsec;
}

}  // namespace trireme
