#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace trireme::python {

/// A value that cannot cross, or is not what the other side takes. what() says which one, what was found and what can.
class ConversionError : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

/// Type of an array's elements, as NumPy names it.
struct ElementType {
  char kind = 'f';  ///< b bool, i signed, u unsigned, f floating, c complex
  std::uint32_t bytes = 8;
  bool operator==(const ElementType&) const = default;
  /// "float64"
  std::string text() const;
};

/// An array whose element type is known at run time only. Row-major, without gaps.
///
/// Lifetime: copies share the memory, which stays as long as one of them.
struct AnyArray {
  ElementType type;
  std::vector<std::size_t> shape;
  std::shared_ptr<const std::byte> data;
  /// Product of the shape.
  std::size_t size() const {
    std::size_t count = 1;
    for (const auto extent : shape) count *= extent;
    return count;
  }
  std::size_t bytes() const { return size() * type.bytes; }
};

/// What may cross between Python and C++. Integers are those of 64 bits with sign.
struct Value {
  using List = std::vector<Value>;
  struct Tuple {
    List items;
  };
  using Dict = std::vector<std::pair<Value, Value>>;  ///< in the order in which Python has it
  using Bytes = std::vector<std::byte>;

  std::variant<std::nullptr_t, bool, std::int64_t, double, std::string, Bytes, List, Tuple, Dict, AnyArray> data =
      nullptr;

  Value() = default;
  template <class T, class = std::enable_if_t<std::is_constructible_v<decltype(data), T&&> &&
                                              !std::is_same_v<std::remove_cvref_t<T>, Value>>>
  Value(T&& value) : data(std::forward<T>(value)) {}  // NOLINT(google-explicit-constructor): any of them is a value

  /// Null unless it holds a T.
  template <class T>
  const T* get_if() const {
    return std::get_if<T>(&data);
  }
  bool is_none() const { return std::holds_alternative<std::nullptr_t>(data); }
  /// For messages: "a str", "an array of float64 with shape (2, 3)".
  std::string describe() const;
};

}  // namespace trireme::python
