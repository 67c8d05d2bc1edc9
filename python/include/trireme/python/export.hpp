#pragma once

#include <memory>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "trireme/detail/function.hpp"
#include "trireme/python/convert.hpp"

namespace trireme::python {

namespace cross {

/// A function or method by name: how to call it, and what to say of it.
struct Callable {
  Value (*invoke)(void* object, std::span<const Value> args) = nullptr;
  std::vector<std::string> parameters;
  std::string result;
};
struct Constructor {
  std::shared_ptr<void> (*make)(std::span<const Value> args) = nullptr;
  std::vector<std::string> parameters;
};

// A name that is taken is remembered, and the error of the library's load_library().
void add_function(const std::string& name, Callable function);
void add_actor(const std::string& name, Constructor constructor);
void set_constructor(const std::string& actor, Constructor constructor);
void add_method(const std::string& actor, const std::string& name, Callable method);
/// ConversionError of the argument at `index` (from 0): adds which one it is.
[[noreturn]] void fail_argument(std::size_t index, const ConversionError& error);

template <class T>
std::remove_cvref_t<T> argument(std::span<const Value> args, std::size_t index) {
  try {
    return Convert<std::remove_cvref_t<T>>::from(args[index]);
  } catch (const ConversionError& error) {
    fail_argument(index, error);
  }
}

template <class... Ps>
std::vector<std::string> parameter_names(std::tuple<Ps...>*) {
  return {Convert<std::remove_cvref_t<Ps>>::name()...};
}

/// `Holder`: the object's class; void for functions.
template <auto F, class Holder, std::size_t... I>
Value invoke(void* object, std::span<const Value> args, std::index_sequence<I...>) {
  using Sig = trireme::detail::Signature<decltype(F)>;
  using Params = typename Sig::Params;
  // Braced initialisation keeps the order, so that the first wrong argument is the one that is told.
  std::tuple<std::remove_cvref_t<std::tuple_element_t<I, Params>>...> values{
      argument<std::tuple_element_t<I, Params>>(args, I)...};
  const auto call = [&]() -> decltype(auto) {
    if constexpr (std::is_void_v<Holder>) {
      return F(std::move(std::get<I>(values))...);
    } else {
      return (static_cast<Holder*>(object)->*F)(std::move(std::get<I>(values))...);
    }
  };
  if constexpr (std::is_void_v<typename Sig::Result>) {
    call();
    return {};
  } else {
    return Convert<std::remove_cvref_t<typename Sig::Result>>::to(call());
  }
}

template <auto F, class Holder = void>
Callable callable() {
  using Sig = trireme::detail::Signature<decltype(F)>;
  using Params = typename Sig::Params;
  Callable made;
  made.invoke = [](void* object, std::span<const Value> args) {
    return invoke<F, Holder>(object, args, std::make_index_sequence<std::tuple_size_v<Params>>{});
  };
  made.parameters = parameter_names(static_cast<Params*>(nullptr));
  if constexpr (std::is_void_v<typename Sig::Result>)
    made.result = "None";
  else
    made.result = Convert<std::remove_cvref_t<typename Sig::Result>>::name();
  return made;
}

template <class T, class... Args>
Constructor constructor() {
  Constructor made;
  made.make = [](std::span<const Value> args) {
    return [&]<std::size_t... I>(std::index_sequence<I...>)->std::shared_ptr<void> {
      std::tuple<std::remove_cvref_t<Args>...> values{argument<Args>(args, I)...};
      return std::make_shared<T>(std::move(std::get<I>(values))...);
    }
    (std::index_sequence_for<Args...>{});
  };
  made.parameters = {Convert<std::remove_cvref_t<Args>>::name()...};
  return made;
}

}  // namespace cross

/// Makes F callable from Python under that name. Parameters are values or const references of the types of Convert.
/// Runs as a task inside a rank. An exception becomes the result, and a RayTaskError in Python.
template <auto F>
void export_function(const std::string& name) {
  static_assert(std::is_void_v<typename trireme::detail::Signature<decltype(F)>::Object>,
                "a method belongs to an exported actor: export_actor<T>(name).method<&T::m>(name)");
  cross::add_function(name, cross::callable<F>());
}

template <class T>
class ActorExport {
 public:
  explicit ActorExport(std::string name) : name_(std::move(name)) {}
  /// The constructor's parameters; none unless it is called.
  template <class... Args>
  ActorExport& init() {
    cross::set_constructor(name_, cross::constructor<T, Args...>());
    return *this;
  }
  template <auto Method>
  ActorExport& method(const std::string& name) {
    using Class = std::remove_const_t<typename trireme::detail::Signature<decltype(Method)>::Object>;
    static_assert(std::is_base_of_v<Class, T>, "the method belongs to another class");
    cross::add_method(name_, name, cross::callable<Method, T>());
    return *this;
  }

 private:
  std::string name_;
};

/// Makes instances of T actors that Python creates by that name. They live inside a rank, one call at a time.
template <class T>
ActorExport<T> export_actor(const std::string& name) {
  cross::Constructor none;
  if constexpr (std::is_default_constructible_v<T>) none = cross::constructor<T>();
  cross::add_actor(name, std::move(none));
  return ActorExport<T>(name);
}

/// A namespace-scope variable of this type runs its function when the library is loaded.
struct Library {
  explicit Library(void (*exports)()) { exports(); }
};

}  // namespace trireme::python
