#pragma once

#include <span>
#include <type_traits>

#include "trireme/ref.hpp"

namespace trireme {

namespace detail {
/// Fresh memory in this rank's arena (waits for room; too_large when it can never fit). 64-byte aligned.
Buffer allocate_buffer(std::size_t bytes);
Buffer to_own_arena(const Buffer& buffer);
CellRef cell_of_buffer(const Buffer& buffer);
Buffer buffer_of_cell(const CellRef& cell);
}  // namespace detail

/// Contiguous elements in the rank's shared-memory arena: filled once, then read in place by every rank of the node.
///
///     trireme::Array<double> field(n);   // fill through field.writable()
///     Ref<Array<double>> ref = trireme::put(field);   // copies nothing
///     Array<double> view = trireme::get(ref);         // same node: copies nothing; other node: one transfer
///
/// Copies share the memory. Do not write after the array was put, returned or passed: readers may already look at it.
/// Threading: like std::shared_ptr. Units: elements.
template <class T>
class Array {
  static_assert(std::is_trivially_copyable_v<T>, "elements are read in place by other processes");

 public:
  Array() = default;
  explicit Array(std::size_t count) : buffer_(detail::allocate_buffer(count * sizeof(T))) {}
  explicit Array(std::span<const T> values) : Array(values.size()) {
    if (!values.empty()) std::memcpy(buffer_.data.get(), values.data(), values.size_bytes());
  }

  std::size_t size() const { return buffer_.size / sizeof(T); }
  const T* data() const { return reinterpret_cast<const T*>(buffer_.data.get()); }
  const T& operator[](std::size_t i) const { return data()[i]; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size(); }
  std::span<const T> view() const { return {data(), size()}; }
  std::span<T> writable() { return {reinterpret_cast<T*>(buffer_.data.get()), size()}; }
  const detail::Buffer& buffer() const { return buffer_; }

  static detail::Value trireme_whole_value(const Array& array) {
    detail::Value value;
    if (array.buffer_) value.buffer = detail::to_own_arena(array.buffer_);
    return value;
  }
  static Array trireme_from_whole(const detail::Value& value) {
    Array array;
    if (value.view().size() % sizeof(T) != 0) throw detail::DecodeError{};
    if (value.buffer) {
      array.buffer_ = value.buffer;
    } else if (!value.bytes.empty()) {
      array = Array(std::span(reinterpret_cast<const T*>(value.bytes.data()), value.bytes.size() / sizeof(T)));
    }
    return array;
  }
  static Array of_buffer(detail::Buffer buffer) {
    Array array;
    array.buffer_ = std::move(buffer);
    return array;
  }

 private:
  detail::Buffer buffer_;
};

namespace detail {
/// Inside another value an array travels as a reference to its memory, so it is not copied into the message.
template <class T>
struct Codec<Array<T>, void> {
  static void encode(Encoder& out, const Array<T>& value) {
    out.out.push_back(std::byte{value.size() != 0});
    if (value.size() != 0) out.ref(cell_of_buffer(to_own_arena(value.buffer())));
  }
  static Array<T> decode(Decoder& in) {
    if (in.raw(1)[0] == std::byte{0}) return {};
    auto buffer = buffer_of_cell(in.ref());
    if (buffer.size % sizeof(T) != 0) throw DecodeError{};
    return Array<T>::of_buffer(std::move(buffer));
  }
};
}  // namespace detail

}  // namespace trireme
