// The loops of fold(), included by one source file for each instruction set. Everything is in an unnamed namespace and
// nothing of the standard library is called: code compiled for a newer processor must not be merged into the rest.
#include <cstddef>
#include <cstdint>
#include <cstring>
#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "trireme/ml/types.hpp"

namespace {

using trireme::ml::DType;
using trireme::ml::ReduceOp;

constexpr std::size_t kBlock = 256;  // elements combined at a time: 2 KiB at most, see copy_bytes() in node_ops.cpp

struct Half {
  std::uint16_t bits;
};
struct BFloat {
  std::uint16_t bits;
};

inline float as_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline std::uint32_t as_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float widen_one(Half h) {
  // Exponent and fraction moved into place; the multiplication corrects the bias and makes subnormals exact.
  const std::uint32_t magnitude = std::uint32_t{h.bits & 0x7FFFU} << 13U;
  const float scaled = as_float(magnitude) * 0x1p112F;
  const std::uint32_t special = (h.bits & 0x7C00U) == 0x7C00U ? 0x7F800000U : 0U;
  return as_float(as_bits(scaled) | special | std::uint32_t{h.bits & 0x8000U} << 16U);
}
inline Half narrow_half(float value) {
  const std::uint32_t bits = as_bits(value);
  const std::uint32_t sign = bits >> 16U & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  // Subnormal results: adding 0.5 puts the fraction's last bit where a float rounds.
  const std::uint32_t small = as_bits(as_float(magnitude) + 0.5F) - 0x3F000000U;
  // Normal ones: rebias, and round half to even.
  const std::uint32_t normal = (magnitude - 0x38000000U + 0xFFFU + (magnitude >> 13U & 1U)) >> 13U;
  std::uint32_t half = magnitude < 0x38800000U ? small : normal;
  half = magnitude >= 0x477FF000U ? 0x7C00U : half;  // rounds to infinity
  half = magnitude > 0x7F800000U ? 0x7E00U | (magnitude >> 13U & 0x1FFU) : half;
  return {static_cast<std::uint16_t>(half | sign)};
}
inline float widen_one(BFloat b) { return as_float(std::uint32_t{b.bits} << 16U); }
inline BFloat narrow_bfloat(float value) {
  const std::uint32_t bits = as_bits(value);
  const std::uint32_t rounded = (bits + 0x7FFFU + (bits >> 16U & 1U)) >> 16U;
  const bool nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  return {static_cast<std::uint16_t>(nan ? (bits >> 16U | 0x40U) : rounded)};
}

inline void widen(float* to, const Half* from, std::size_t n) {
  std::size_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
#endif
  for (; i < n; ++i) to[i] = widen_one(from[i]);
}
inline void narrow(Half* to, const float* from, std::size_t n) {
  std::size_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
#endif
  for (; i < n; ++i) to[i] = narrow_half(from[i]);
}
inline void widen(float* to, const BFloat* from, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) to[i] = widen_one(from[i]);
}
inline void narrow(BFloat* to, const float* from, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) to[i] = narrow_bfloat(from[i]);
}

/// Integers are combined in an unsigned type of at least 32 bits, so that wrapping around is defined.
template <std::size_t kBytes>
struct Wrapping {
  using type = std::uint32_t;
};
template <>
struct Wrapping<8> {
  using type = std::uint64_t;
};
template <class T>
constexpr bool kFloating = static_cast<T>(0.5F) != static_cast<T>(0);

struct Add {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (kFloating<T>) return a + b;
    using W = typename Wrapping<sizeof(T)>::type;
    return static_cast<T>(static_cast<W>(a) + static_cast<W>(b));
  }
};
struct Multiply {
  template <class T>
  static T apply(T a, T b) {
    if constexpr (kFloating<T>) return a * b;
    using W = typename Wrapping<sizeof(T)>::type;
    return static_cast<T>(static_cast<W>(a) * static_cast<W>(b));
  }
};
struct Least {
  template <class T>
  static T apply(T a, T b) {
    return b < a ? b : a;
  }
};
struct Greatest {
  template <class T>
  static T apply(T a, T b) {
    return a < b ? b : a;
  }
};

template <class T>
void divide_block(T* data, std::size_t n, unsigned by) {
  const T divisor = static_cast<T>(by);
  for (std::size_t i = 0; i < n; ++i) data[i] = static_cast<T>(data[i] / divisor);
}

template <class T, class Op>
void fold_plain(T* out, const void* const* in, std::size_t inputs, std::size_t count, unsigned mean_of) {
  if (inputs == 2 && mean_of == 0) {
    const T* a = static_cast<const T*>(in[0]);
    const T* b = static_cast<const T*>(in[1]);
#pragma GCC ivdep  // `out` is one of them or apart from both
    for (std::size_t i = 0; i < count; ++i) out[i] = Op::apply(a[i], b[i]);
    return;
  }
  T sum[kBlock];
  for (std::size_t at = 0; at < count; at += kBlock) {
    const std::size_t n = count - at < kBlock ? count - at : kBlock;
    std::memcpy(sum, static_cast<const T*>(in[0]) + at, n * sizeof(T));
    for (std::size_t k = 1; k < inputs; ++k) {
      const T* next = static_cast<const T*>(in[k]) + at;
      for (std::size_t i = 0; i < n; ++i) sum[i] = Op::apply(sum[i], next[i]);
    }
    if (mean_of != 0) divide_block(sum, n, mean_of);
    std::memcpy(out + at, sum, n * sizeof(T));
  }
}

template <class T, class Op>
void fold_narrow(T* out, const void* const* in, std::size_t inputs, std::size_t count, unsigned mean_of) {
  float sum[kBlock];
  float next[kBlock];
  for (std::size_t at = 0; at < count; at += kBlock) {
    const std::size_t n = count - at < kBlock ? count - at : kBlock;
    widen(sum, static_cast<const T*>(in[0]) + at, n);
    for (std::size_t k = 1; k < inputs; ++k) {
      widen(next, static_cast<const T*>(in[k]) + at, n);
      for (std::size_t i = 0; i < n; ++i) sum[i] = Op::apply(sum[i], next[i]);
    }
    if (mean_of != 0) divide_block(sum, n, mean_of);
    narrow(out + at, sum, n);
  }
}

template <class Op>
void fold_type(DType type, void* out, const void* const* in, std::size_t inputs, std::size_t count, unsigned mean_of) {
  switch (type) {
    case DType::f16:
      return fold_narrow<Half, Op>(static_cast<Half*>(out), in, inputs, count, mean_of);
    case DType::bf16:
      return fold_narrow<BFloat, Op>(static_cast<BFloat*>(out), in, inputs, count, mean_of);
    case DType::f32:
      return fold_plain<float, Op>(static_cast<float*>(out), in, inputs, count, mean_of);
    case DType::f64:
      return fold_plain<double, Op>(static_cast<double*>(out), in, inputs, count, mean_of);
    case DType::i8:
      return fold_plain<std::int8_t, Op>(static_cast<std::int8_t*>(out), in, inputs, count, mean_of);
    case DType::i16:
      return fold_plain<std::int16_t, Op>(static_cast<std::int16_t*>(out), in, inputs, count, mean_of);
    case DType::i32:
      return fold_plain<std::int32_t, Op>(static_cast<std::int32_t*>(out), in, inputs, count, mean_of);
    case DType::i64:
      return fold_plain<std::int64_t, Op>(static_cast<std::int64_t*>(out), in, inputs, count, mean_of);
    case DType::u8:
      return fold_plain<std::uint8_t, Op>(static_cast<std::uint8_t*>(out), in, inputs, count, mean_of);
    case DType::u16:
      return fold_plain<std::uint16_t, Op>(static_cast<std::uint16_t*>(out), in, inputs, count, mean_of);
    case DType::u32:
      return fold_plain<std::uint32_t, Op>(static_cast<std::uint32_t*>(out), in, inputs, count, mean_of);
    case DType::u64:
      return fold_plain<std::uint64_t, Op>(static_cast<std::uint64_t*>(out), in, inputs, count, mean_of);
  }
}

void fold_any(DType type, ReduceOp op, void* out, const void* const* in, std::size_t inputs, std::size_t count,
              unsigned mean_of) {
  switch (op) {
    case ReduceOp::sum:
    case ReduceOp::mean:
      return fold_type<Add>(type, out, in, inputs, count, mean_of);
    case ReduceOp::product:
      return fold_type<Multiply>(type, out, in, inputs, count, mean_of);
    case ReduceOp::min:
      return fold_type<Least>(type, out, in, inputs, count, mean_of);
    case ReduceOp::max:
      return fold_type<Greatest>(type, out, in, inputs, count, mean_of);
  }
}

}  // namespace
