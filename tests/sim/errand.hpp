#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "core/running_calls.hpp"
#include "tests/sim/program.hpp"

/// Calls that can be cancelled, as those of Python are: their results come in wire form, and they are run by somebody
/// beside the compute threads: here a clerk in each rank, there worker processes. Chores are errands that the compute
/// threads run themselves, as they do C++ that Python calls.
namespace trireme::sim {

struct Errand {
  std::uint64_t value = 0;
  std::uint64_t ticket = 0;
  std::uint64_t key = 0;  ///< what it is cancelled by; also its number in the ledger
  Nanos time = 0;
  std::uint32_t deps = 0;
  bool chore = false;
  CallOrder call;  ///< of a call of a desk
};

/// An actor whose calls are errands, done one by one in order: all of them chores, or none.
struct Desk {
  explicit Desk(std::uint64_t k);
  const std::uint64_t key, instance;
  const Rank rank;
  bool busy = false;
};

/// Runs the errands of one rank: tasks a few at a time, those of a desk one by one.
class Clerk {
 public:
  Clerk(World& world, Rank self, std::uint64_t seed);

  void run(detail::CellRef call, Errand errand, std::vector<Ref<Blob>> deps, std::shared_ptr<Desk> desk);
  /// One that has not begun fails; one that runs fails when it ends, or gives its value all the same. False: it is not
  /// here, and will not begin here.
  bool cancel(std::uint64_t key);
  bool cancel_chore(std::uint64_t key) { return chores_.cancel(key); }
  core::RunningCalls& chores() { return chores_; }
  /// The desk was killed.
  void fail_all(const Desk& desk);
  std::size_t jobs() const { return jobs_.size() + chores_.running(); }
  /// What was cancelled and did not come here, for a rank that joins later; there: hear().
  Bytes note() const;
  void hear(BytesView note);

 private:
  struct Job {
    detail::CellRef call;
    Errand errand;
    std::vector<Ref<Blob>> deps;
    std::shared_ptr<Desk> desk;
    enum class State : std::uint8_t { queued, opening, running, ended, gone } state = State::queued;
    bool interrupted = false;
  };
  void pump();
  void open(const std::shared_ptr<Job>& job);
  void work(const std::shared_ptr<Job>& job);
  void leave(const std::shared_ptr<Job>& job);
  void give_up(Job& job, Errc code, const char* why);
  void fail(const Job& job, Errc code, const char* why);
  SimHost& host() const { return *world_.at(self_).host; }

  World& world_;
  const Rank self_;
  Rng rng_;
  std::list<std::shared_ptr<Job>> jobs_;
  std::uint32_t tasks_open_ = 0;
  core::CancelledKeys cancelled_;
  core::RunningCalls chores_;
};

/// `options` null: an ordinary task.
Ref<Blob> submit_errand(const TaskOptions* options, Errand errand, const std::vector<Ref<Blob>>& deps);
Ref<detail::Nothing> open_desk(const ActorOptions& options, std::uint64_t key, bool chores);
Ref<Blob> call_desk(const Ref<detail::Nothing>& desk, Errand errand, const std::vector<Ref<Blob>>& deps);
/// Any rank that has the reference. `force`: nobody waits for one that runs.
void cancel_errand(const Ref<Blob>& result, bool force = false);
/// Connects the rank's core with its clerk.
void enable_cancelling(core::RankCore& core, Clerk& clerk);
/// Tasks: the same from another rank; an errand that another rank owns.
void cancel_for(Order order, Ref<Blob> result, bool force);
Ref<Blob> errand_for(Order order, Errand errand);

Outcome eval_errand(std::uint64_t value, const std::vector<Outcome>& deps);

}  // namespace trireme::sim
