#include "trireme/ml/communicator.hpp"

#include <fmt/format.h>

#include "ml/collective/engine.hpp"

namespace trireme::ml {
namespace {

using detail::Kind;
using detail::Operation;

Operation in_place(Kind kind, Buffer data, ReduceOp op, std::uint32_t peer) {
  return {kind, data.data, data.data, data.count, data.type, op, peer, 0};
}

/// `whole` must be `parts` times `part`.
void check_parts(const char* what, std::size_t whole, DType whole_type, std::size_t part, DType part_type,
                 std::uint32_t parts) {
  if (whole == part * parts && whole_type == part_type) return;
  throw CollectiveError(
      Errc::invalid_argument, -1,
      fmt::format("{}: the large buffer holds {} elements of {}, expected {} times the {} elements of {} "
                  "of the small one",
                  what, whole, to_string(whole_type), parts, part, to_string(part_type)));
}

}  // namespace

void Work::wait() {
  if (!pending_) throw CollectiveError(Errc::invalid_argument, -1, "an empty Work cannot be waited for");
  engine_->wait(*pending_);
}

bool Work::test() const { return !pending_ || pending_->done.load(std::memory_order_acquire); }

Communicator::Communicator(std::uint32_t rank, std::uint32_t size, const Exchange& exchange,
                           CommunicatorOptions options)
    : engine_(detail::Engine::create(rank, size, exchange, std::move(options))) {}

Communicator::~Communicator() {
  if (engine_) engine_->close();
}

Communicator::Communicator(Communicator&&) noexcept = default;

Communicator& Communicator::operator=(Communicator&& other) noexcept {
  if (engine_ && this != &other) engine_->close();
  engine_ = std::move(other.engine_);
  return *this;
}

std::uint32_t Communicator::rank() const { return engine_->rank(); }
std::uint32_t Communicator::size() const { return engine_->size(); }
const std::string& Communicator::name() const { return engine_->options().name; }
std::string Communicator::describe() const { return engine_->describe(); }
std::string Communicator::broken() const { return engine_->broken(); }

void Communicator::run(const Operation& operation) { engine_->run(operation); }

Work Communicator::start(const Operation& operation) { return {engine_, engine_->start(operation)}; }

Operation Communicator::all_reduce_of(Buffer data, ReduceOp op) { return in_place(Kind::all_reduce, data, op, 0); }

Operation Communicator::reduce_of(Buffer data, std::uint32_t root, ReduceOp op) {
  return in_place(Kind::reduce, data, op, root);
}

Operation Communicator::broadcast_of(Buffer data, std::uint32_t root) {
  return in_place(Kind::broadcast, data, ReduceOp::sum, root);
}

Operation Communicator::all_gather_of(ConstBuffer mine, Buffer all) const {
  check_parts("all_gather", all.count, all.type, mine.count, mine.type, size());
  return {Kind::all_gather, mine.data, all.data, mine.count, mine.type, ReduceOp::sum, 0, 0};
}

Operation Communicator::reduce_scatter_of(ConstBuffer all, Buffer mine, ReduceOp op) const {
  check_parts("reduce_scatter", all.count, all.type, mine.count, mine.type, size());
  return {Kind::reduce_scatter, all.data, mine.data, mine.count, mine.type, op, 0, 0};
}

Operation Communicator::all_to_all_of(ConstBuffer from, Buffer to) const {
  const std::size_t part = from.count / size();
  check_parts("all_to_all", from.count, from.type, part, to.type, size());
  check_parts("all_to_all", to.count, to.type, part, from.type, size());
  return {Kind::all_to_all, from.data, to.data, part, from.type, ReduceOp::sum, 0, 0};
}

Operation Communicator::send_of(ConstBuffer data, std::uint32_t to, std::uint32_t tag) {
  return {Kind::send, data.data, const_cast<void*>(data.data), data.count, data.type, ReduceOp::sum, to, tag};
}

Operation Communicator::recv_of(Buffer data, std::uint32_t from, std::uint32_t tag) {
  return {Kind::recv, data.data, data.data, data.count, data.type, ReduceOp::sum, from, tag};
}

}  // namespace trireme::ml
