#pragma once

#include <functional>
#include <memory>

#include "core/current.hpp"
#include "core/doorkeeper.hpp"
#include "core/fetcher.hpp"
#include "core/launcher_watch.hpp"
#include "core/memory_watch.hpp"
#include "core/rank_core.hpp"
#include "core/thread_host.hpp"
#include "objstore/arena.hpp"
#include "objstore/store.hpp"
#include "scheduler/topology.hpp"
#include "transport/bootstrap.hpp"
#include "trireme/runtime.hpp"

namespace trireme::core {

/// The options with what the environment says where they leave it open (TRIREME_THREADS, TRIREME_RESOURCES, ...).
RuntimeOptions environment_options(RuntimeOptions options);

/// A rank at work: arena, transports, protocol, progress thread, compute threads, started and stopped in order.
///
/// Threading: start, serve and stop by one thread.
/// Errors:    start() names what is missing; a job whose ranks run different builds does not start.
class Session {
 public:
  /// Collective. The bootstrap's service is released before this returns.
  /// `prepare` runs when everything is made and nothing has started.
  static Result<std::unique_ptr<Session>> start(transport::Bootstrap& bootstrap, const RuntimeOptions& options,
                                                const std::function<void(Session&)>& prepare = {});
  ~Session();

  Rank rank() const { return core_->context().self; }
  RankCore& core() { return *core_; }
  /// By rank; of an empty seat `rank` is kNoRank. In a job with seats it changes under the token.
  const std::vector<transport::Member>& members() const { return members_; }
  transport::Router& router() { return *router_; }
  scheduler::Executor& executor() { return *executor_; }
  ThreadHost& host() { return host_; }
  objstore::Arena& arena() { return *arena_; }
  /// Before the rest of leave(): whoever has processes or threads of its own ends them.
  std::function<void()> on_leave;
  /// Blocks until rank 0 ends the job, then leaves it.
  void serve();
  /// After the end: arena and store stay until the process ends, because somebody still reads what is in them.
  void abandon_memory();
  /// Rank 0: ends the job. Once.
  void stop();

 private:
  Session() = default;
  Status join(transport::Bootstrap& bootstrap, const RuntimeOptions& options,
              const std::function<void(Session&)>& prepare);
  void leave();
  Topology describe();
  Status hear(const std::vector<Bytes>& round);
  Status hear_places(const std::vector<Bytes>& round);
  /// Under the token: a late rank, from what it told rank 0.
  Result<scheduler::RankInfo> connect(Rank rank, BytesView record);
  void open_door(std::unique_ptr<transport::Door> door);

  std::unique_ptr<LauncherWatch> launcher_;  ///< until leave() is through
  std::vector<transport::Member> members_;
  scheduler::Topology whole_, mine_;
  std::vector<scheduler::Place> places_;
  std::unique_ptr<objstore::Arena> arena_;
  std::unique_ptr<objstore::Store> store_;
  std::unique_ptr<transport::Router> router_;
  transport::Backend* ucx_ = nullptr;  ///< the router's
  ThreadHost host_;
  SystemClock clock_;
  std::unique_ptr<RankCore> core_;
  std::unique_ptr<TransferFetcher> fetcher_;
  std::unique_ptr<MemoryWatch> memory_watch_;
  std::unique_ptr<scheduler::ProgressEngine> engine_;
  std::unique_ptr<scheduler::Executor> executor_;
  std::unique_ptr<Doorkeeper> doorkeeper_;  ///< rank 0 of a job with seats
  scheduler::WaitPoint shutdown_;
  bool running_ = false;
};

}  // namespace trireme::core
