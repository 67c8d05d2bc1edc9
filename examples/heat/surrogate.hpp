#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <trireme/array.hpp>
#include <vector>

#include "network.hpp"

namespace heat {

/// Cells around a centre, from which the surrogate says what the centre will be: `kReach` to each side along both
/// axes, `spacing` cells apart.
struct Patch {
  static constexpr std::ptrdiff_t kReach = 2;
  static constexpr std::size_t kInputs = (2 * kReach + 1) * (2 * kReach + 1) - 1;  ///< without the centre
  std::size_t spacing = 1;

  /// Heat spreads by the square root of 2 rate steps; the cells lie one such length apart.
  static Patch of(double rate, std::uint64_t steps);
  std::size_t margin() const { return kReach * spacing; }
};

/// How wrong a member was about its block; sums, so that members add up.
struct Mistakes {
  double squares = 0;    ///< of what the network said
  double unchanged = 0;  ///< of saying that nothing changes
  double cells = 0;
};

/// Averages a gradient's layer over the members: begin(part) may return before it is done, finish() waits for all.
/// As made, there is but one member.
struct Averaging {
  std::function<void(std::span<float>)> begin = [](std::span<float>) {};
  std::function<void()> finish = [] {};
};

/// Learns to say in one evaluation what the solver computes in `every` steps: a cell's temperature from the
/// temperatures around it `every` steps before. It sees two published fields at a time, in the memory where the solver
/// wrote them, and keeps none longer.
///
/// Threading: one thread. Same seed, fields and averaging: the same network, bit for bit.
class Surrogate {
 public:
  /// `seed` differs from member to member; the network starts alike on all.
  Surrogate(Patch patch, std::uint32_t seed, Averaging averaging = {});

  /// How wrong the network is about cells of `next`, not yet learned from. `columns` cells a row.
  Mistakes test(std::size_t columns, std::span<const double> before, std::span<const double> next);
  /// A fixed number of optimiser steps, the same on all members.
  void learn(std::size_t columns, std::span<const double> before, std::span<const double> next);

 private:
  bool read(std::size_t columns, std::span<const double> before, std::size_t at, float* inputs, double& scale) const;
  std::size_t centre(std::size_t columns, std::size_t rows);
  std::size_t draw(std::size_t count);

  Patch patch_;
  Averaging averaging_;
  Network network_;
  std::minstd_rand rng_;
  std::vector<float> inputs_, targets_, gradient_;
};

}  // namespace heat
