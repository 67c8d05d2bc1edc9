#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "trireme/python/ndarray.hpp"

namespace trireme::python {

namespace cross {
/// "needs WANTED, and got VALUE".
[[noreturn]] void wrong_type(const std::string& wanted, const Value& value);
}  // namespace cross

/// Between a C++ type and Value. name(): as Python's users read it in messages.
template <class T>
struct Convert {
  static_assert(!sizeof(T*),
                "this type cannot cross to Python: bool, integers, floating-point numbers, std::string, "
                "std::vector, NdArray and Value can");
};

template <>
struct Convert<Value> {
  static std::string name() { return "any value"; }
  static Value from(const Value& value) { return value; }
  static Value to(Value value) { return value; }
};
template <>
struct Convert<bool> {
  static std::string name() { return "bool"; }
  static bool from(const Value& value) {
    if (const auto* held = value.get_if<bool>()) return *held;
    cross::wrong_type(name(), value);
  }
  static Value to(bool value) { return value; }
};
template <class T>
requires(std::is_integral_v<T> && !std::is_same_v<T, bool>) struct Convert<T> {
  static std::string name() {
    if (sizeof(T) == 8 && std::is_signed_v<T>) return "int";
    return "int from " + std::to_string(std::numeric_limits<T>::min()) + " to " +
           std::to_string(std::numeric_limits<T>::max());
  }
  static T from(const Value& value) {
    const auto* held = value.get_if<std::int64_t>();
    if (held == nullptr || !std::in_range<T>(*held)) cross::wrong_type(name(), value);
    return static_cast<T>(*held);
  }
  static Value to(T value) {
    if (!std::in_range<std::int64_t>(value))
      throw ConversionError("the result " + std::to_string(value) + " does not fit an integer of 64 bits with sign");
    return static_cast<std::int64_t>(value);
  }
};
template <class T>
requires std::is_floating_point_v<T>
struct Convert<T> {
  static std::string name() { return "float"; }
  static T from(const Value& value) {
    if (const auto* held = value.get_if<double>()) return static_cast<T>(*held);
    if (const auto* whole = value.get_if<std::int64_t>()) return static_cast<T>(*whole);
    cross::wrong_type(name(), value);
  }
  static Value to(T value) { return static_cast<double>(value); }
};
template <>
struct Convert<std::string> {
  static std::string name() { return "str"; }
  static std::string from(const Value& value) {
    if (const auto* held = value.get_if<std::string>()) return *held;
    cross::wrong_type(name(), value);
  }
  static Value to(std::string value) { return value; }
};
template <class T>
struct Convert<NdArray<T>> {
  static std::string name() { return "array of " + ElementOf<T>::type.text(); }
  static NdArray<T> from(const Value& value) {
    const auto* held = value.get_if<AnyArray>();
    if (held == nullptr || held->type != ElementOf<T>::type) cross::wrong_type(name(), value);
    return NdArray<T>::of(*held);
  }
  static Value to(const NdArray<T>& value) { return value.any(); }
};
/// A list in Python; lists, tuples and arrays of one dimension are taken.
template <class T>
struct Convert<std::vector<T>> {
  static std::string name() { return "list of " + Convert<T>::name(); }
  static std::vector<T> from(const Value& value) {
    if constexpr (requires { ElementOf<T>::type; } && !std::is_same_v<T, bool>) {
      const auto* array = value.get_if<AnyArray>();
      if (array != nullptr && array->type == ElementOf<T>::type && array->shape.size() == 1) {
        const auto* first = reinterpret_cast<const T*>(array->data.get());
        return std::vector<T>(first, first + array->size());
      }
    }
    const auto* items = value.get_if<Value::List>();
    if (const auto* tuple = value.get_if<Value::Tuple>()) items = &tuple->items;
    if (items == nullptr) cross::wrong_type(name(), value);
    std::vector<T> result;
    result.reserve(items->size());
    for (const auto& item : *items) result.push_back(Convert<T>::from(item));
    return result;
  }
  static Value to(const std::vector<T>& value) {
    Value::List items;
    items.reserve(value.size());
    for (const auto& item : value) items.push_back(Convert<T>::to(item));
    return items;
  }
};

}  // namespace trireme::python
