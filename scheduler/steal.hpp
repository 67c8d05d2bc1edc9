#pragma once

#include <cstdint>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/rng.hpp"
#include "base/wire.hpp"
#include "scheduler/victims.hpp"

namespace trireme::scheduler {

/// What the steal protocol asks of core. Called only from within calls to StealProtocol; must not call it back.
class StealHost {
 public:
  virtual ~StealHost() = default;
  /// Queued tasks that may leave this rank now, less those that idle threads here are about to take; approximate is
  /// fine.
  virtual std::uint32_t stealable() = 0;
  /// Sends up to `count` of the oldest such tasks to `thief`, those that need resources only if they fit into what
  /// `free` (written by the thief's free_resources()) says. Returns how many were sent. Tasks taken from the queue
  /// belong to the message from here on: when the thief dies, their owners resubmit them.
  virtual std::uint32_t give(Rank thief, std::uint32_t count, BytesView free) = 0;
  virtual void send(Rank to, BytesView message) = 0;
  virtual bool alive(Rank rank) const = 0;
  /// What this rank could take besides {CPU: 1} tasks, for give(); appended to `out`, often nothing.
  virtual void free_resources(Bytes& out) = 0;
  /// True: call on_local_work() whenever tasks were queued, because ranks wait here or this one counts as idle. False:
  /// the hot path need not call. Starts false.
  virtual void set_waiting(bool waiting) = 0;
};

/// give_max and the offers were set with trireme-sim (docs/decisions/004-work-stealing.md); the tries are not tuned.
struct StealOptions {
  /// Tries at every level of Victims but the last, then at random ranks of the whole job, before the lifelines.
  std::uint32_t near_tries = 1;
  std::uint32_t far_tries = 2;
  /// A rank whose tries brought nothing does not try again before this has passed, whatever it ran meanwhile: a rank
  /// that serves an actor's calls is idle after each. Its registrations and the offers find it.
  Nanos ask_again_after = kMillisecond;
  /// Most tasks in one gift. Far above what a rank needs for itself: ranks that get crumbs of a large heap ask again
  /// and again and pass crumbs on.
  std::uint32_t give_max = 1U << 20U;
  /// A rank that computes looks this often whether tasks lie in its queue, and offers them to `offer_fanout` random
  /// ranks; the pause doubles up to the second figure while offers bring nothing.
  Nanos offer_every = 4 * kMillisecond;
  Nanos offer_every_max = 256 * kMillisecond;
  std::uint32_t offer_fanout = 1;
};

/// Work stealing between ranks: a rank that ran dry asks near ranks, then random ones; each gives half of what it has
/// queued. After a bounded number of failures the rank registers at its lifelines and goes quiet; a rank that comes to
/// work shares it with those who wait there, who share it in turn. So work that appears on one rank spreads
/// exponentially, and ranks without work send nothing.
///
/// Lifelines alone leave a gap: a neighbour that runs one long task passes nothing on, and who waits behind it does not
/// hear of tasks that lie queued elsewhere. So a rank whose queue does not empty offers its tasks to random ranks, at
/// growing intervals; one that is idle asks, one that is busy passes the offer to somebody who waits there.
///
/// Tasks never travel in this protocol's messages: give() sends them, and a GIVEN note follows in order.
///
/// Threading: only the holder of the rank's progress token.
/// Errors:    on_message() returns malformed for bytes that make no sense.
/// State:     one request under way, and the ranks that wait here: those whose lifeline this is, O(log ranks).
/// Lifetime:  the host outlives it.
class StealProtocol {
 public:
  static constexpr std::size_t kFreeBytesMax = 4096;  ///< of free_resources(): a request stays one small frame

  StealProtocol(Victims victims, StealHost& host, StealOptions options, std::uint64_t seed);

  /// Nothing is queued here and at least one compute thread has nothing to run. Call it at every such transition;
  /// called while the rank waits at its lifelines, it asks anew after `ask_again_after`, so do not call it
  /// periodically.
  void on_local_idle(Nanos now);
  /// Tasks were queued (submitted here or arrived). Required while set_waiting(true).
  void on_local_work(std::uint32_t queued, Nanos now);
  Status on_message(Rank from, BytesView message, Nanos now);
  void on_rank_lost(Rank rank, Nanos now);
  /// Ranks have come: there are others to ask. Of a job of the same size, and never fewer than before.
  void set_victims(Victims victims) {
    victims_ = std::move(victims);
    ask_at_ = 0;
  }
  /// The runtime is ending: asks nobody any more and gives nothing.
  void stop();

  /// kForever while this rank is idle.
  Nanos next_deadline() const { return deadline_; }
  void on_timer(Nanos now);

  struct Stats {
    std::uint64_t requests_sent = 0, gifts_received = 0, empties_received = 0, registrations_sent = 0;
    std::uint64_t gifts_sent = 0, pushes_sent = 0, tasks_given = 0, offers_sent = 0;
  };
  const Stats& stats() const { return stats_; }
  /// Sends nothing until work or a message comes.
  bool quiet() const { return request_to_ == kNoRank && deadline_ == kForever; }

 private:
  enum class Phase : std::uint8_t { busy, asking, waiting, stopped };
  struct Waiting {
    Rank rank = kNoRank;
    Bytes free;
  };

  void set_phase(Phase phase, Nanos now);
  void ask_next(Nanos now);
  void ask(Rank victim);
  Rank next_victim();
  void wait_at_lifelines();
  void wait_at(Rank rank);
  void share();
  bool give_to(Rank thief, std::uint32_t count, BytesView free, std::uint64_t nonce);
  void on_reply(Rank from, std::uint64_t nonce, bool gift, Nanos now);
  void on_offer(Rank source, std::uint32_t hops, Nanos now);
  void send_offer(Rank to, Rank source, std::uint32_t hops);
  void waiting_changed();

  Victims victims_;
  StealHost& host_;
  StealOptions options_;
  Rng rng_;
  Phase phase_ = Phase::busy;
  std::uint32_t tries_ = 0;    // since this rank ran dry
  std::vector<Rank> asked_;    // by these tries
  Nanos ask_at_ = 0;           // no tries before
  Rank request_to_ = kNoRank;  // the one request under way
  std::uint64_t nonce_ = 0;    // of that request; 0 is no request's, it marks pushes
  Nanos deadline_ = kForever;  // of the next look for tasks to offer
  Nanos offer_pause_ = 0;
  std::vector<Waiting> waiting_;  // those who wait here, oldest first
  bool told_waiting_ = false;     // what set_waiting() said last
  std::vector<Rank> waits_at_;    // where this rank is registered
  Bytes scratch_;
  Stats stats_;
};

}  // namespace trireme::scheduler
