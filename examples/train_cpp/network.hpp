#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

/// A network of one hidden layer: pictures in, scores of classes out. Plain loops; what is interesting is when its
/// gradients become known.
class Network {
 public:
  /// The parameters, in the order of the forward pass.
  enum Parameter { kHiddenWeights, kHiddenBias, kOutWeights, kOutBias, kParameters };

  Network(std::size_t inputs, std::size_t hidden, std::size_t classes, unsigned seed);

  std::span<float> parameter(std::size_t i) { return parameters_[i]; }
  /// How many of the pictures it takes for what they are.
  std::size_t right(std::span<const float> pictures, std::span<const int> labels) const;

  /// Cross entropy averaged over the pictures. Computes the gradients, the last layer's first, each into where
  /// `gradient` says, and tells `ready` as soon as one is complete.
  float backward(std::span<const float> pictures, std::span<const int> labels,
                 const std::function<std::span<float>(std::size_t)>& gradient,
                 const std::function<void(std::size_t)>& ready) const;

 private:
  void forward(std::span<const float> pictures, std::vector<float>& hidden, std::vector<float>& scores) const;

  std::size_t inputs_, hidden_, classes_;
  std::vector<float> parameters_[kParameters];
};
