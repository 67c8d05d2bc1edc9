#include "surrogate.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace heat {

namespace {
constexpr std::size_t kHidden = 32;
constexpr std::size_t kBatch = 64;
constexpr std::size_t kBatchesAField = 60;
constexpr std::size_t kTested = 2048;
constexpr float kRate = 3e-3F;
constexpr std::uint32_t kNetworkSeed = 1;
/// Where the temperatures around differ by less, there is nothing to learn.
constexpr double kFlat = 1e-4;
}  // namespace

Patch Patch::of(double rate, std::uint64_t steps) {
  const double spread = std::sqrt(2 * rate * static_cast<double>(steps));
  return {std::max<std::size_t>(1, static_cast<std::size_t>(std::lround(spread)))};
}

Surrogate::Surrogate(Patch patch, std::uint32_t seed, Averaging averaging)
    : patch_(patch),
      averaging_(std::move(averaging)),
      network_(Patch::kInputs, kHidden, kNetworkSeed),
      rng_(seed + 1),
      gradient_(network_.parameters().size()) {}

std::size_t Surrogate::draw(std::size_t count) {
  return std::uniform_int_distribution<std::size_t>(0, count - 1)(rng_);
}

std::size_t Surrogate::centre(std::size_t columns, std::size_t rows) {
  const std::size_t margin = patch_.margin();
  return (margin + draw(rows - 2 * margin)) * columns + margin + draw(columns - 2 * margin);
}

/// The temperatures around a cell, less its own, over the largest of them: what spreads heat knows neither zero nor
/// unit. False where it is flat.
bool Surrogate::read(std::size_t columns, std::span<const double> before, std::size_t at, float* inputs,
                     double& scale) const {
  std::array<double, Patch::kInputs> around;
  std::size_t i = 0;
  scale = 0;
  const auto spacing = static_cast<std::ptrdiff_t>(patch_.spacing), width = static_cast<std::ptrdiff_t>(columns);
  for (std::ptrdiff_t y = -Patch::kReach; y <= Patch::kReach; ++y) {
    for (std::ptrdiff_t x = -Patch::kReach; x <= Patch::kReach; ++x) {
      if (x == 0 && y == 0) continue;
      const auto cell = static_cast<std::size_t>(static_cast<std::ptrdiff_t>(at) + (y * width + x) * spacing);
      around[i] = before[cell] - before[at];
      scale = std::max(scale, std::abs(around[i]));
      ++i;
    }
  }
  if (scale < kFlat) return false;
  std::transform(around.begin(), around.end(), inputs, [&](double value) { return static_cast<float>(value / scale); });
  return true;
}

Mistakes Surrogate::test(std::size_t columns, std::span<const double> before, std::span<const double> next) {
  Mistakes mistakes;
  std::array<float, Patch::kInputs> inputs;
  for (std::size_t n = 0; n < kTested; ++n) {
    const std::size_t at = centre(columns, before.size() / columns);
    double scale = 0;
    const bool varied = read(columns, before, at, inputs.data(), scale);
    const double changed = next[at] - before[at];
    const double said = varied ? scale * static_cast<double>(network_.predict(inputs)) : 0.0;
    mistakes.squares += (said - changed) * (said - changed);
    mistakes.unchanged += changed * changed;
  }
  mistakes.cells = kTested;
  return mistakes;
}

void Surrogate::learn(std::size_t columns, std::span<const double> before, std::span<const double> next) {
  inputs_.resize(kBatch * Patch::kInputs);
  targets_.resize(kBatch);
  for (std::size_t batch = 0; batch < kBatchesAField; ++batch) {
    std::size_t found = 0;
    // A block may be flat almost everywhere; then the batch stays small.
    for (std::size_t tries = 0; tries < 16 * kBatch && found < kBatch; ++tries) {
      const std::size_t at = centre(columns, before.size() / columns);
      double scale = 0;
      if (!read(columns, before, at, &inputs_[found * Patch::kInputs], scale)) continue;
      targets_[found++] = static_cast<float>((next[at] - before[at]) / scale);
    }
    network_.backward(std::span(inputs_).first(found * Patch::kInputs), std::span(targets_).first(found), gradient_,
                      [&](std::size_t layer) {
                        const auto part = network_.layer(layer);
                        averaging_.begin(std::span(gradient_).subspan(part.first, part.count));
                      });
    averaging_.finish();
    network_.step(gradient_, kRate);
  }
}

}  // namespace heat
