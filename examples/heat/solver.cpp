#include "solver.hpp"

#include <algorithm>
#include <cmath>

namespace heat {

Plate Plate::of(std::size_t size) {
  Plate plate;
  plate.size = size;
  plate.cell = 1.0 / static_cast<double>(size);
  plate.rate = 0.2;
  plate.dt = plate.rate * plate.cell * plate.cell;
  return plate;
}

double Plate::initial(std::size_t row, std::size_t column) const {
  const double y = (static_cast<double>(row) + 0.5) * cell;
  const double x = (static_cast<double>(column) + 0.5) * cell;
  if (std::hypot(x - 0.3, y - 0.4) < 0.2) return 1.0;
  if (std::hypot(x - 0.7, y - 0.75) < 0.1) return 0.5;
  return 0.1;  // not 0: the tail of the heat would be numbers so small that the processor slows down
}

Rows Rows::of(std::size_t size, int rank, int ranks) {
  const auto r = static_cast<std::size_t>(rank), n = static_cast<std::size_t>(ranks);
  return {size * r / n, size * (r + 1) / n - size * r / n};
}

void set_initial(const Plate& plate, const Rows& rows, std::span<double> block) {
  for (std::size_t row = 0; row < rows.count; ++row) {
    for (std::size_t column = 0; column < plate.size; ++column)
      block[(row + 1) * plate.size + column] = plate.initial(rows.first + row, column);
  }
}

void step(const Plate& plate, std::span<const double> now, std::span<double> next) {
  const std::size_t n = plate.size;
  const std::size_t rows = now.size() / n - 2;
  const double rate = plate.rate;
  for (std::size_t row = 1; row <= rows; ++row) {
    const double* up = &now[(row - 1) * n];
    const double* here = &now[row * n];
    const double* down = &now[(row + 1) * n];
    double* out = &next[row * n];
    const auto cell = [&](std::size_t left, std::size_t at, std::size_t right) {
      out[at] = here[at] + rate * ((up[at] + down[at]) + (here[left] + here[right]) - 4 * here[at]);
    };
    cell(0, 0, 1);
    for (std::size_t column = 1; column + 1 < n; ++column) cell(column - 1, column, column + 1);
    cell(n - 2, n - 1, n - 1);
  }
}

void mirror(std::size_t columns, std::span<double> block, bool top, bool bottom) {
  if (top) std::copy_n(&block[columns], columns, &block[0]);
  if (bottom) std::copy_n(&block[block.size() - 2 * columns], columns, &block[block.size() - columns]);
}

SerialSolver::SerialSolver(const Plate& plate)
    : plate_(plate), now_((plate.size + 2) * plate.size), next_(now_.size()) {
  set_initial(plate_, {0, plate_.size}, now_);
  mirror(plate_.size, now_, true, true);
}

void SerialSolver::advance() {
  step(plate_, now_, next_);
  mirror(plate_.size, next_, true, true);
  now_.swap(next_);
}

}  // namespace heat
