// The combining loops against plain ones, at every length around a vector's, and rounding to the narrow types.
#include "ml/collective/fold.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

using namespace trireme::ml;

namespace {

float half_value(std::uint16_t h) {
  const int exponent = h >> 10 & 31;
  const int fraction = h & 1023;
  float value = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                : exponent == 31
                    ? (fraction != 0 ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity())
                    : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return (h & 0x8000) != 0 ? -value : value;
}

/// The half nearest to a value; on a tie the even one. By search, as a reference.
std::uint16_t nearest_half(double value) {
  std::uint16_t best = 0;
  double distance = std::numeric_limits<double>::infinity();
  const double magnitude = std::fabs(value);
  if (magnitude >= 65520) {
    best = 0x7C00;
  } else {
    for (int h = 0; h < 0x7C00; ++h) {
      const double d = std::fabs(half_value(static_cast<std::uint16_t>(h)) - magnitude);
      if (d < distance || (d == distance && h % 2 == 0)) {
        distance = d;
        best = static_cast<std::uint16_t>(h);
      }
    }
  }
  return static_cast<std::uint16_t>(best | (std::signbit(value) ? 0x8000 : 0));
}

}  // namespace

TEST_CASE_TEMPLATE("every length gives what a plain loop gives", T, float, double, std::int8_t, std::uint16_t,
                   std::int32_t, std::uint64_t) {
  std::mt19937_64 random(1);
  for (const std::size_t count : {0UL, 1UL, 3UL, 7UL, 8UL, 9UL, 31UL, 33UL, 511UL, 512UL, 513UL, 1500UL}) {
    for (const std::size_t inputs : {1UL, 2UL, 3UL, 5UL}) {
      std::vector<std::vector<T>> data(inputs, std::vector<T>(count));
      for (auto& one : data)
        for (auto& x : one) x = static_cast<T>(static_cast<std::int64_t>(random() % 2001) - 1000);
      std::vector<const void*> in;
      for (auto& one : data) in.push_back(one.data());
      const auto expect = [&](ReduceOp op, auto combine) {
        std::vector<T> expected = data[0];
        for (std::size_t k = 1; k < inputs; ++k)
          for (std::size_t i = 0; i < count; ++i) expected[i] = combine(expected[i], data[k][i]);
        std::vector<T> out(count, T{42});
        fold(dtype_of<T>(), op, out.data(), in.data(), inputs, count);
        CHECK((out == expected));
      };
      expect(ReduceOp::sum, [](T a, T b) { return static_cast<T>(a + b); });
      expect(ReduceOp::min, [](T a, T b) { return std::min(a, b); });
      expect(ReduceOp::max, [](T a, T b) { return std::max(a, b); });
      if constexpr (!std::is_integral_v<T> || sizeof(T) == 8)
        expect(ReduceOp::product, [](T a, T b) { return static_cast<T>(a * b); });
    }
  }
}

TEST_CASE("the result may take the place of any input") {
  std::vector<double> a{1, 2, 3, 4, 5}, b{10, 20, 30, 40, 50};
  fold2(DType::f64, ReduceOp::sum, b.data(), a.data(), b.data(), 5);
  CHECK(b == std::vector<double>{11, 22, 33, 44, 55});
  fold2(DType::f64, ReduceOp::sum, a.data(), a.data(), b.data(), 5);
  CHECK(a == std::vector<double>{12, 24, 36, 48, 60});
}

TEST_CASE("every float16 survives, and sums are rounded to the nearest, ties to even") {
  std::vector<std::uint16_t> all(65536), out(65536);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  const void* one[1] = {all.data()};
  fold(DType::f16, ReduceOp::sum, out.data(), one, 1, all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool nan = (i & 0x7C00) == 0x7C00 && (i & 0x3FF) != 0;
    if (nan ? (out[i] & 0x7C00) != 0x7C00 || (out[i] & 0x3FF) == 0 : out[i] != all[i])
      FAIL("float16 " << i << " became " << out[i]);
  }
  std::mt19937 random(2);
  for (const std::size_t count : {1UL, 40UL}) {  // the loop's rest, and its vectors
    for (int round = 0; round < 10; ++round) {
      std::vector<std::uint16_t> a(count), b(count), sum(count);
      for (std::size_t i = 0; i < count; ++i) {
        do a[i] = static_cast<std::uint16_t>(random());
        while ((a[i] & 0x7C00) == 0x7C00);
        do b[i] = static_cast<std::uint16_t>(round % 2 != 0 ? random() : random() % 2048);
        while ((b[i] & 0x7C00) == 0x7C00);
      }
      fold2(DType::f16, ReduceOp::sum, sum.data(), a.data(), b.data(), count);
      for (std::size_t i = 0; i < count; ++i) {
        const float exact = half_value(a[i]) + half_value(b[i]);
        CAPTURE(exact);
        CHECK(half_value(sum[i]) == half_value(nearest_half(exact)));
      }
    }
  }
}

TEST_CASE("a mean is rounded once, and of integers toward zero") {
  std::vector<std::int32_t> a{-7, 7, 8}, b{0, 0, 1};
  fold2(DType::i32, ReduceOp::mean, a.data(), a.data(), b.data(), 3, 2);
  CHECK(a == std::vector<std::int32_t>{-3, 3, 4});
  std::vector<std::uint16_t> h{0x7BFF}, g{0x7BFF};  // 65504 twice: the sum is no float16, the mean is
  fold2(DType::f16, ReduceOp::mean, h.data(), h.data(), g.data(), 1, 2);
  CHECK(h[0] == 0x7BFF);
}
