#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

namespace trireme::ml {

/// Element types of collective operations. Values travel between members: never renumber, only append.
enum class DType : std::uint8_t { f16 = 0, bf16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64 };
inline constexpr unsigned kDTypes = 12;

/// How elements of different members are combined. Integers wrap around; mean is the sum divided by the number of
/// members (for integers: divided toward zero). float16 and bfloat16 are added up in float32.
enum class ReduceOp : std::uint8_t { sum = 0, product, min, max, mean };
inline constexpr unsigned kReduceOps = 5;

std::size_t bytes_of(DType type);
std::string_view to_string(DType type);  ///< "float32", as NumPy and torch say
std::string_view to_string(ReduceOp op);

/// The element type of a C++ type; float16 and bfloat16 have none, name them in the Buffer.
template <class T>
constexpr DType dtype_of() {
  static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool> && sizeof(T) <= 8, "no element type for this type");
  if constexpr (std::is_floating_point_v<T>) {
    return sizeof(T) == 4 ? DType::f32 : DType::f64;
  } else {
    constexpr int log = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3;
    return static_cast<DType>(static_cast<int>(std::is_signed_v<T> ? DType::i8 : DType::u8) + log);
  }
}

/// Contiguous elements that an operation writes. Units: `count` in elements.
struct Buffer {
  Buffer(void* data, std::size_t count, DType type) : data(data), count(count), type(type) {}
  template <class T>
  requires(!std::is_const_v<T>) Buffer(std::span<T> of) : data(of.data()), count(of.size()), type(dtype_of<T>()) {}
  void* data;
  std::size_t count;
  DType type;
};

/// Contiguous elements that an operation reads.
struct ConstBuffer {
  ConstBuffer(const void* data, std::size_t count, DType type) : data(data), count(count), type(type) {}
  ConstBuffer(const Buffer& buffer) : data(buffer.data), count(buffer.count), type(buffer.type) {}
  template <class T>
  ConstBuffer(std::span<T> of) : data(of.data()), count(of.size()), type(dtype_of<std::remove_const_t<T>>()) {}
  const void* data;
  std::size_t count;
  DType type;
};

}  // namespace trireme::ml
