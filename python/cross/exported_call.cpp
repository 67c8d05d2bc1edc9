#include "python/cross/exported_call.hpp"

#include <fmt/format.h>

#include <optional>
#include <type_traits>
#include <utility>

#include "python/cross/calls.hpp"
#include "trireme/python/cancel.hpp"

namespace trireme::python {

bool cancel_requested() noexcept {
  const auto* call = core::running_call();
  return call != nullptr && call->asked();
}

void check_cancelled() {
  if (cancel_requested()) throw Cancelled();
}

}  // namespace trireme::python

namespace trireme::python::cross {

namespace td = trireme::detail;

namespace {

template <class Base>
struct ExportedBlock final : Base, ExportedCall, CachedBlock {
  explicit ExportedBlock(ExportedCall call)
      : Base(&kCellOps, &kOps, &entry(), &td::task_action), ExportedCall(std::move(call)) {}

  static const td::FunctionEntry& entry();
  static td::Invocation* decode(const td::Value& value, std::uint32_t& /*decoded*/) {
    td::Decoder in(value.view(), value.refs);
    ExportedCall call;
    call.library = td::Codec<std::string>::decode(in);
    call.name = td::Codec<std::string>::decode(in);
    call.key = td::Codec<std::uint64_t>::decode(in);
    const auto count = in.varint();
    if (count > value.refs.size()) throw td::DecodeError{};
    call.deps.assign(value.refs.begin(), value.refs.begin() + static_cast<std::ptrdiff_t>(count));
    call.args = td::Codec<Blob>::decode(in);
    if (in.left() != 0) throw td::DecodeError{};
    return new ExportedBlock(std::move(call));
  }
  static td::Value encode_args(const td::Invocation* base, std::uint32_t& deps) {
    const auto* self = static_cast<const ExportedBlock*>(base);
    deps = static_cast<std::uint32_t>(self->deps.size());
    td::Value value;
    value.refs = self->deps;
    td::Encoder out(value.bytes, value.refs);
    td::Codec<std::string>::encode(out, self->library);
    td::Codec<std::string>::encode(out, self->name);
    td::Codec<std::uint64_t>::encode(out, self->key);
    out.varint(self->deps.size());
    td::Codec<Blob>::encode(out, self->args);
    return value;
  }
  static std::size_t list_deps(const td::Invocation* base, td::Cell** out) {
    const auto* self = static_cast<const ExportedBlock*>(base);
    for (std::size_t i = 0; out != nullptr && i < self->deps.size(); ++i) out[i] = self->deps[i].get();
    return self->deps.size();
  }
  static std::vector<td::CellRef> make_elements(const td::Invocation*) { return {}; }
  static void drop_args(td::Invocation* base) {
    auto* self = static_cast<ExportedBlock*>(base);
    self->deps.clear();
    self->args = {};
  }
  static void destroy(td::Cell* cell) noexcept {
    auto* self = static_cast<ExportedBlock*>(cell);
    if (self->extra != nullptr) td::free_extra(self->extra);
    if constexpr (std::is_same_v<Base, td::CallBase>) td::release_target(self);
    delete self;
  }
  static const void* typed(const td::Cell*) noexcept { return nullptr; }
  static td::Value encode(const td::Cell* cell) { return cell->value(); }

  Blob run(void* object) const {
    if constexpr (std::is_same_v<Base, td::CallBase>)
      return static_cast<ExportedActor*>(object)->call(*this);
    else
      return run_exported(*this);
  }
  static td::ErrorInfo cancelled(const char* text) {
    td::ErrorInfo error;
    error.code = Errc::cancelled;
    error.message = text;
    return error;
  }
  static void invoke(td::Invocation* base, void* object) {
    auto* self = static_cast<ExportedBlock*>(base);
    if (self->ready()) return drop_args(self);  // cancelled while it waited
    // Until it is complete: whoever does not find it takes it for one that has not begun.
    const core::RunningCalls::Call running(running_exported(), self->key);
    if (!running.may_begin()) return td::fail_invocation(self, cancelled("it was cancelled before it began"));
    std::optional<Blob> value;
    try {
      value = self->run(object);
    } catch (...) {
      return td::fail_invocation(self, td::current_exception_info(self->name));
    }
    drop_args(self);
    self->complete(std::move(value->value));
  }

  static constexpr td::CellOps kCellOps{destroy, typed, encode};
  static constexpr td::InvocationOps kOps{invoke, encode_args, list_deps, make_elements, drop_args};
};

const auto& task_entry = td::register_named("trireme exported function", &ExportedBlock<td::TaskBase>::decode);
const auto& call_entry = td::register_named("trireme exported method", &ExportedBlock<td::CallBase>::decode);

template <>
const td::FunctionEntry& ExportedBlock<td::TaskBase>::entry() {
  return task_entry;
}
template <>
const td::FunctionEntry& ExportedBlock<td::CallBase>::entry() {
  return call_entry;
}

}  // namespace

td::TaskBase* make_exported_task(ExportedCall call) { return new ExportedBlock<td::TaskBase>(std::move(call)); }
td::CallBase* make_exported_call(ExportedCall call) { return new ExportedBlock<td::CallBase>(std::move(call)); }

std::uint64_t key_of_exported(const td::Cell* result) {
  if (result->kind() != td::CellKind::task && result->kind() != td::CellKind::call) return 0;
  const auto* function = static_cast<const td::Invocation*>(result)->function;
  if (function == &task_entry)
    return static_cast<const ExportedBlock<td::TaskBase>*>(static_cast<const td::TaskBase*>(result))->key;
  if (function == &call_entry)
    return static_cast<const ExportedBlock<td::CallBase>*>(static_cast<const td::CallBase*>(result))->key;
  return 0;
}

core::RunningCalls& running_exported() {
  static core::RunningCalls calls;
  return calls;
}

}  // namespace trireme::python::cross
