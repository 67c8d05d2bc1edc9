#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "trireme/detail/codec.hpp"

namespace trireme {
template <class T>
class Async;
}

namespace trireme::detail {

/// Collects the outcome of an invocation that was decoded from the wire.
class ResultSink {
 public:
  virtual void value(std::size_t index, Value value) = 0;
  virtual void error(ErrorInfo info) = 0;

 protected:
  ~ResultSink() = default;
};

/// An actor's object, type-erased.
struct Object {
  void* data = nullptr;
  void (*destroy)(void*) = nullptr;
  /// In place of destroy when the actor was killed; none: destroy.
  void (*abort)(void*) = nullptr;
  /// Calls only hand something over and never block: they start in order without waiting for each other's end, on the
  /// thread that makes them. For objects in another process, which keeps the order itself.
  bool pipelined = false;
};

struct Invocation;

/// A function, method or constructor that other ranks may name. Registered when the program or library loads.
struct FunctionEntry {
  std::uint64_t id = 0;   ///< hash of name and type: equal in every rank that runs the same code
  std::string_view name;  ///< as in the source, for messages
  std::uint16_t returns = 1;
  std::uint16_t parameters = 0;
  const std::type_info* type = nullptr;  ///< of the function, for messages; none: arguments have no C++ types
  /// Makes an invocation from encoded arguments; throws DecodeError. `decoded` counts the arguments that were read
  /// whole.
  Invocation* (*decode)(const Value& args, std::uint32_t& decoded) = nullptr;
  bool ambiguous = false;  ///< two different functions share name and type (anonymous namespaces)
};

const FunctionEntry& register_function(FunctionEntry entry);
/// nullptr when unknown.
const FunctionEntry* find_function(std::uint64_t id);
std::uint64_t hash_text(std::string_view text, std::uint64_t seed = 0xcbf29ce484222325ULL);
/// A function that is known by its name alone. `name` outlives the registry.
const FunctionEntry& register_named(std::string_view name, decltype(FunctionEntry::decode) decode);

/// "integrate" out of the compiler's text for this function's own signature.
template <auto F>
std::string_view function_name() {
  std::string_view text = __PRETTY_FUNCTION__;
  const auto begin = text.find("F = ");
  if (begin == std::string_view::npos) return text;
  text.remove_prefix(begin + 4);
  const auto end = text.find_first_of(";]");
  return text.substr(0, end);
}

template <class F>
struct Signature;
template <class R, class... As>
struct Signature<R (*)(As...)> {
  using Result = R;
  using Params = std::tuple<As...>;
  using Object = void;
};
template <class R, class... As>
struct Signature<R (*)(As...) noexcept> : Signature<R (*)(As...)> {};
template <class C, class R, class... As>
struct Signature<R (C::*)(As...)> {
  using Result = R;
  using Params = std::tuple<As...>;
  using Object = C;
};
template <class C, class R, class... As>
struct Signature<R (C::*)(As...) const> {
  using Result = R;
  using Params = std::tuple<As...>;
  using Object = const C;
};
template <class C, class R, class... As>
struct Signature<R (C::*)(As...) noexcept> : Signature<R (C::*)(As...)> {};
template <class C, class R, class... As>
struct Signature<R (C::*)(As...) const noexcept> : Signature<R (C::*)(As...) const> {};
template <class L>
requires requires { &L::operator(); }
struct Signature<L> {
  using Base = Signature<decltype(&L::operator())>;
  using Result = typename Base::Result;
  using Params = typename Base::Params;
  using Object = void;
};

template <class R>
struct ValueOf {
  using type = R;
  static constexpr bool is_async = false;
};
template <>
struct ValueOf<void> {
  using type = Nothing;
  static constexpr bool is_async = false;
};
template <class T>
struct ValueOf<Async<T>> {
  using type = typename ValueOf<T>::type;
  static constexpr bool is_async = true;
};

/// The type a Ref to the result carries, and the one the cell stores.
template <auto F>
using ResultOf = typename ValueOf<std::remove_cvref_t<typename Signature<decltype(F)>::Result>>::type;

template <class T>
inline constexpr bool is_ref_v = false;
template <class T>
inline constexpr bool is_ref_v<Ref<T>> = true;

}  // namespace trireme::detail
