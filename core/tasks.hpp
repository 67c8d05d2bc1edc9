#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/holders.hpp"
#include "core/refs.hpp"
#include "core/reports.hpp"
#include "scheduler/placement.hpp"
#include "trireme/detail/invocation.hpp"

namespace trireme::core {

/// A task in the form that travels.
struct TaskSpec {
  ObjectId id;  ///< drawn by the owner; result i is held under index + i
  std::uint32_t attempt = 0;
  std::uint32_t hops = 0;  ///< how often this attempt was given on: orders what its owner hears of it
  std::uint16_t returns = 1;
  bool split = false;  ///< one value per element of the returned tuple
  std::uint64_t function = 0;
  detail::Value args;  ///< the first `deps` of args.refs are reference arguments
  std::uint32_t deps = 0;
  bool placed = false;  ///< holds resources while it runs
  std::uint32_t bounced = 0;
  std::int32_t bundle = -1;
  scheduler::Demand demand;
};

/// What comes back for a task or a call: values in wire form, or an error.
struct Outcome {
  std::vector<detail::Value> values;
  std::unique_ptr<detail::ErrorInfo> error;
};

/// Tasks that leave the common path: waiting for remote arguments, placed by resources, given to other ranks or
/// received from them; and the results of everything that runs for somebody elsewhere (tasks and actor calls alike).
///
/// The owner keeps a Pending with the encoded task until the outcome is in: when the rank that has the task dies, the
/// task is submitted again (max_retries) or fails with worker_lost. Attempts are numbered: a late outcome of an earlier
/// attempt is dropped.
///
/// Threading: under the token.
class Tasks {
 public:
  Tasks(Context& context, Refs& refs, Holders& holders, scheduler::ClusterView& cluster, Reports& reports)
      : context_(context), refs_(refs), holders_(holders), cluster_(cluster), reports_(reports) {}
  /// A task was queued in this rank (for the steal protocol).
  std::function<void()> on_work;
  /// Is the group known; else `then` runs when it is (or the error is).
  std::function<void(ObjectId group, std::function<void(const detail::ErrorInfo*)> then)> when_group;

  /// Some reference arguments are not ready: waits for them where they are, then runs the task here or there.
  void submit_waiting(detail::TaskBase* task);
  void submit_placed(detail::TaskBase* task);
  /// Sends up to `count` queued tasks to `thief`. Returns how many went.
  std::uint32_t give(Rank thief, std::uint32_t count);

  /// Registers a call whose outcome will come from `where`; the returned index travels with it.
  std::uint64_t expect_call(detail::Invocation* call, CellRef actor, Rank where);
  void finish(ObjectId id, std::uint32_t attempt, Outcome outcome);

  void on_task(Rank from, Reader& in);
  void on_done(Rank from, Reader& in);
  void on_moved(Rank from, Reader& in);
  void on_bounced(Rank from, Reader& in);
  void on_rank_dead(Rank dead);
  /// Ranks joined or died: what waits because it fits none is looked at again.
  void place_waiting();

  std::size_t pending() const { return pending_.size(); }
  std::size_t foreign() const { return foreign_; }
  /// At the end of the session, when no task runs any more: what is still expected of others never comes.
  void drop_pending();
  /// For leak reports: what is pending, and where.
  std::string dump() const;

 private:
  friend class ForeignTask;
  struct Pending {
    enum class Kind : std::uint8_t { task, call } kind = Kind::task;
    TaskSpec spec;
    std::vector<CellRef> results;
    CellRef keep;  // the task's block, or the actor of a call
    Rank where = kNoRank;
    int retries_left = 0;
    std::vector<Rank> avoid;
    /// Who says that it gave the task to `where`: should it die, the task may have been lost on that way.
    Rank via = kNoRank;
    /// Nobody but this rank gives it to another: `where` is the rank that has it.
    bool stays() const { return kind == Kind::call || spec.placed; }
  };
  struct Placed;
  void place(std::shared_ptr<Placed> placed);
  void run_here(detail::TaskBase* task);
  Pending& expect_task(detail::TaskBase* task);
  TaskSpec spec_of(detail::TaskBase* task);
  void send_task(const TaskSpec& spec, Rank to);
  void place_pending(std::uint64_t index);
  void place_elsewhere(Pending& pending, Rank refused);
  void place_in_group(std::uint64_t index);
  void accept(TaskSpec&& spec);
  void bounce(const TaskSpec& spec);
  void run_foreign(TaskSpec&& spec, scheduler::HolderId holder);
  void queue_foreign(TaskSpec&& spec, scheduler::HolderId holder);
  void send_outcome(Rank to, ObjectId id, std::uint32_t attempt, Outcome outcome);
  void complete(Pending& pending, Outcome outcome);
  /// Nobody waits for a result that `holder` keeps.
  void free_there(Rank holder, ObjectId result);
  void retry(std::uint64_t index, Rank dead);
  void fail_task(detail::TaskBase* task, detail::ErrorInfo error);

  Context& context_;
  Refs& refs_;
  Holders& holders_;
  scheduler::ClusterView& cluster_;
  Reports& reports_;
  std::unordered_map<std::uint64_t, Pending> pending_;
  std::vector<std::uint64_t> waiting_;  // of these, those that fit no rank that is there
  std::size_t foreign_ = 0;
};

}  // namespace trireme::core
