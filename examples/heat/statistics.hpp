#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <trireme/array.hpp>

namespace heat {

constexpr std::size_t kBins = 16;

/// What is known of a set of cells. Plain bytes, so it travels as they lie.
struct Moments {
  std::uint64_t cells = 0;
  double min = 0, max = 0;
  double mean = 0;
  double squares = 0;  ///< sum of squared distances from the mean
  double total = 0;
  std::array<std::uint64_t, kBins> histogram{};  ///< of [0, 1], which diffusion never leaves

  double variance() const { return cells == 0 ? 0 : squares / static_cast<double>(cells); }
};

/// `columns` cells a row; summed row by row, so that the rounding error stays small.
Moments moments_of(std::span<const double> cells, std::size_t columns);
/// Of both sets together (Chan, Golub, LeVeque). The order matters in the last bits.
Moments combine(const Moments& a, const Moments& b);

/// The actor that analyses the blocks of one node, in the memory where the solvers wrote them.
class BlockStatistics {
 public:
  Moments analyse(std::uint64_t columns, const trireme::Array<double>& block);
};

}  // namespace heat
