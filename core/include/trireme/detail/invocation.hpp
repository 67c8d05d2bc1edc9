#pragma once

#include <array>
#include <memory>
#include <optional>
#include <tuple>
#include <variant>

#include "base/block_cache.hpp"
#include "scheduler/work.hpp"
#include "trireme/detail/function.hpp"
#include "trireme/detail/mail.hpp"
#include "trireme/options.hpp"

namespace trireme::detail {

struct TaskBase;

/// What a concrete invocation knows of its function and arguments.
struct InvocationOps {
  void (*invoke)(Invocation*, void* object);  ///< runs user code, completes the cell; never throws
  /// The arguments in wire form. `deps` becomes the number of reference arguments, which come first in Value::refs:
  /// less than deps() says, when small values that are here went in place of theirs.
  Value (*encode_args)(const Invocation*, std::uint32_t& deps);
  std::size_t (*deps)(const Invocation*, Cell** out);  ///< reference arguments; `out` may be null
  /// One typed cell per element of a tuple result; empty for other results.
  std::vector<CellRef> (*make_elements)(const Invocation*);
  /// It will not run here: what it holds goes now, not with its result.
  void (*drop_args)(Invocation*);
  /// invoke() only starts it: the work goes on in another process, on the CPUs that the task holds.
  bool elsewhere = false;
  /// Tasks that need no compute thread to begin: takes over one whose arguments are all here, on the thread that
  /// brought the last of them; false: it is to be queued. None: all are queued.
  bool (*take)(TaskBase*) = nullptr;
};

/// One call of a function, method or constructor: arguments, and the cell of its result.
///
/// Threading: built by one thread, then handed over; run by whoever claims it.
struct Invocation : Cell {
  Invocation(const CellOps* cell_ops, const InvocationOps* ops, CellKind kind, const FunctionEntry* function)
      : Cell(cell_ops, kind, 2), invocation(ops), function(function) {}

  const InvocationOps* invocation;
  const FunctionEntry* function;
  /// Reference arguments that are not ready yet.
  std::atomic<std::uint32_t> deps_left{0};
  /// Outside of the common path: options, element cells. Owned.
  struct Extra;
  Extra* extra = nullptr;
};

struct Invocation::Extra {
  TaskOptions options;
  bool placed = false;            ///< options differ from the default: goes through placement
  std::vector<CellRef> elements;  ///< of a function that returns several values
  std::unique_ptr<Waiter[]> waiters;
};

struct TaskBase : Invocation, scheduler::Work {
  TaskBase(const CellOps* cell_ops, const InvocationOps* ops, const FunctionEntry* function, Action action)
      : Invocation(cell_ops, ops, CellKind::task, function), Work(action, true) {}
};

extern const MailItem::Ops kCallMail;

struct CallBase : Invocation, MailItem {
  CallBase(const CellOps* cell_ops, const InvocationOps* ops, const FunctionEntry* function,
           scheduler::Work::Action = nullptr)
      : Invocation(cell_ops, ops, CellKind::call, function), MailItem(&kCallMail) {}
  LocalActor* runner = nullptr;  ///< while it runs; a coroutine that ends later tells it
  /// The actor in this rank that has the call; counted, so that whoever waits may run it. Written before delivery.
  LocalActor* target = nullptr;
  /// Hand-shake between the runner that leaves a coroutine behind and its end: 0, then 1 (left) or 2 (ended) first.
  std::atomic<std::uint8_t> async_state{0};
};

void release_target(CallBase* call) noexcept;

/// Action of every TaskBase in a queue: run or drop, then give the queue's reference up.
void task_action(scheduler::Work* work, scheduler::Work::Do what);
void free_extra(Invocation::Extra* extra) noexcept;
/// Makes the error the result, of each element as well.
void fail_invocation(Invocation* call, ErrorInfo error);
void require_ref(const CellRef& cell);
/// Starts an Async body; `done` gets its value when it returns. Defined with Async.
template <class T, class V>
void start_async(Async<T> body, CellRef call, void (*done)(Cell*, V*));

template <class P>
using Slot = std::variant<P, CellRef>;

template <class Param, class Passed>
auto make_arg(Passed&& passed) {
  using D = std::remove_cvref_t<Param>;
  if constexpr (is_ref_v<std::remove_cvref_t<Passed>> && !is_ref_v<D>) {
    require_ref(passed.cell());
    return std::forward<Passed>(passed).cell();
  } else {
    return D(std::forward<Passed>(passed));
  }
}

/// Decides per argument what the user's function gets. References bind to the typed value in place.
template <class Param>
class ArgAccess {
  using D = std::remove_cvref_t<Param>;

 public:
  explicit ArgAccess(D& value) : value_(&value) {}
  explicit ArgAccess(CellRef& dep) { resolved_.emplace(dep.get()); }
  explicit ArgAccess(Slot<D>& slot) {
    if (auto* value = std::get_if<D>(&slot))
      value_ = value;
    else
      resolved_.emplace(std::get<CellRef>(slot).get());
  }
  decltype(auto) get() {
    if constexpr (std::is_lvalue_reference_v<Param>) {
      static_assert(std::is_const_v<std::remove_reference_t<Param>>,
                    "a task's parameters are values or const references: arguments may come from another rank");
      return value_ != nullptr ? static_cast<const D&>(*value_) : *(*resolved_);
    } else {
      return value_ != nullptr ? D(std::move(*value_)) : std::move(*resolved_).take();
    }
  }

 private:
  D* value_ = nullptr;
  std::optional<Resolved<D>> resolved_;
};

/// The reference that a parameter of type D got; nullptr: it got a value.
template <class D, class A>
const CellRef* dep_in(const A& arg) {
  if constexpr (std::is_same_v<A, CellRef>)
    return &arg;
  else if constexpr (std::is_same_v<A, Slot<D>>)
    return std::get_if<CellRef>(&arg);
  else
    return nullptr;
}

/// Larger values are asked for: they go once to a rank, however many tasks there want them.
inline constexpr std::size_t kValueInPlaceMax = 512;

/// May the value go in place of the reference? What the type does not tell, Refs::write() finds out.
template <class D>
bool goes_in_place(const Cell* cell) {
  if constexpr (is_plain_v<D> && sizeof(D) <= kValueInPlaceMax) {
    if (!cell->ready()) return false;
    if (cell->form() == CellForm::typed) return true;
    return cell->form() == CellForm::encoded && cell->value().bytes.size() == sizeof(D);
  } else {
    return false;
  }
}

template <class D, class A>
void encode_arg(Encoder& out, const A& arg, std::uint32_t* dep) {
  const auto* ref = dep_in<D>(arg);
  if (dep != nullptr) {
    out.out.push_back(std::byte{1});
    out.varint((*dep)++);
    return;
  }
  out.out.push_back(std::byte{0});
  if constexpr (std::is_same_v<A, Slot<D>>) {
    if (ref == nullptr) return Codec<D>::encode(out, std::get<D>(arg));
  } else if constexpr (!std::is_same_v<A, CellRef>) {
    return Codec<D>::encode(out, arg);
  }
  if constexpr (is_plain_v<D>) {
    const Cell* cell = ref->get();
    if (cell->form() == CellForm::typed)
      Codec<D>::encode(out, *static_cast<const D*>(cell->typed()));
    else
      out.raw(cell->value().bytes.data(), sizeof(D));
  }
}

template <class A>
void count_dep(const A&, Cell**, std::size_t&) {}
inline void count_dep(const CellRef& dep, Cell** out, std::size_t& n) {
  if (out != nullptr) out[n] = dep.get();
  ++n;
}
template <class D>
void count_dep(const Slot<D>& slot, Cell** out, std::size_t& n) {
  if (const auto* dep = std::get_if<CellRef>(&slot)) count_dep(*dep, out, n);
}

template <class D>
Slot<D> decode_arg(Decoder& in, std::uint32_t& decoded) {
  const auto tag = in.raw(1)[0];
  if (tag > std::byte{1}) throw DecodeError{};
  Slot<D> slot = tag == std::byte{0} ? Slot<D>(std::in_place_index<0>, Codec<D>::decode(in))
                                     : Slot<D>(std::in_place_index<1>, in.ref());
  ++decoded;
  return slot;
}

template <auto F, class Base>
struct Register;

/// The one concrete invocation: function F (or method, or constructor functor), base by use, arguments as held.
template <auto F, class Base, class... Args>
class InvocationBlock final : public Base, public CachedBlock {
  using Sig = Signature<decltype(F)>;
  using Return = typename Sig::Result;
  using T = ResultOf<F>;
  using ArgTuple = std::tuple<Args...>;
  static constexpr bool kAsync = ValueOf<std::remove_cvref_t<Return>>::is_async;

 public:
  template <class... As>
  explicit InvocationBlock(As&&... args)
      : Base(&kCellOps, &kOps, &Register<F, Base>::entry, &task_action),
        args_(std::in_place, std::forward<As>(args)...) {}

 private:
  using Params = typename Sig::Params;

  template <std::size_t... I>
  static constexpr bool by_value(std::index_sequence<I...>) {
    return (!std::is_reference_v<std::tuple_element_t<I, Params>> && ...);
  }
  template <std::size_t... I>
  static std::vector<CellRef> element_cells(std::index_sequence<I...>) {
    return {CellRef::adopt(new TypedCell<std::tuple_element_t<I, T>>(CellKind::element, CellRef{}))...};
  }
  static std::vector<CellRef> make_elements(const Invocation*) {
    if constexpr (requires { std::tuple_size<T>::value; }) {
      return element_cells(std::make_index_sequence<std::tuple_size_v<T>>{});
    } else {
      return {};
    }
  }
  template <std::size_t... I>
  decltype(auto) call(void* object, std::index_sequence<I...>) {
    std::tuple<ArgAccess<std::tuple_element_t<I, Params>>...> access(std::get<I>(*args_)...);
    if constexpr (std::is_void_v<typename Sig::Object>) {
      return F(std::get<I>(access).get()...);
    } else {
      return (static_cast<typename Sig::Object*>(object)->*F)(std::get<I>(access).get()...);
    }
  }

  static void invoke(Invocation* base, void* object) {
    auto* self = static_cast<InvocationBlock*>(base);
    constexpr auto index = std::make_index_sequence<std::tuple_size_v<Params>>{};
    try {
      if constexpr (kAsync) {
        static_assert(by_value(index),
                      "a coroutine's parameters are values: a reference would not outlive its first suspension");
        start_async(
            self->call(object, index), CellRef::share(self), +[](Cell* cell, T* value) {
              auto* done = static_cast<InvocationBlock*>(cell);
              done->finish(std::move(*value));
            });
        return;
      } else if constexpr (std::is_void_v<Return>) {
        self->call(object, index);
        self->finish(Nothing{});
      } else {
        self->finish(self->call(object, index));
      }
    } catch (...) {
      self->args_.reset();
      fail_invocation(self, current_exception_info(self->function->name));
    }
  }

  template <class V>
  void finish(V&& value) {
    args_.reset();
    if (this->extra != nullptr && !this->extra->elements.empty()) {
      if constexpr (requires { std::tuple_size<T>::value; })
        scatter(value, std::make_index_sequence<std::tuple_size_v<T>>{});
    }
    result_.emplace(std::forward<V>(value));
    this->complete_typed();
  }
  template <class V, std::size_t... I>
  void scatter(V& value, std::index_sequence<I...>) {
    (static_cast<TypedCell<std::tuple_element_t<I, T>>*>(this->extra->elements[I].get())->set(std::get<I>(value)), ...);
  }

  static Value encode_args(const Invocation* base, std::uint32_t& deps) {
    const auto* self = static_cast<const InvocationBlock*>(base);
    return self->encode_each(deps, std::make_index_sequence<sizeof...(Args)>{});
  }
  template <std::size_t... I>
  Value encode_each(std::uint32_t& deps, std::index_sequence<I...>) const {
    Value out;
    out.bytes.reserve((std::size_t{0} + ... + (1 + sizeof(Args))));
    // Decided once: a value may come at any time.
    [[maybe_unused]] const bool by_reference[] = {
        keep_ref<std::remove_cvref_t<std::tuple_element_t<I, Params>>>(std::get<I>(*args_), out.refs)..., false};
    deps = static_cast<std::uint32_t>(out.refs.size());
    Encoder encoder(out.bytes, out.refs);
    [[maybe_unused]] std::uint32_t dep = 0;
    (encode_arg<std::remove_cvref_t<std::tuple_element_t<I, Params>>>(encoder, std::get<I>(*args_),
                                                                      by_reference[I] ? &dep : nullptr),
     ...);
    return out;
  }
  template <class D, class A>
  static bool keep_ref(const A& arg, std::vector<CellRef>& refs) {
    const auto* ref = dep_in<D>(arg);
    if (ref == nullptr || goes_in_place<D>(ref->get())) return false;
    refs.push_back(*ref);
    return true;
  }
  static std::size_t deps(const Invocation* base, Cell** out) {
    const auto* self = static_cast<const InvocationBlock*>(base);
    std::size_t n = 0;
    std::apply([&](const Args&... each) { (count_dep(each, out, n), ...); }, *self->args_);
    return n;
  }
  static void destroy(Cell* cell) noexcept {
    auto* self = static_cast<InvocationBlock*>(cell);
    if (self->extra != nullptr) free_extra(self->extra);
    if constexpr (std::is_same_v<Base, CallBase>) release_target(self);
    delete self;
  }
  static const void* typed(const Cell* cell) noexcept { return &*static_cast<const InvocationBlock*>(cell)->result_; }
  static Value encode(const Cell* cell) { return encode_value<T>(*static_cast<const InvocationBlock*>(cell)->result_); }

  static constexpr CellOps kCellOps{destroy, typed, encode};
  static void drop_args(Invocation* base) { static_cast<InvocationBlock*>(base)->args_.reset(); }

  static constexpr InvocationOps kOps{invoke, encode_args, deps, make_elements, drop_args};

  std::optional<ArgTuple> args_;
  std::optional<T> result_;
};

template <auto F, class Base, class Params>
struct DecodedBlock;
template <auto F, class Base, class... Ps>
struct DecodedBlock<F, Base, std::tuple<Ps...>> {
  using type = InvocationBlock<F, Base, Slot<std::remove_cvref_t<Ps>>...>;
  static Invocation* decode(const Value& args, [[maybe_unused]] std::uint32_t& decoded) {
    Decoder in(args.view(), args.refs);
    // Braced initialisation keeps the order of evaluation.
    std::tuple<Slot<std::remove_cvref_t<Ps>>...> held{decode_arg<std::remove_cvref_t<Ps>>(in, decoded)...};
    if (in.left() != 0) throw DecodeError{};
    return std::apply([](auto&&... each) { return static_cast<Invocation*>(new type(std::move(each)...)); },
                      std::move(held));
  }
};

template <class T>
inline constexpr std::uint16_t return_count_v = 1;
template <class... Ts>
inline constexpr std::uint16_t return_count_v<std::tuple<Ts...>> = sizeof...(Ts);

/// Naming Register<F, Base>::entry anywhere makes F callable from every rank of the program.
template <auto F, class Base>
struct Register {
  static FunctionEntry make() {
    FunctionEntry entry;
    entry.name = function_name<F>();
    entry.id = hash_text(typeid(Base).name(), hash_text(typeid(decltype(F)).name(), hash_text(entry.name)));
    entry.returns = return_count_v<ResultOf<F>>;
    entry.parameters = std::tuple_size_v<typename Signature<decltype(F)>::Params>;
    entry.type = &typeid(decltype(F));
    entry.decode = &DecodedBlock<F, Base, typename Signature<decltype(F)>::Params>::decode;
    return entry;
  }
  static const FunctionEntry& entry;
};
template <auto F, class Base>
const FunctionEntry& Register<F, Base>::entry = register_function(make());

}  // namespace trireme::detail
