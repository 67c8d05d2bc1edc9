#include "python/native/call.hpp"

#include <atomic>
#include <type_traits>
#include <utility>

#include "core/context.hpp"
#include "trireme/detail/codec.hpp"

namespace trireme::python {

using detail::CallBase;
using detail::Cell;
using detail::CellRef;
using detail::Invocation;
using detail::TaskBase;
using detail::Value;

namespace {

/// A packed value without data, buffers or references: see wire.hpp.
constexpr std::size_t kPackedEmptyBytes = 16;

std::atomic<Runner*> the_runner{nullptr};

detail::ErrorInfo no_runner() {
  detail::ErrorInfo error;
  error.code = Errc::unavailable;
  error.message = "a Python call came to a rank that runs no Python: start every rank of the job through `trireme run`";
  return error;
}

/// What a creation has beside a call.
struct Created {
  detail::Object object;
  bool create = false;
};
struct NotCreated {};
template <class Base>
using CreatedBy = std::conditional_t<std::is_same_v<Base, CallBase>, Created, NotCreated>;

/// Invocation whose function is a worker process's business. Results come in wire form.
template <class Base>
struct Block final : Base, CallBody, CreatedBy<Base>, CachedBlock {
  Block(CallText t, std::vector<CellRef> r);

  static const detail::FunctionEntry& entry();
  static Invocation* decode(const Value& args, std::uint32_t& /*decoded*/) {
    Reader in(args.view());
    auto text = CallText::decode(in);
    if (!in.done() || text.deps > args.refs.size()) throw detail::DecodeError{};
    return new Block(std::move(text), args.refs);
  }
  static Value encode_args(const Invocation* base, std::uint32_t& deps) {
    const auto* self = static_cast<const Block*>(base);
    deps = self->text.deps;
    Value value;
    Writer out(value.bytes);
    self->text.encode(out);
    value.refs = self->refs;
    return value;
  }
  static std::size_t deps(const Invocation* base, Cell** out) {
    const auto* self = static_cast<const Block*>(base);
    for (std::uint32_t i = 0; out != nullptr && i < self->text.deps; ++i) out[i] = self->refs[i].get();
    return self->text.deps;
  }
  static std::vector<CellRef> make_elements(const Invocation* base) {
    std::vector<CellRef> elements(static_cast<const Block*>(base)->text.kind->returns);
    for (auto& element : elements) element = detail::make_plain_cell();
    return elements;
  }
  static void drop_args(Invocation* base) {
    auto* self = static_cast<Block*>(base);
    self->refs.clear();
    self->text.deps = 0;
    Bytes().swap(self->text.args);
  }
  /// Cancelled while it waited: only what it holds has to go.
  bool over() const {
    return this->ready() ||
           (this->extra != nullptr && !this->extra->elements.empty() && this->extra->elements.back()->ready());
  }
  static bool take(TaskBase* task) {
    auto* runner = the_runner.load(std::memory_order_acquire);
    if (runner == nullptr || static_cast<Block<TaskBase>*>(task)->over()) return false;
    runner->submit(task);
    return true;
  }
  static void invoke(Invocation* base, void* object);
  static void destroy(Cell* cell) noexcept {
    auto* self = static_cast<Block*>(static_cast<Base*>(static_cast<Invocation*>(cell)));
    if (self->extra != nullptr) detail::free_extra(self->extra);
    if constexpr (std::is_same_v<Base, CallBase>) detail::release_target(self);
    delete self;
  }
  static const void* typed([[maybe_unused]] const Cell* cell) noexcept {
    if constexpr (std::is_same_v<Base, CallBase>)
      return &static_cast<const Block*>(cell)->object;
    else
      return nullptr;
  }
  static Value encode(const Cell* cell) { return cell->value(); }

  static constexpr detail::CellOps kCellOps{destroy, typed, encode};
  static constexpr detail::InvocationOps kOps{invoke, encode_args, deps, make_elements, drop_args, true, take};
};

Invocation* decode_create(const Value& args, std::uint32_t& decoded) {
  auto* made = static_cast<Block<CallBase>*>(Block<CallBase>::decode(args, decoded));
  made->create = true;
  return made;
}

// Registered when the library loads, so that every rank that loads it can be asked.
const auto& task_entry = detail::register_named("trireme python task", &Block<TaskBase>::decode);
const auto& call_entry = detail::register_named("trireme python call", &Block<CallBase>::decode);
const auto& create_entry = detail::register_named("trireme python actor", &decode_create);

template <>
const detail::FunctionEntry& Block<TaskBase>::entry() {
  return task_entry;
}
template <>
const detail::FunctionEntry& Block<CallBase>::entry() {
  return call_entry;
}

template <class Base>
Block<Base>::Block(CallText t, std::vector<CellRef> r) : Base(&kCellOps, &kOps, &entry(), &detail::task_action) {
  text = std::move(t);
  refs = std::move(r);
}

template <class Base>
void Block<Base>::invoke(Invocation* base, void* object) {
  auto* self = static_cast<Block*>(base);
  if (self->over()) {
    detail::ErrorInfo error;
    error.code = Errc::cancelled;
    return self->ready() ? drop_args(self) : python::fail(self, std::move(error));
  }
  auto* runner = the_runner.load(std::memory_order_acquire);
  if (runner == nullptr) return python::fail(self, no_runner());
  if constexpr (std::is_same_v<Base, TaskBase>) {
    self->holder = core::running_holder();
    runner->run_task(self);
  } else if (self->create) {
    runner->run_create(self);
  } else {
    runner->run_call(self, object);
  }
}

}  // namespace

std::unordered_set<std::uint64_t> starters() { return {task_entry.id, create_entry.id}; }

void set_runner(Runner* runner) { the_runner.store(runner, std::memory_order_release); }

void CallText::encode(Writer& out, const CallKindView& kind, BytesView args, std::uint32_t deps, bool args_ref,
                      std::uint64_t key) {
  out.blob(kind.meta);
  out.blob(args);
  out.text(kind.name);
  out.text(kind.env_key);
  out.text(kind.env);
  out.varint(deps);
  out.varint(kind.returns);
  out.put(static_cast<std::uint8_t>((args_ref ? 1 : 0) | (kind.streaming ? 2 : 0) | (kind.placed ? 4 : 0)));
  out.put(kind.max_retries);
  out.put(kind.max_restarts);
  out.put(kind.max_task_retries);
  out.put(kind.cpus);
  out.put(kind.gpus);
  out.varint(key);
  out.id(kind.stream);
}

CallText CallText::decode(Reader& in) {
  CallText text;
  CallKindView kind;
  kind.meta = in.blob();
  const auto args = in.blob();
  text.args.assign(args.begin(), args.end());
  kind.name = in.text();
  kind.env_key = in.text();
  kind.env = in.text();
  text.deps = static_cast<std::uint32_t>(in.varint());
  const auto returns = in.varint();
  if (returns == 0 || returns > UINT16_MAX) in.fail();
  kind.returns = static_cast<std::uint16_t>(returns);
  const auto flags = in.get<std::uint8_t>();
  text.args_ref = (flags & 1U) != 0;
  kind.streaming = (flags & 2U) != 0;
  kind.placed = (flags & 4U) != 0;
  kind.max_retries = in.get<std::int32_t>();
  kind.max_restarts = in.get<std::int32_t>();
  kind.max_task_retries = in.get<std::int32_t>();
  kind.cpus = in.get<double>();
  kind.gpus = in.get<double>();
  text.key = in.varint();
  kind.stream = in.id();
  text.kind = CallKind::of(kind);
  return text;
}

CallBody& body_of(Invocation* invocation) {
  if (invocation->kind() == detail::CellKind::task)
    return *static_cast<Block<TaskBase>*>(static_cast<TaskBase*>(invocation));
  return *static_cast<Block<CallBase>*>(static_cast<CallBase*>(invocation));
}

CallBody* body_of_result(Cell* cell) {
  if (cell->kind() != detail::CellKind::task && cell->kind() != detail::CellKind::call) return nullptr;
  auto* invocation = static_cast<Invocation*>(cell);
  const auto* entry = invocation->function;
  if (entry != &task_entry && entry != &call_entry && entry != &create_entry) return nullptr;
  return &body_of(invocation);
}

TaskBase* make_task(CallText text, std::vector<CellRef> refs) {
  return new Block<TaskBase>(std::move(text), std::move(refs));
}
CallBase* make_call(CallText text, std::vector<CellRef> refs) {
  return new Block<CallBase>(std::move(text), std::move(refs));
}
CallBase* make_create(CallText text, std::vector<CellRef> refs) {
  auto* made = new Block<CallBase>(std::move(text), std::move(refs));
  made->create = true;
  made->function = &create_entry;
  return made;
}

void complete(Invocation* invocation, std::vector<Value> results) {
  // References among the arguments may lead back to the result.
  invocation->invocation->drop_args(invocation);
  if (invocation->extra != nullptr && !invocation->extra->elements.empty()) {
    auto& elements = invocation->extra->elements;
    for (std::size_t i = 0; i < elements.size() && i < results.size(); ++i)
      elements[i]->complete(std::move(results[i]));
    return invocation->complete(Value{});
  }
  if (results.empty()) {
    results.emplace_back();
    results.back().bytes.resize(kPackedEmptyBytes);
  }
  invocation->complete(std::move(results.front()));
}

void complete_create(Invocation* create, detail::Object object) {
  static_cast<Block<CallBase>*>(static_cast<CallBase*>(create))->object = object;
  create->complete_typed();
}

void fail(Invocation* invocation, detail::ErrorInfo error) { detail::fail_invocation(invocation, std::move(error)); }

}  // namespace trireme::python
