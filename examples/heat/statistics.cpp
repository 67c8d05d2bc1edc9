#include "statistics.hpp"

#include <algorithm>

#include "solver.hpp"

namespace heat {

namespace {

template <class Term>
double sum_by_rows(std::span<const double> cells, std::size_t columns, Term&& term) {
  double sum = 0;
  for (std::size_t row = 0; row < cells.size(); row += columns) {
    double of_row = 0;
    for (const double cell : cells.subspan(row, columns)) of_row += term(cell);
    sum += of_row;
  }
  return sum;
}

}  // namespace

Moments moments_of(std::span<const double> cells, std::size_t columns) {
  Moments m;
  m.cells = cells.size();
  if (cells.empty()) return m;
  const auto [min, max] = std::minmax_element(cells.begin(), cells.end());
  m.min = *min;
  m.max = *max;
  m.total = sum_by_rows(cells, columns, [](double cell) { return cell; });
  m.mean = m.total / static_cast<double>(m.cells);
  m.squares = sum_by_rows(cells, columns, [&](double cell) { return (cell - m.mean) * (cell - m.mean); });
  for (const double cell : cells) {
    const auto bin = static_cast<std::size_t>(std::clamp(cell, 0.0, 1.0) * kBins);
    ++m.histogram[std::min(bin, kBins - 1)];
  }
  return m;
}

Moments combine(const Moments& a, const Moments& b) {
  if (a.cells == 0) return b;
  if (b.cells == 0) return a;
  const auto na = static_cast<double>(a.cells), nb = static_cast<double>(b.cells);
  Moments m;
  m.cells = a.cells + b.cells;
  m.min = std::min(a.min, b.min);
  m.max = std::max(a.max, b.max);
  m.total = a.total + b.total;
  m.mean = m.total / (na + nb);
  const double apart = b.mean - a.mean;
  m.squares = a.squares + b.squares + apart * apart * (na * nb / (na + nb));
  for (std::size_t bin = 0; bin < kBins; ++bin) m.histogram[bin] = a.histogram[bin] + b.histogram[bin];
  return m;
}

Moments BlockStatistics::analyse(std::uint64_t columns, const trireme::Array<double>& block) {
  return moments_of(inner(block.view(), columns), columns);
}

}  // namespace heat
