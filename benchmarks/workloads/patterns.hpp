#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string_view>

namespace trireme::bench {

/// Task Bench's dependence patterns (Slaughter et al., SC20): a grid of timesteps by columns, where a task depends
/// on some tasks of the timestep before.
enum class Pattern { trivial, stencil_1d, fft, tree };

inline std::optional<Pattern> parse_pattern(std::string_view name) {
  if (name == "trivial") return Pattern::trivial;
  if (name == "stencil_1d") return Pattern::stencil_1d;
  if (name == "fft") return Pattern::fft;
  if (name == "tree") return Pattern::tree;
  return std::nullopt;
}

/// At most three inputs a task, so no allocation is needed to name them.
struct Columns {
  int count = 0;
  int column[3] = {};
  void add(int c) { column[count++] = c; }
};

/// Threading: immutable.
class Grid {
 public:
  Grid(Pattern pattern, int width) : pattern_(pattern), width_(width) {
    while ((1 << levels_) < width_) ++levels_;
    if (levels_ == 0) levels_ = 1;
  }

  int width() const { return width_; }

  /// Columns [0, active) have a task at timestep t: the tree grows from one column, the others are full at once.
  int active(std::int64_t t) const {
    if (pattern_ != Pattern::tree || t >= levels_) return width_;
    return 1 << t;
  }

  std::int64_t tasks(std::int64_t timesteps) const {
    std::int64_t sum = 0;
    for (std::int64_t t = 0; t < std::min<std::int64_t>(timesteps, levels_); ++t) sum += active(t);
    return sum + std::max<std::int64_t>(0, timesteps - levels_) * width_;
  }

  /// The columns of timestep t - 1 that the task of column c at timestep t needs.
  Columns inputs(std::int64_t t, int c) const {
    Columns in;
    if (t == 0) return in;
    switch (pattern_) {
      case Pattern::trivial:
        break;
      case Pattern::tree:
        in.add(c / 2);
        break;
      case Pattern::stencil_1d:
        add_around(in, c, 1);
        break;
      case Pattern::fft:
        add_around(in, c, stride(t));
        break;
    }
    return in;
  }

  /// The columns of timestep t + 1 that need the task of column c at timestep t.
  Columns outputs(std::int64_t t, int c) const {
    Columns out;
    switch (pattern_) {
      case Pattern::trivial:
        break;
      case Pattern::stencil_1d:
        add_around(out, c, 1);
        break;
      case Pattern::fft:
        add_around(out, c, stride(t + 1));
        break;
      case Pattern::tree:
        for (const int child : {2 * c, 2 * c + 1}) {
          if (child < active(t + 1)) out.add(child);
        }
        break;
    }
    return out;
  }

 private:
  int stride(std::int64_t t) const { return 1 << ((t - 1) % levels_); }

  void add_around(Columns& columns, int c, int distance) const {
    if (c - distance >= 0) columns.add(c - distance);
    columns.add(c);
    if (c + distance < width_) columns.add(c + distance);
  }

  Pattern pattern_;
  int width_;
  int levels_ = 0;
};

}  // namespace trireme::bench
