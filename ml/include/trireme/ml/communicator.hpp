#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "trireme/ml/thresholds.hpp"
#include "trireme/ml/types.hpp"

namespace trireme::ml {

/// How the members of a group find each other: every member hands in bytes (a few KiB) and gets those of all, by rank.
/// Called three times by the constructor; must return an error when the others do not come within `timeout_ns`.
using Exchange = std::function<Result<std::vector<std::vector<std::byte>>>(std::span<const std::byte> mine,
                                                                           std::int64_t timeout_ns)>;

struct CommunicatorOptions {
  std::string name = "group";  ///< shown in errors
  /// How long an operation, or making the group, may take before it fails on every member.
  std::int64_t timeout_ns = 1'800'000'000'000;
  /// Reductions combine members in the order of their ranks, whatever the algorithm, the sizes and the placement: the
  /// same bits for the same number of members. Costs speed between nodes.
  bool fixed_order = false;
  /// Without them, what the environment variable TRIREME_COLLECTIVES says, else the defaults. Only member 0's count.
  std::optional<Thresholds> thresholds = {};
};

/// An operation failed on every member. Once thrown for a lost member, a timeout or a disagreement the group is of no
/// more use: make a new one with the survivors.
class CollectiveError : public std::runtime_error {
 public:
  CollectiveError(Errc code, int member, const std::string& text)
      : std::runtime_error(text), code_(code), member_(member) {}
  Errc code() const { return code_; }     ///< peer_lost, timeout, invalid_argument, shutdown, ...
  int member() const { return member_; }  ///< the member to blame, or -1

 private:
  Errc code_;
  int member_;
};

namespace detail {
class Engine;
struct Pending;
enum class Kind : std::uint8_t {
  all_reduce,
  reduce,
  broadcast,
  all_gather,
  reduce_scatter,
  all_to_all,
  barrier,
  send,
  recv
};
/// One operation as every member describes it. `count` is what one member contributes to or gets from one other.
struct Operation {
  Kind kind = Kind::barrier;
  const void* in = nullptr;
  void* out = nullptr;
  std::size_t count = 0;
  DType type = DType::u8;
  ReduceOp op = ReduceOp::sum;
  std::uint32_t peer = 0;  ///< root, destination or source
  std::uint32_t tag = 0;
};
}  // namespace detail

/// A non-blocking operation under way. Its buffers must stay valid and untouched until it is done.
///
/// Threading: any thread. Errors: wait() throws what the blocking form would. Lifetime: may be dropped; the operation
/// goes on. Destroying the Communicator ends it with an error.
class Work {
 public:
  Work() = default;
  /// It stands for an operation; what was made without one cannot be waited for.
  bool valid() const { return pending_ != nullptr; }
  void wait();
  /// True when it is done, with or without an error.
  bool test() const;

 private:
  friend class Communicator;
  Work(std::shared_ptr<detail::Engine> engine, std::shared_ptr<detail::Pending> pending)
      : engine_(std::move(engine)), pending_(std::move(pending)) {}
  std::shared_ptr<detail::Engine> engine_;
  std::shared_ptr<detail::Pending> pending_;
};

/// A group of processes (or threads of processes) that exchange and reduce arrays.
///
/// It needs no runtime: members are made from (rank, size, exchange). Those on one node share a memory segment; those
/// on different nodes talk through UCX endpoints of the group's own, opened by the first use.
///
/// Every member calls the same collective operations in the same order, with equal counts, types and roots; a
/// disagreement inside a node is an error on all. Operations work in place. send and recv pair up by (peer, tag), in
/// order, independently of collectives.
///
/// Threading: any thread; collectives run in the order in which they are started. A blocking call makes progress
///            itself; non-blocking ones have a helper thread, started with the first of them.
/// Errors:    throws CollectiveError. A member that dies ends what is under way on every member with an error that
///            names it.
/// Units:     counts in elements, timeouts in nanoseconds.
/// Lifetime:  destroying is best done by all members; between nodes it waits up to two seconds for the others.
class Communicator {
 public:
  Communicator(std::uint32_t rank, std::uint32_t size, const Exchange& exchange, CommunicatorOptions options = {});
  ~Communicator();
  Communicator(Communicator&&) noexcept;
  Communicator& operator=(Communicator&&) noexcept;

  std::uint32_t rank() const;
  std::uint32_t size() const;
  const std::string& name() const;
  /// One line for people: how many members on which nodes, and how they reach each other.
  std::string describe() const;
  /// Empty while the group is of use, else why it is not.
  std::string broken() const;

  void all_reduce(Buffer data, ReduceOp op = ReduceOp::sum) { run(all_reduce_of(data, op)); }
  /// Only root's buffer is changed.
  void reduce(Buffer data, std::uint32_t root, ReduceOp op = ReduceOp::sum) { run(reduce_of(data, root, op)); }
  void broadcast(Buffer data, std::uint32_t root) { run(broadcast_of(data, root)); }
  /// `all` holds size() times as many elements as `mine`, which may be its own part of `all`.
  void all_gather(ConstBuffer mine, Buffer all) { run(all_gather_of(mine, all)); }
  /// The reverse: `mine` gets this member's part of the reduction of `all`, and may lie there in `all`.
  void reduce_scatter(ConstBuffer all, Buffer mine, ReduceOp op = ReduceOp::sum) {
    run(reduce_scatter_of(all, mine, op));
  }
  /// Part i of `from` goes to member i; part i of `to` comes from member i. No overlap.
  void all_to_all(ConstBuffer from, Buffer to) { run(all_to_all_of(from, to)); }
  void send(ConstBuffer data, std::uint32_t to, std::uint32_t tag = 0) { run(send_of(data, to, tag)); }
  void recv(Buffer data, std::uint32_t from, std::uint32_t tag = 0) { run(recv_of(data, from, tag)); }
  void barrier() { run({}); }

  Work start_all_reduce(Buffer data, ReduceOp op = ReduceOp::sum) { return start(all_reduce_of(data, op)); }
  Work start_reduce(Buffer data, std::uint32_t root, ReduceOp op = ReduceOp::sum) {
    return start(reduce_of(data, root, op));
  }
  Work start_broadcast(Buffer data, std::uint32_t root) { return start(broadcast_of(data, root)); }
  Work start_all_gather(ConstBuffer mine, Buffer all) { return start(all_gather_of(mine, all)); }
  Work start_reduce_scatter(ConstBuffer all, Buffer mine, ReduceOp op = ReduceOp::sum) {
    return start(reduce_scatter_of(all, mine, op));
  }
  Work start_all_to_all(ConstBuffer from, Buffer to) { return start(all_to_all_of(from, to)); }
  Work start_send(ConstBuffer data, std::uint32_t to, std::uint32_t tag = 0) { return start(send_of(data, to, tag)); }
  Work start_recv(Buffer data, std::uint32_t from, std::uint32_t tag = 0) { return start(recv_of(data, from, tag)); }
  Work start_barrier() { return start({}); }

 private:
  void run(const detail::Operation& operation);
  Work start(const detail::Operation& operation);
  static detail::Operation all_reduce_of(Buffer data, ReduceOp op);
  static detail::Operation reduce_of(Buffer data, std::uint32_t root, ReduceOp op);
  static detail::Operation broadcast_of(Buffer data, std::uint32_t root);
  detail::Operation all_gather_of(ConstBuffer mine, Buffer all) const;
  detail::Operation reduce_scatter_of(ConstBuffer all, Buffer mine, ReduceOp op) const;
  detail::Operation all_to_all_of(ConstBuffer from, Buffer to) const;
  static detail::Operation send_of(ConstBuffer data, std::uint32_t to, std::uint32_t tag);
  static detail::Operation recv_of(Buffer data, std::uint32_t from, std::uint32_t tag);

  std::shared_ptr<detail::Engine> engine_;
};

}  // namespace trireme::ml
