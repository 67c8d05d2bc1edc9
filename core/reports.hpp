#pragma once

#include <map>

#include "core/context.hpp"
#include "scheduler/placement.hpp"
#include "scheduler/placement_queue.hpp"

namespace trireme::core {

/// Keeps true what ranks believe is free on each other.
///
/// A rank that sends a demand counts it against its view of the other (takes()), and what it gives back there as well
/// (gives_back()). How a task or an actor ends, and who else is served there, only the other rank knows: so whoever
/// sent something that counts is told what is free, with the outcomes of its tasks and calls when there is news, else
/// in a message of its own, at most one per kRound and only if it changed since it heard. What waits there counts as
/// taken (PlacementQueue::headroom), so that the next demand goes elsewhere.
///
/// A report says how many messages of its reader it counts; what the reader sent later still counts for it. So when
/// nothing changes any more, the last report of everybody is the truth, and meanwhile a rank sees the effect of what it
/// did itself at once.
///
/// Threading: under the token.
class Reports {
 public:
  Reports(Context& context, const scheduler::PlacementQueue& queue, scheduler::ClusterView& cluster)
      : context_(context), queue_(queue), cluster_(cluster) {}

  /// The message just sent to `to` takes this there. That rank calls owe() when it comes.
  void takes(Rank to, const scheduler::Resources& demand);
  /// Likewise, it gives this back.
  void gives_back(Rank to, const scheduler::Resources& amount);
  /// The view's idea of this rank is made true; before a choice.
  void refresh_own();

  /// `to` counted something against this rank: it hears of this rank from now on.
  void owe(Rank to);
  /// `to` has heard something else than what is free now.
  bool has_news(Rank to) const;
  /// A report as part of a message to `to`, which hears of this rank from now on.
  void put(Writer& out, Rank to);
  /// Reads one of `from`; makes `in` bad when it is none.
  void take(Reader& in, Rank from);

  void on_report(Rank from, Reader& in);
  void on_rank_dead(Rank dead) { told_.erase(dead); }
  Nanos next_deadline() const;
  void run_timers();
  /// The job ends: nobody is told any more.
  void stop();

 private:
  /// What is owed waits so long for an outcome to go with: what is short needs no message of its own.
  static constexpr Nanos kRound = 20 * kMillisecond;
  /// For each rank that is told, so that those who are many hear less often.
  static constexpr Nanos kRoundPerRank = kMillisecond / 2;
  struct Told {
    scheduler::Resources headroom;
    bool owed = true;  ///< it counted something since
  };
  bool due() const { return owed_ || (!told_.empty() && queue_.version() != round_version_); }

  Context& context_;
  const scheduler::PlacementQueue& queue_;
  scheduler::ClusterView& cluster_;
  std::map<Rank, Told> told_;
  std::uint64_t round_version_ = 0;  // of the last round: everybody knew it then
  Nanos round_at_ = kForever;
  bool owed_ = false;
  bool stopped_ = false;
};

}  // namespace trireme::core
