#pragma once

#include <algorithm>
#include <complex>
#include <cstring>
#include <span>
#include <type_traits>

#include "trireme/python/value.hpp"

namespace trireme::python {

template <class T>
struct ElementOf;  // types without a NumPy counterpart have none
template <>
struct ElementOf<bool> {
  static constexpr ElementType type{'b', 1};
};
template <class T>
requires(std::is_integral_v<T> && !std::is_same_v<T, bool>) struct ElementOf<T> {
  static constexpr ElementType type{std::is_signed_v<T> ? 'i' : 'u', sizeof(T)};
};
template <class T>
requires(std::is_same_v<T, float> || std::is_same_v<T, double>) struct ElementOf<T> {
  static constexpr ElementType type{'f', sizeof(T)};
};
template <class T>
struct ElementOf<std::complex<T>> {
  static constexpr ElementType type{'c', sizeof(std::complex<T>)};
};

/// A NumPy array: row-major, without gaps. As an argument it is read where it lies, in the shared memory of the node.
///
///     NdArray<double> result({rows, columns});   // zeros
///     for (double& x : result.writable()) ...
///     return result;                              // copied once, into shared memory
///
/// Copies share the memory. Threading: like std::shared_ptr. Errors: std::logic_error from writable().
template <class T>
class NdArray {
 public:
  using value_type = T;
  NdArray() : NdArray(std::vector<std::size_t>{0}) {}
  explicit NdArray(std::vector<std::size_t> shape) {
    array_.type = ElementOf<T>::type;
    array_.shape = std::move(shape);
    auto memory = std::shared_ptr<T[]>(new T[std::max<std::size_t>(array_.size(), 1)]());
    own_ = memory.get();
    array_.data = std::shared_ptr<const std::byte>(memory, reinterpret_cast<const std::byte*>(memory.get()));
  }
  NdArray(std::vector<std::size_t> shape, std::span<const T> values) : NdArray(std::move(shape)) {
    if (values.size() != size()) throw std::invalid_argument("an array's shape and the number of its values differ");
    std::copy(values.begin(), values.end(), own_);
  }
  /// Of elements of this type; `array` was checked for it.
  static NdArray of(AnyArray array) {
    NdArray made;
    made.array_ = std::move(array);
    made.own_ = nullptr;
    return made;
  }

  const std::vector<std::size_t>& shape() const { return array_.shape; }
  std::size_t size() const { return array_.size(); }
  const T* data() const { return reinterpret_cast<const T*>(array_.data.get()); }
  std::span<const T> view() const { return {data(), size()}; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size(); }
  /// By the place in memory.
  const T& operator[](std::size_t at) const { return data()[at]; }
  /// By one index for each dimension, unchecked.
  template <class... Index>
  requires(sizeof...(Index) > 1) const T& operator()(Index... index) const {
    std::size_t at = 0;
    std::size_t dimension = 0;
    ((at = at * array_.shape[dimension++] + static_cast<std::size_t>(index)), ...);
    return data()[at];
  }
  /// Of an array that was made here and not read from Python.
  std::span<T> writable() {
    if (own_ == nullptr) throw std::logic_error("an array that came from Python is read-only: copy it to change it");
    return {own_, size()};
  }
  const AnyArray& any() const { return array_; }

 private:
  AnyArray array_;
  T* own_ = nullptr;
};

}  // namespace trireme::python
