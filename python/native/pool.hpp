#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/cancel.hpp"
#include "core/session.hpp"
#include "python/native/call.hpp"
#include "python/native/rank_api.hpp"
#include "python/native/worker.hpp"

namespace trireme::python {

class Requests;

/// The worker processes of a rank: started from the template process, fed with tasks and actor calls through shared
/// memory, watched, and replaced when they die.
///
/// Tasks: one at a time per CPU. A worker whose tasks are short is sent some ahead; what it has not begun is taken back
/// when it waits for a reference or computes for long. A worker that waits lends its CPU: another one takes its place.
/// Tasks for which there is no worker now wait in `pending_`, from where other ranks may steal them.
/// Actors: one process each; calls are sent on at once, the process keeps their order.
///
/// Threading: Runner and SideQueue from any thread, Pollable under the rank's token. State is under one lock, which is
///            never held while cells are completed or core is called: what is to be done then is put aside (after()).
/// Errors:    a worker's death becomes worker_lost or actor_died, with signal or status and its last lines of output.
class Pool final : public Runner, public core::SideQueue, public scheduler::Pollable {
 public:
  struct Options {
    unsigned cpus = 1;
    unsigned gpus = 0;
    int zygote_fd = -1;  ///< owned
    unsigned prestart = 0;
  };
  Pool(core::Session& session, Options options);
  ~Pool() override;
  Status open();

  // Runner
  void run_task(detail::TaskBase* task) override;
  void run_create(detail::CallBase* create) override;
  void run_call(detail::CallBase* call, void* object) override;
  /// Any thread: a task of this rank whose arguments are ready. Takes the queue's reference over: other ranks may get
  /// it.
  void submit(detail::TaskBase* task) override;

  // SideQueue
  std::size_t queued() const override { return queued_.load(std::memory_order_relaxed); }
  std::size_t take_exportable(std::size_t count, std::vector<scheduler::Work*>& out) override;

  // Pollable
  int poll() override;
  void flush() override;
  bool arm() override;
  void disarm() override;
  Nanos next_deadline() const override;
  std::vector<int> event_fds() const override { return {epoll_.get()}; }

  /// For a thread outside of the executor: waits until `fired` (set by who then calls wake()) or the deadline. False at
  /// once when another thread waits that way.
  bool wait_for_workers(const std::atomic<bool>& fired, Nanos deadline);
  void wake() { wake_waiter(*board_); }
  /// A thread may spin without taking a core from a task.
  bool core_free() const { return computing_.load(std::memory_order_relaxed) < options_.cpus; }

  /// Ends all workers. Under no lock; afterwards calls fail. Blocks for a moment.
  void close();
  /// After close() and the engine's end.
  void close_descriptors();
  /// Blocks; empty when the pool is closed.
  std::vector<LogLine> next_logs();
  /// Any thread. What has that key here ends, or will as soon as it comes here.
  /// False: it is not here. Should it come later, it does not run.
  bool cancel(std::uint64_t key, core::CancelOptions options);
  /// Any thread: the task with these resources ends, which were taken back with its placement group.
  void end_revoked(scheduler::HolderId holder);
  /// For a rank that joins later: what was cancelled and is not to run there either. Any thread; there:
  /// hear_cancelled().
  Bytes cancelled_keys() const;
  void hear_cancelled(BytesView keys);
  /// Any thread: the actor's process is killed, and started again if it may be.
  bool restart_actor(detail::LocalActor* actor);
  /// For describe_objects().
  struct Calls {
    std::unordered_map<const detail::Cell*, const char*> states;  ///< results of calls that are here, not ready yet
    std::unordered_set<const detail::Cell*> used;                 ///< arguments of those calls
    std::vector<detail::CellRef> queued;                          ///< calls for which there is no worker now
  };
  /// Any thread: what `calls` says, and every worker process, with the lock held.
  void list(const std::function<void(const Worker&)>& each, Calls& calls);
  /// Where to map the arena of this or another rank of the node; fd -1: it cannot be.
  Located arena_of(Rank rank) const;

 private:
  friend class Requests;
  friend struct ActorEnd;
  struct Queued {
    detail::CellRef call;
    bool exportable = false;  ///< holds the queue's reference too
    std::uint32_t attempt = 0;
  };
  using Lock = std::unique_lock<std::mutex>;

  // Dispatch (pool_dispatch.cpp); with the lock held.
  void enqueue(Queued queued, bool front);
  void dispatch();
  Worker* worker_for(const CallText& text);
  bool has_cpu() const;
  /// False: it cannot take the task now; `queued` is as it was.
  bool start_task(Worker& worker, Queued& queued);
  bool any_pending() const;
  void send_work(Worker& worker, InFlight& flight, std::vector<Packed> deps);
  void take_back(Worker& worker);
  void set_blocked(Worker& worker, bool blocked);
  void occupy(Worker& worker, const CallText& text);
  void vacate(Worker& worker, const CallText& text);
  /// Of what the flight submitted: results that some worker still refers to, so that what waits for its arguments can
  /// be failed at once, and the rest.
  void find_children(const InFlight& flight, std::vector<detail::CellRef>& results,
                     std::vector<InFlight::Child>& others) const;
  Worker* find(std::uint32_t index, std::uint64_t id) const;
  void after(std::function<void()> step) { after_.push_back(std::move(step)); }
  void fail_later(detail::CellRef call, detail::ErrorInfo error, bool exportable = false);
  detail::ErrorInfo revoked_error() const;
  /// A plain actor runs its calls in the order of their tokens and hears of nothing meanwhile: in its page it is told
  /// when the one was cancelled whose turn it is, the others when theirs comes.
  void tell_cancelled(Worker& worker);
  /// Runs what was put aside while the lock was held.
  void unlock_and_run(Lock& lock);
  std::vector<int> take_gpus(double amount);
  void give_gpus(const std::vector<int>& devices, double amount);

  /// Not with the lock held: the actor's last handle is gone, or it was killed.
  void object_gone(ActorProcess& actor, bool killed);

  // Actors (pool_actors.cpp); with the lock held.
  void start_actor(ActorProcess& actor);
  Worker* fresh_worker() const;
  void flush_actor(ActorProcess& actor);
  void send_create(Worker& worker);
  void recall_outgoing(ActorProcess& actor, const std::shared_ptr<ActorProcess::Outgoing>& outgoing);
  void on_created(Worker& worker, std::unique_ptr<detail::ErrorInfo> error);
  void actor_gone(Worker& worker, const std::string& why);
  void end_actor(ActorProcess& actor, detail::ErrorInfo error);

  // Processes (pool_processes.cpp); with the lock held.
  Worker* start_worker(std::string env_key, std::string env, ActorProcess* actor);
  void read_zygote(Lock& lock);
  void read_output(Worker& worker, int stream);
  void add_output(Worker& worker, int stream, std::string_view text, bool end);
  void on_worker_gone(Lock& lock, Worker& worker, int status);
  void retire(Worker& worker);
  void kill_process(Worker& worker, int signal);
  detail::ErrorInfo death_error(const Worker& worker, Errc code, const std::string& why, const std::string& name) const;
  bool watch(int fd, std::uint64_t tag);
  int look_at_descriptors(Lock& lock);

  // Frames (pool_events.cpp); under the token, with the lock held.
  int look_at(Lock& lock, Worker& worker);
  void on_frame(Lock& lock, Worker& worker, BytesView frame);
  void on_hello(Worker& worker);
  void on_done(Worker& worker, Reader& in);
  void on_failed(Worker& worker, Reader& in);
  void on_yielded(Worker& worker, Reader& in);
  void finish_call(std::unique_ptr<InFlight> flight, std::vector<detail::Value> results);
  /// Takes the call out of the worker's list.
  std::unique_ptr<InFlight> finished(Worker& worker, std::uint64_t token);
  void check_long_tasks();
  void repeat_interrupts(Nanos now);

  core::Session& session_;
  core::Context& context_;
  const Options options_;
  transport::Fd epoll_, zygote_, bell_read_, bell_write_;
  MemoryFile board_file_;
  Board* board_ = nullptr;
  std::unique_ptr<Requests> requests_;

  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;  // by index; empty where one has gone
  std::vector<std::uint32_t> free_indices_;
  std::unordered_map<std::uint64_t, Worker*> by_id_;
  std::vector<Worker*> idle_;
  std::unordered_map<std::uint64_t, std::unique_ptr<InFlight>> flights_;  // by token
  std::unordered_map<std::uint64_t, std::uint64_t> tokens_;               // by key
  std::deque<Queued> pending_;
  std::atomic<std::size_t> queued_{0};
  std::uint64_t next_token_ = 1;
  unsigned running_ = 0;                // task workers with something to do that do not wait
  std::atomic<unsigned> computing_{0};  // the same, for core_free()
  std::atomic<bool> has_waiter_{false};
  std::atomic<std::size_t> workers_seen_{0};  // size of workers_, for any_pending()
  double held_cpus_ = 0;                      // of tasks under way that hold resources
  unsigned failed_starts_ = 0;
  std::vector<double> gpu_free_;
  core::CancelledKeys cancelled_;
  std::vector<std::function<void()>> after_;
  std::atomic<Nanos> look_again_{kForever};
  struct Interrupt {
    std::uint64_t token = 0;
    Nanos due = 0, wait = 0;
  };
  std::vector<Interrupt> interrupts_;  // of cancelled tasks that may not have noticed
  Nanos descriptors_seen_ = 0;
  bool armed_ = false;
  bool told_idle_ = false;
  bool closing_ = false;
  bool closed_ = false;
  std::condition_variable all_gone_;

  std::mutex log_mutex_;
  std::condition_variable log_ready_;
  std::deque<LogLine> log_lines_;
  bool log_closed_ = false;
};

}  // namespace trireme::python
