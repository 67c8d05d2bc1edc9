#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/clock.hpp"
#include "ml/collective/fabric.hpp"
#include "ml/collective/watch.hpp"
#include "trireme/ml/communicator.hpp"

namespace trireme::ml::detail {

/// An operation that was started. `failure` is written before `done`.
struct Pending {
  Operation operation;
  Nanos deadline = 0;
  std::atomic<bool> done{false};
  std::optional<CollectiveError> failure;
};
using PendingPtr = std::shared_ptr<Pending>;

/// What all members must agree on; 0 is never one.
std::uint64_t signature_of(const Operation& operation);

/// Drives the operations of one member.
///
/// One thread at a time is the driver and owns the fabric: a blocking caller, a thread in wait(), or the helper thread,
/// which exists once something was started without blocking and yields to the others. The driver advances the one
/// collective under way (they run in order) and all messages, spins for a short while, then sleeps: on a futex when the
/// group has one node, else on UCX's descriptor and a pipe.
///
/// Threading: any thread, where nothing else is said. Errors: throws CollectiveError.
class Engine final : public DeathListener, public std::enable_shared_from_this<Engine> {
 public:
  static std::shared_ptr<Engine> create(std::uint32_t rank, std::uint32_t size, const Exchange& exchange,
                                        CommunicatorOptions options);
  explicit Engine(CommunicatorOptions options) : options_(std::move(options)) {}
  ~Engine() override;

  void run(const Operation& operation);
  PendingPtr start(const Operation& operation);
  void wait(const Pending& pending);
  /// Leaves the group: operations under way fail. Once; nothing may be started afterwards.
  void close();

  std::uint32_t rank() const { return fabric_.rank; }
  std::uint32_t size() const { return fabric_.size; }
  const CommunicatorOptions& options() const { return options_; }
  std::string describe() const;
  std::string broken() const;

  void on_death(std::uint32_t member) override;

 private:
  using Lock = std::unique_lock<std::mutex>;

  // engine.cpp: who drives, and submitting
  bool try_drive();
  void stop_driving();
  PendingPtr submit(const Operation& operation);
  void check(const Operation& operation) const;
  void help();
  void kick() const;  ///< makes a driver that sleeps look again
  [[noreturn]] void refuse() const;

  // drive.cpp: driver only
  void drive(Condition reached);
  bool step();
  bool admit();
  bool advance();
  void post(const PendingPtr& pending);
  Task algorithm(Operation operation);
  Task across_nodes(Operation operation);
  void run_alone(const Operation& operation);
  void sleep(Condition reached);
  void finish(const PendingPtr& pending);
  void look_for_trouble();
  void fail(Breakage breakage);
  std::string explain(Breakage breakage) const;
  Nanos next_deadline() const;
  Nanos deadline_from_now() const;
  unsigned divisor(const Operation& operation) const { return operation.op == ReduceOp::mean ? size() : 0; }

  // direct.cpp: driver only
  bool run_directly(const Operation& operation);
  bool run_in_node(const Operation& operation);
  bool run_between_nodes(const Operation& operation);
  bool meet_nodes(std::uint32_t nodes);
  bool reduce_nodes(std::uint32_t nodes, const Operation& operation);
  void tell(std::uint32_t node, std::uint32_t step, const void* data, std::size_t bytes);
  bool hear(std::uint32_t node, std::uint32_t step, void* into, std::size_t bytes);  ///< false when the group broke

  const CommunicatorOptions options_;
  Fabric fabric_;
  Nanos spin_ = 0;  ///< without news, before the driver sleeps; 0 when members outnumber the cores

  std::atomic<bool> driving_{false};
  std::atomic<std::uint32_t> waiters_{0};  ///< threads that want to drive, or see their operation done
  std::atomic<std::uint32_t> unfinished_{0};
  std::atomic<bool> submitted_{false};

  mutable std::mutex mutex_;
  std::condition_variable changed_;         // with mutex_: driving_ or some done
  std::deque<PendingPtr> submissions_;      // with mutex_
  std::optional<CollectiveError> failure_;  // with mutex_; set once by the driver
  std::thread helper_;                      // with mutex_
  std::atomic<bool> closing_{false};        // with mutex_
  std::atomic<bool> alarm_{false};          // a death to spread, by the helper if nobody else drives
  std::atomic<bool> failed_{false};         // failure_ is set

  // The driver's.
  std::deque<PendingPtr> queue_;
  PendingPtr current_;
  Task task_;
  const Operation* direct_ = nullptr;  ///< that run_directly() runs: no other collective may begin
  Nanos direct_deadline_ = 0;
  std::vector<PendingPtr> messages_;  ///< sends and receives under way
  std::unordered_map<std::uint64_t, std::uint32_t>
      numbers_[2];      ///< user messages so far, by peer and tag; sent, received
  std::string reason_;  ///< what UCX said about the member that was lost
};

}  // namespace trireme::ml::detail
