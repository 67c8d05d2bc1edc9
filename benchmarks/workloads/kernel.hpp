#pragma once

#include <cstdint>

namespace trireme::bench {

/// The work of a task: `iterations` rounds of multiply-add over eight independent numbers (about 1.5 ns a round).
/// Nothing in it touches memory, so its speed does not depend on who runs beside it.
inline double busy_kernel(std::uint64_t iterations, double seed) {
  double x[8];
  for (int i = 0; i < 8; ++i) x[i] = seed + i;
  for (std::uint64_t n = 0; n < iterations; ++n) {
    // Without this the compiler may unroll or fold rounds, and N rounds would not cost N times one.
    asm volatile("" ::: "memory");
    for (double& v : x) v = v * 0.999999 + 1e-6;
  }
  double sum = 0;
  for (const double v : x) sum += v;
  return sum;
}

}  // namespace trireme::bench
