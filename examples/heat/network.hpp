#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <vector>

namespace heat {

/// inputs -> hidden (tanh) -> one number, trained on the mean squared error by Adam.
///
/// Parameters and gradients are flat arrays of float, layer after layer, which is how they are averaged over members.
class Network {
 public:
  Network(std::size_t inputs, std::size_t hidden, std::uint32_t seed);

  /// A layer's part of parameters().
  struct Layer {
    std::size_t first = 0, count = 0;
  };
  static constexpr std::size_t kLayers = 2;
  Layer layer(std::size_t index) const;

  float predict(std::span<const float> inputs) const;
  /// The gradient of the mean squared error over a batch: `targets.size()` samples, their inputs one after the other.
  /// `ready` is called with a layer's index as soon as its gradient stands, the last layer first. Returns the error.
  double backward(std::span<const float> inputs, std::span<const float> targets, std::span<float> gradient,
                  const std::function<void(std::size_t)>& ready);
  void step(std::span<const float> gradient, float rate);

  std::span<const float> parameters() const { return parameters_; }

 private:
  void run_hidden(std::span<const float> inputs, std::span<float> values) const;

  std::size_t inputs_, hidden_;
  std::vector<float> parameters_, mean_, square_;
  std::vector<float> values_, back_;  // of the batch
  std::uint64_t steps_ = 0;
};

}  // namespace heat
