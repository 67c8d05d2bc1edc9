#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "solver.hpp"
#include "step_file.hpp"

namespace heat {

/// How far apart two ways to the same number may be: summation order is the only difference.
constexpr double kTolerance = 1e-12;

/// What a serial run says at the given steps, each computed over the whole plate at once.
struct SerialRun {
  std::vector<StepRecord> steps;
  std::vector<double> field;  ///< after the last step
};
SerialRun run_serially(const Plate& plate, std::uint64_t steps, std::uint64_t every);

/// Empty when they agree to kTolerance, relative to the larger; else the first difference in words.
std::string difference(const StepRecord& found, const StepRecord& expected);
std::string difference(const std::vector<StepRecord>& found, const std::vector<StepRecord>& expected);
/// Bit for bit.
std::string difference(std::span<const double> found, std::span<const double> expected);

}  // namespace heat
