#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/actors.hpp"
#include "core/cancel.hpp"
#include "core/control.hpp"
#include "core/holders.hpp"
#include "core/membership.hpp"
#include "core/names.hpp"
#include "core/placement_groups.hpp"
#include "core/refs.hpp"
#include "core/reports.hpp"
#include "core/tasks.hpp"
#include "scheduler/placement.hpp"
#include "scheduler/placement_queue.hpp"
#include "scheduler/progress.hpp"
#include "scheduler/steal.hpp"
#include "transport/router.hpp"
#include "trireme/topology.hpp"

namespace trireme::core {

struct CoreOptions {
  std::string host_name;
  std::uint64_t seed = 1;
  std::vector<scheduler::RankInfo> ranks;     ///< of the whole job
  std::optional<scheduler::Victims> victims;  ///< for the steal protocol; all ranks alike without
  World world;                                ///< of a job with seats; of others it is empty
};

/// One rank's protocol: the parts, wired together and to the messages. The same object runs in production and, one per
/// simulated rank, in simulation.
///
/// Threading: Pollable and MessageHandler under the token. What the public API calls (submit ... name_of) from any
/// thread. Lifetime:  host, router, store and clock outlive it.
class RankCore final : public scheduler::Pollable, public transport::MessageHandler {
 public:
  RankCore(Host& host, transport::Router& router, const Clock& clock, objstore::Store* store, CoreOptions options);
  ~RankCore() override;

  const Context& context() const { return context_; }
  Context& context() { return context_; }
  Refs& refs() { return refs_; }
  Holders& holders() { return holders_; }
  Tasks& tasks() { return tasks_; }
  Actors& actors() { return actors_; }
  Names& names() { return names_; }
  Cancels& cancels() { return cancels_; }
  Control& control() { return control_; }
  Membership& membership() { return membership_; }
  scheduler::ClusterView& cluster() { return cluster_; }
  scheduler::ResourcePool& pool() { return pool_; }
  scheduler::StealProtocol& steal() { return steal_; }
  PlacementGroups& groups() { return groups_; }

  /// Any thread; hot.
  void submit(detail::TaskBase* task, bool deps);
  /// Any thread: the executor found nothing to do.
  void went_idle();

  /// Rank 0: tells all ranks to leave; `done` runs under the token when all have answered or are dead.
  void shut_down(std::function<void()> done);
  /// Other ranks: runs under the token when rank 0 says so.
  std::function<void()> on_shutdown;

  int poll() override;
  void flush() override;
  bool arm() override;
  void disarm() override;
  Nanos next_deadline() const override;
  std::vector<int> event_fds() const override;
  Status on_message(Rank from, BytesView message) override;
  void on_lost(Rank peer, std::string_view why) override;
  /// A rank that leaves before the job ends is as good as lost.
  void on_left(Rank peer) override { membership_.on_lost(peer, "it left before the job ended"); }
  /// Connects the router to a late rank and reads what it has from what it told rank 0; under the token.
  std::function<Result<scheduler::RankInfo>(Rank, BytesView member)> connect;
  /// A late rank, before it begins: a note that another rank gave it (Membership::note). Set by whoever writes them.
  std::function<void(BytesView)> on_note;
  /// What this rank has and how it reaches the others; under the token. Unset in simulation.
  std::function<Topology()> describe;
  /// Messages of objstore's transfer, when a fetcher is attached.
  std::function<Status(Rank, BytesView)> on_transfer;
  std::function<void(Rank)> on_transfer_lost;
  /// Another source of events under the same token (worker processes). Before the engine starts; outlives it.
  void attach(scheduler::Pollable* source) { attached_.push_back(source); }
  /// Any thread: something was queued that other ranks could steal (Host::queued() grew).
  void work_queued();
  struct WaitingTask;
  /// False when all arguments are there; else the task goes its way, by InvocationOps::take or a queue, once they are.
  /// Any thread.
  bool wait_for_arguments(detail::TaskBase* task);
  /// The waiter for shut_down() gave up.
  void forget_shutdown() { shutdown_done_ = nullptr; }

 private:
  struct StealLink final : scheduler::StealHost {
    explicit StealLink(RankCore& c) : core(c) {}
    RankCore& core;
    /// Less what idle threads here are about to take: else ranks that wait pass one task round and round.
    std::uint32_t stealable() override {
      const auto queued = core.context_.host->queued();
      return static_cast<std::uint32_t>(queued - std::min<std::size_t>(queued, core.context_.host->idle_threads()));
    }
    std::uint32_t give(Rank thief, std::uint32_t count, BytesView) override { return core.tasks_.give(thief, count); }
    void send(Rank to, BytesView message) override { core.send_as(MessageType::steal, to, message); }
    bool alive(Rank rank) const override { return core.context_.alive(rank); }
    /// Tasks that hold resources are placed, not stolen, so a thief has nothing to say.
    void free_resources(Bytes&) override {}
    void set_waiting(bool waiting) override { core.thieves_wait_.store(waiting, std::memory_order_relaxed); }
  };

  void send_as(MessageType type, Rank to, BytesView message);

  Status dispatch(Rank from, BytesView message);
  void rank_dead(Rank dead);
  Status rank_comes(Rank rank, BytesView member);
  void rank_joined(Rank rank);
  void members_changed();
  void tell_steal_of_work();

  Context context_;
  Refs refs_;
  Holders holders_;
  Tasks tasks_;
  Actors actors_;
  Names names_;
  Cancels cancels_;
  Control control_;
  Membership membership_;
  scheduler::ClusterView cluster_;
  scheduler::ResourcePool pool_;
  scheduler::PlacementQueue queue_;
  Reports reports_;
  StealLink steal_link_{*this};
  PlacementGroups groups_;
  scheduler::StealProtocol steal_;
  std::atomic<bool> thieves_wait_{false};
  std::atomic<bool> idle_{true};
  std::vector<scheduler::Pollable*> attached_;

  std::vector<bool> leaving_;
  std::uint32_t left_ = 0;
  std::function<void()> shutdown_done_;
};

}  // namespace trireme::core
