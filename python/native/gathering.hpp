#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "python/native/pool.hpp"
#include "python/native/requests.hpp"
#include "scheduler/executor.hpp"

namespace trireme::python {

/// Completed from several threads, waited for by one.
struct Gathering {
  scheduler::WaitPoint point;
  std::atomic<std::int64_t> left{0};
  std::atomic<bool> fired{false};
  void fire() {
    if (fired.exchange(true, std::memory_order_seq_cst)) return;
    point.signal();
    if (auto* pool = the_pool()) pool->wake();
  }
};

/// Who waits for some of many references hears of every one that arrives, from one waiter a reference and not one a
/// wait: programs wait for the rest again and again.
///
/// Threading: any thread.
class Arrivals {
 public:
  void one() {
    const std::lock_guard lock(mutex_);
    for (auto* gathering : listening_) {
      if (gathering->left.fetch_sub(1, std::memory_order_acq_rel) == 1) gathering->fire();
    }
  }
  /// From begin() on `gathering` counts what arrives, until this is destroyed.
  class Listening {
   public:
    Listening(Arrivals& arrivals, Gathering& gathering) : arrivals_(arrivals), gathering_(gathering) {}
    ~Listening() {
      const std::lock_guard lock(arrivals_.mutex_);
      std::erase(arrivals_.listening_, &gathering_);
    }
    Listening(const Listening&) = delete;
    Listening& operator=(const Listening&) = delete;
    void begin() {
      const std::lock_guard lock(arrivals_.mutex_);
      arrivals_.listening_.push_back(&gathering_);
    }

   private:
    Arrivals& arrivals_;
    Gathering& gathering_;
  };

 private:
  std::mutex mutex_;
  std::vector<Gathering*> listening_;
};

}  // namespace trireme::python
