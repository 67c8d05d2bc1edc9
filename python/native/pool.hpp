#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/session.hpp"
#include "python/native/call.hpp"
#include "python/native/worker.hpp"

namespace trireme::python {

class Requests;

/// A line that a worker wrote.
struct LogLine {
  int pid = 0;
  int stream = 1;  ///< 1 stdout, 2 stderr
  std::string label;
  std::string text;
};

/// The worker processes of a rank: started from the template process, fed with tasks and actor calls through shared
/// memory, watched, and replaced when they die.
///
/// Tasks: one at a time per CPU. A worker whose tasks are short is sent some ahead; what it has not begun is taken back
/// when it waits for a reference or computes for long. A worker that waits lends its CPU: another one takes its place.
/// Tasks for which there is no worker now wait in `pending_`, from where other ranks may steal them.
/// Actors: one process each; calls are sent on at once, the process keeps their order.
///
/// Threading: Runner and SideQueue from any thread, Pollable under the rank's token. State is under one lock, which is
///            never held while cells are completed or core is called.
/// Errors:    a worker's death becomes worker_lost or actor_died, with signal or status and its last lines of output.
class Pool final : public Runner, public core::SideQueue, public scheduler::Pollable {
 public:
  struct Options {
    unsigned cpus = 1;
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
  /// Any thread: a task of this rank whose arguments are ready. Takes the queue's reference over: other ranks may get it.
  void submit(detail::TaskBase* task);

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

  /// Ends all workers. Under no lock; afterwards calls fail.
  void close();
  /// Blocks; empty when the pool is closed.
  std::vector<LogLine> next_logs();
  /// Under the token. False when nothing here runs or waits for that result.
  bool cancel(detail::Cell* result, bool force);
  /// Under the token: an actor of this rank ends without restart (kill with no_restart) or is started again.
  bool restart_actor(detail::LocalActor* actor);

 private:
  friend class Requests;
  struct Queued {
    detail::CellRef call;
    bool exportable = false;  ///< holds the queue's reference too
  };
  using Lock = std::unique_lock<std::mutex>;

  // Dispatch (pool_dispatch.cpp); with the lock held.
  void enqueue(Queued queued, bool front);
  void dispatch();
  Worker* worker_for(const CallText& text);
  bool has_cpu() const;
  void start_task(Worker& worker, detail::CellRef call);
  void send_work(Worker& worker, InFlight& flight, std::vector<Packed> deps);
  void take_back(Worker& worker);
  void set_blocked(Worker& worker, bool blocked);
  Worker* start_worker(std::string env_key, std::string env, ActorProcess* actor);
  void flush_actor(ActorProcess& actor);
  void start_actor(ActorProcess& actor);
  void after(std::function<void()> step) { after_.push_back(std::move(step)); }
  /// Runs what was put aside while the lock was held.
  void unlock_and_run(Lock& lock);

  // Events (pool_events.cpp); under the token.
  int look_at(Worker& worker);
  void on_frame(Lock& lock, Worker& worker, BytesView frame);
  void on_hello(Worker& worker);
  void on_done(Lock& lock, Worker& worker, Reader& in);
  void on_failed(Worker& worker, Reader& in);
  void finished(Worker& worker, InFlight& flight);
  void read_zygote();
  void read_output(Worker& worker, int stream);
  void add_output(Worker& worker, int stream, std::string_view text, bool end);
  void on_worker_gone(Worker& worker, int status);
  void actor_gone(Worker& worker, ActorProcess& actor, const std::string& why);
  void retire(Worker& worker);
  detail::ErrorInfo death_error(const Worker& worker, Errc code, const std::string& why, const std::string& name) const;
  std::string last_words(const Worker& worker) const;
  bool watch(int fd, std::uint64_t tag);

  core::Session& session_;
  core::Context& context_;
  const Options options_;
  transport::Fd epoll_, zygote_, bell_read_, bell_write_;
  MemoryFile board_file_;
  Board* board_ = nullptr;
  std::unique_ptr<Requests> requests_;

  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;  // by index; retired ones stay until close, emptied
  std::vector<std::uint32_t> free_indices_;
  std::vector<Worker*> idle_;
  std::unordered_map<std::uint64_t, std::unique_ptr<InFlight>> flights_;  // by token
  std::unordered_map<detail::Cell*, std::uint64_t> tokens_;               // by call
  std::deque<Queued> pending_;
  std::atomic<std::size_t> queued_{0};
  std::uint64_t next_token_ = 1;
  unsigned running_ = 0;   // task workers with something to do that do not wait
  double held_cpus_ = 0;   // of tasks under way that hold resources
  unsigned starting_ = 0;  // task workers that have not said hello
  unsigned failed_starts_ = 0;
  std::vector<std::function<void()>> after_;
  Nanos look_again_ = kForever;
  bool armed_ = false;
  bool closed_ = false;

  std::mutex log_mutex_;
  std::condition_variable log_ready_;
  std::deque<LogLine> log_lines_;
  bool log_closed_ = false;
};

}  // namespace trireme::python
