#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "core/cancel.hpp"

namespace trireme::core {

/// Calls with a key that run on this rank's own threads: nothing can end those from outside, they can only be asked to.
///
/// Threading: any thread.
class RunningCalls {
 public:
  /// The call that its thread runs while this lives, waits of the call not counted. Made and destroyed in turn with
  /// what else runs on the thread.
  class Call {
   public:
    Call(RunningCalls& table, std::uint64_t key);
    ~Call();
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;
    /// False: it was cancelled before it came here.
    bool may_begin() const { return may_begin_; }
    /// Somebody cancelled it since it began.
    bool asked() const { return asked_.load(std::memory_order_relaxed); }

   private:
    friend class RunningCalls;
    RunningCalls& table_;
    const std::uint64_t key_;
    bool may_begin_ = false;
    std::atomic<bool> asked_{false};
    const Call* const before_;
  };

  /// True: it runs here, and is asked to end. False: it is not here, and will not begin here.
  bool cancel(std::uint64_t key);
  /// What was cancelled and did not come here, for a rank that joins later; there: hear().
  Bytes note() const;
  void hear(BytesView note);
  /// For leak reports.
  std::size_t running() const;

 private:
  mutable std::mutex mutex_;
  std::unordered_map<std::uint64_t, Call*> calls_;
  CancelledKeys cancelled_;
};

/// The call that this thread runs; null: none with a key.
const RunningCalls::Call* running_call();

}  // namespace trireme::core
