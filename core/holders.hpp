#pragma once

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <utility>

#include "core/context.hpp"
#include "scheduler/placement.hpp"
#include "scheduler/placement_queue.hpp"

namespace trireme::core {

/// Who holds resources of this rank, and who waits here for them: tasks and actors alike.
///
/// What was decided about a choice of rank is in scheduler::ClusterView; this is what the chosen rank does with it. A
/// holder starts when its resources are there, lends its CPUs while it waits, and gives all back at its end.
///
/// Threading: under the token.
class Holders {
 public:
  Holders(Context& context, scheduler::ResourcePool& pool, scheduler::PlacementQueue& queue)
      : context_(context), pool_(pool), queue_(queue) {}
  enum class Answer : std::uint8_t {
    granted,
    refused,    ///< this rank can never give it
    elsewhere,  ///< it had better try another rank
  };
  /// Resources came back (for placement groups).
  std::function<void()> on_freed;

  /// Asks for `demand`; unless `bundle` is negative, in that bundle of its group or, when the demand names none, in any
  /// of the group that is here. `start(answer)` runs once, maybe at once; never `elsewhere` with `bounced` UINT32_MAX.
  scheduler::HolderId offer(const scheduler::Demand& demand, std::int32_t bundle, std::uint32_t bounced,
                            std::function<void(Answer)> start);
  /// What the next offer() returns: `start` may run before that does.
  scheduler::HolderId next() const { return next_; }
  void release(scheduler::HolderId holder);
  /// Around a wait of the holder's task: its CPUs are there for others, among them what it waits for.
  void lend_cpu(scheduler::HolderId holder);
  void reclaim_cpu(scheduler::HolderId holder);
  /// `end` runs once when the bundle of a holder that has started is taken back; not after release(), and never for one
  /// in no bundle.
  void when_revoked(scheduler::HolderId holder, std::function<void()> end);
  /// Holders of the bundle that still wait are refused, those that asked for it by when_revoked() hear of it.
  void revoke(scheduler::BundleKey bundle);
  const scheduler::ResourcePool& pool() const { return pool_; }
  Nanos next_deadline() const { return look_for_stuck_at_; }
  /// Sends those elsewhere that wait for any bundle of a group while none of this rank's becomes free.
  void run_timers();
  /// At the end of the session: those who wait never start, and nobody hears of what is taken back.
  void drop_waiting();

 private:
  void drain();
  void freed();

  Context& context_;
  scheduler::ResourcePool& pool_;
  scheduler::PlacementQueue& queue_;
  std::unordered_map<scheduler::HolderId, std::function<void(Answer)>> waiting_;
  std::unordered_map<scheduler::HolderId, std::pair<scheduler::BundleKey, std::function<void()>>> revocable_;
  scheduler::HolderId next_ = 1;
  Nanos look_for_stuck_at_ = kForever;
};

}  // namespace trireme::core
