// Small operations that their caller runs on the spot: no submission, no coroutine, no message that outlives its send.
#include <atomic>

#include "ml/collective/engine.hpp"
#include "ml/collective/fold.hpp"
#include "ml/collective/net_ops.hpp"
#include "ml/collective/node_ops.hpp"
#include "ml/collective/quiet.hpp"

namespace trireme::ml::detail {
namespace {

constexpr int kLooks = 200;  // without a pause, while the others may be about to arrive

}  // namespace

/// The caller is the driver and nothing else is under way. False: not of that sort, nothing was done.
bool Engine::run_directly(const Operation& operation) {
  return fabric_.one_node() ? run_in_node(operation) : run_between_nodes(operation);
}

bool Engine::run_in_node(const Operation& operation) {
  const std::size_t bytes = operation.count * bytes_of(operation.type);
  const bool reduces = operation.kind == Kind::all_reduce;
  if (!(operation.kind == Kind::barrier || (reduces && is_direct(fabric_, bytes)))) return false;
  ++fabric_.operation;
  fabric_.signature = signature_of(operation);
  direct_publish(fabric_, operation.in, reduces ? bytes : 0);
  bool there = fabric_.arrived();
  for (int look = 0; !there && look < kLooks; ++look) there = fabric_.arrived();
  fabric_.announce();
  for (Quiet quiet(spin_); !there && quiet.goes_on();) {
    pause();
    there = fabric_.arrived();
  }
  if (!there) {
    direct_ = &operation;
    direct_deadline_ = deadline_from_now();
    drive([&] { return fabric_.arrived() || failed_.load(std::memory_order_relaxed); });
    direct_ = nullptr;
    if (failed_.load(std::memory_order_relaxed)) return true;
  }
  if (reduces) direct_fold(fabric_, operation.out, operation.count, operation.type, operation.op, divisor(operation));
  return true;
}

/// The same messages as those of across_nodes(), to which other members may be taking part: for a member that is alone
/// on its node.
bool Engine::run_between_nodes(const Operation& operation) {
  if (fabric_.locals != 1) return false;
  const std::size_t bytes = operation.count * bytes_of(operation.type);
  const auto nodes = static_cast<std::uint32_t>(fabric_.nodes.size());
  const bool reduces = operation.kind == Kind::all_reduce && !options_.fixed_order && bytes <= Net::kShortBytes &&
                       takes_doubling(fabric_, nodes, operation.count, bytes);
  if (!reduces && operation.kind != Kind::barrier) return false;
  ++fabric_.operation;
  fabric_.signature = signature_of(operation);
  direct_ = &operation;
  direct_deadline_ = deadline_from_now();
  if (!reduces)
    meet_nodes(nodes);
  else if (reduce_nodes(nodes, operation) && operation.op == ReduceOp::mean)
    divide(operation.type, operation.out, operation.count, divisor(operation));
  direct_ = nullptr;
  return true;
}

/// See message_barrier(). False when the group broke.
bool Engine::meet_nodes(std::uint32_t nodes) {
  std::uint32_t step = 0;
  for (std::uint32_t distance = 1; distance < nodes; distance *= 2, ++step) {
    tell((fabric_.node + distance) % nodes, step, nullptr, 0);
    if (!hear((fabric_.node + nodes - distance) % nodes, step, nullptr, 0)) return false;
  }
  return true;
}

/// See doubling(). False when the group broke.
bool Engine::reduce_nodes(std::uint32_t nodes, const Operation& o) {
  auto* const data = static_cast<std::byte*>(o.out);
  const std::size_t bytes = o.count * bytes_of(o.type);
  alignas(64) std::byte other[Net::kShortBytes];
  const Doubling steps(nodes, fabric_.node);
  if (steps.aside) {
    tell(fabric_.node + 1, 0, data, bytes);
    return hear(fabric_.node + 1, 1, data, bytes);
  }
  if (steps.paired) {
    if (!hear(fabric_.node - 1, 0, other, bytes)) return false;
    fold2(o.type, o.op, data, other, data, o.count);
  }
  std::uint32_t step = Doubling::kFirstStep;
  for (std::uint32_t distance = 1; distance < steps.core; distance *= 2, ++step) {
    tell(steps.partner(distance), step, data, bytes);
    if (!hear(steps.partner(distance), step, other, bytes)) return false;
    if (steps.is_second(distance))
      fold2(o.type, o.op, data, other, data, o.count);
    else
      fold2(o.type, o.op, data, data, other, o.count);
  }
  if (steps.paired) tell(fabric_.node - 1, 1, data, bytes);
  return true;
}

void Engine::tell(std::uint32_t node, std::uint32_t step, const void* data, std::size_t bytes) {
  const Key key = collective_key(fabric_.operation, kLeaders + step);
  fabric_.net->send_short(fabric_.nodes[node].front(), key, data, bytes);
}

bool Engine::hear(std::uint32_t node, std::uint32_t step, void* into, std::size_t bytes) {
  Awaited awaited{fabric_.nodes[node].front(), collective_key(fabric_.operation, kLeaders + step), bytes,
                  static_cast<std::byte*>(into)};
  fabric_.net->expect(awaited.peer);
  fabric_.mailbox.await(awaited);
  drive([&] { return awaited.done || failed_.load(std::memory_order_relaxed); });
  if (!awaited.done) fabric_.mailbox.forget();
  return awaited.done;
}

}  // namespace trireme::ml::detail
