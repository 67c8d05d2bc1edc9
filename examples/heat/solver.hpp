#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace heat {

/// A square plate of size x size cells, thermally insulated at its edge, so that its heat stays what it was.
struct Plate {
  std::size_t size = 0;
  double cell = 0;  ///< edge of a cell, the plate being 1 x 1
  double dt = 0;    ///< time step
  double rate = 0;  ///< dt / cell^2 with diffusivity 1; explicit steps are stable up to 0.25

  static Plate of(std::size_t size);
  /// Initial temperature, within 0 to 1: two warm discs on a cold plate.
  double initial(std::size_t row, std::size_t column) const;
};

/// The rows that one of `ranks` computes.
struct Rows {
  std::size_t first = 0, count = 0;
  static Rows of(std::size_t size, int rank, int ranks);
};

/// A block is `count` rows between two ghost rows; the functions take it whole, row by row.
inline std::size_t block_cells(const Plate& plate, const Rows& rows) { return (rows.count + 2) * plate.size; }
/// The block without its ghost rows.
inline std::span<const double> inner(std::span<const double> block, std::size_t columns) {
  return block.subspan(columns, block.size() - 2 * columns);
}

void set_initial(const Plate& plate, const Rows& rows, std::span<double> block);
/// One time step. Every cell is computed by the same expression whatever the decomposition, so results agree in each
/// bit.
void step(const Plate& plate, std::span<const double> now, std::span<double> next);
/// Ghost rows at the edge of the plate mirror the row beside them.
void mirror(std::size_t columns, std::span<double> block, bool top, bool bottom);

/// The whole plate in one process: what the parallel answer is checked against.
class SerialSolver {
 public:
  explicit SerialSolver(const Plate& plate);
  void advance();
  std::span<const double> field() const { return inner(now_, plate_.size); }

 private:
  Plate plate_;
  std::vector<double> now_, next_;
};

}  // namespace heat
