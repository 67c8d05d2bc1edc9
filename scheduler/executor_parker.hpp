#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <ctime>

#include "base/clock.hpp"

namespace trireme::scheduler {

/// Sleeps while `word == value`, until woken or SystemClock reaches `deadline`. May return early for no reason.
inline void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t value, Nanos deadline) {
  timespec until{};
  timespec* limit = nullptr;
  if (deadline != kForever) {
    if (deadline < 0) deadline = 0;
    until.tv_sec = deadline / kSecond;
    until.tv_nsec = deadline % kSecond;
    limit = &until;
  }
  // WAIT_BITSET takes an absolute point on CLOCK_MONOTONIC.
  syscall(SYS_futex, &word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, value, limit, nullptr, FUTEX_BITSET_MATCH_ANY);
}

/// Harmless on memory that has meanwhile been given another use.
inline void futex_wake_one(const std::atomic<std::uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

}  // namespace trireme::scheduler
