#pragma once

#include <sched.h>

#include <atomic>
#include <cstddef>
#include <vector>

#include "scheduler/executor.hpp"

namespace trireme::scheduler {

inline void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

/// A lock for a few instructions. Yields when its holder seems to be off its core.
class SpinLock {
 public:
  void lock() {
    // acquire: pairs with the release in unlock().
    for (int tries = 0; held_.exchange(true, std::memory_order_acquire);) {
      do {
        if (++tries % 64 == 0) {
          sched_yield();
        } else {
          pause_cpu();
        }
      } while (held_.load(std::memory_order_relaxed));
    }
  }
  void unlock() { held_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> held_{false};
};

/// First in, first out, for any thread. A ring that doubles.
///
/// A lock and not a lock-free queue: consumers take entries in batches, so that the lock is rarely wanted by two, and
/// the steal protocol needs to pick entries out of the middle.
///
/// Threading: any thread. Errors: none (bad_alloc apart). Lifetime: never owns the works.
class SharedQueue {
 public:
  void push(Work* work) {
    lock_.lock();
    if (count_ == ring_.size()) grow();
    ring_[(first_ + count_) & (ring_.size() - 1)] = work;
    set_count(count_ + 1);
    lock_.unlock();
  }

  /// Up to `limit` of the oldest entries.
  std::size_t pop(Work** out, std::size_t limit) {
    if (looks_empty()) return 0;
    lock_.lock();
    std::size_t taken = 0;
    for (; taken < limit && taken < count_; ++taken) out[taken] = ring_[(first_ + taken) & (ring_.size() - 1)];
    first_ += taken;
    set_count(count_ - taken);
    lock_.unlock();
    return taken;
  }

  /// Up to `limit` exportable entries among the oldest `window`; the others keep their order.
  std::size_t pop_exportable(std::size_t limit, std::size_t window, std::vector<Work*>& out) {
    if (looks_empty()) return 0;
    lock_.lock();
    const std::size_t mask = ring_.size() - 1;
    const std::size_t seen = window < count_ ? window : count_;
    std::vector<Work*> kept;
    std::size_t taken = 0;
    std::size_t read = 0;
    for (; read < seen && taken < limit; ++read) {
      Work* work = ring_[(first_ + read) & mask];
      if (work->exportable) {
        out.push_back(work);
        ++taken;
      } else {
        kept.push_back(work);
      }
    }
    // What was passed over moves up behind what was taken.
    first_ += taken;
    for (std::size_t i = 0; i < kept.size(); ++i) ring_[(first_ + i) & mask] = kept[i];
    set_count(count_ - taken);
    lock_.unlock();
    return taken;
  }

  /// All entries whose work has been claimed elsewhere; the others keep their order.
  void pop_claimed(std::vector<Work*>& out) {
    lock_.lock();
    const std::size_t mask = ring_.size() - 1;
    std::size_t kept = 0;
    for (std::size_t i = 0; i < count_; ++i) {
      Work* work = ring_[(first_ + i) & mask];
      if (work->claimed.load(std::memory_order_acquire)) {
        out.push_back(work);
      } else {
        ring_[(first_ + kept++) & mask] = work;
      }
    }
    set_count(kept);
    lock_.unlock();
  }

  bool looks_empty() const { return size() == 0; }
  std::size_t size() const { return size_.load(std::memory_order_seq_cst); }

 private:
  void grow() {
    std::vector<Work*> bigger(ring_.empty() ? 64 : ring_.size() * 2);
    for (std::size_t i = 0; i < count_; ++i) bigger[i] = ring_[(first_ + i) & (ring_.size() - 1)];
    ring_.swap(bigger);
    first_ = 0;
  }
  void set_count(std::size_t count) {
    count_ = count;
    // seq_cst: a pusher stores this, then looks for sleepers; a sleeper announces itself, then loads this.
    size_.store(count, std::memory_order_seq_cst);
  }

  SpinLock lock_;
  std::vector<Work*> ring_;  // under lock_, like the two below
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  alignas(64) std::atomic<std::size_t> size_{0};
};

}  // namespace trireme::scheduler
