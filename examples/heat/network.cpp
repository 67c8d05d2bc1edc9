#include "network.hpp"

#include <algorithm>
#include <cmath>

namespace heat {

Network::Network(std::size_t inputs, std::size_t hidden, std::uint32_t seed)
    : inputs_(inputs), hidden_(hidden), parameters_(inputs * hidden + hidden + hidden + 1) {
  mean_.resize(parameters_.size());
  square_.resize(parameters_.size());
  std::minstd_rand rng(seed);
  const auto uniform = [&](std::size_t fan_in) {
    const float unit = static_cast<float>(rng() - std::minstd_rand::min()) /
                       static_cast<float>(std::minstd_rand::max() - std::minstd_rand::min());
    return (2 * unit - 1) / std::sqrt(static_cast<float>(fan_in));
  };
  for (std::size_t i = 0; i < inputs * hidden; ++i) parameters_[i] = uniform(inputs);
  const auto output = layer(1);
  for (std::size_t i = 0; i < hidden; ++i) parameters_[output.first + i] = uniform(hidden);
}

Network::Layer Network::layer(std::size_t index) const {
  const std::size_t first = inputs_ * hidden_ + hidden_;
  return index == 0 ? Layer{0, first} : Layer{first, hidden_ + 1};
}

void Network::run_hidden(std::span<const float> inputs, std::span<float> values) const {
  const float* weights = parameters_.data();
  const float* bias = weights + inputs_ * hidden_;
  std::copy_n(bias, hidden_, values.data());
  for (std::size_t i = 0; i < inputs_; ++i) {
    for (std::size_t h = 0; h < hidden_; ++h) values[h] += inputs[i] * weights[i * hidden_ + h];
  }
  for (float& value : values) value = std::tanh(value);
}

float Network::predict(std::span<const float> inputs) const {
  std::vector<float> values(hidden_);
  run_hidden(inputs, values);
  const auto output = layer(1);
  float sum = parameters_[output.first + hidden_];
  for (std::size_t h = 0; h < hidden_; ++h) sum += values[h] * parameters_[output.first + h];
  return sum;
}

double Network::backward(std::span<const float> inputs, std::span<const float> targets, std::span<float> gradient,
                         const std::function<void(std::size_t)>& ready) {
  const std::size_t samples = targets.size();
  const auto output = layer(1);
  const float* weights = &parameters_[output.first];
  float* out = &gradient[output.first];
  std::fill(gradient.begin(), gradient.end(), 0.0F);
  values_.resize(samples * hidden_);
  back_.resize(samples * hidden_);
  double error = 0;
  for (std::size_t s = 0; s < samples; ++s) {
    const std::span<float> values(&values_[s * hidden_], hidden_);
    run_hidden(inputs.subspan(s * inputs_, inputs_), values);
    float wrong = weights[hidden_] - targets[s];
    for (std::size_t h = 0; h < hidden_; ++h) wrong += values[h] * weights[h];
    error += static_cast<double>(wrong) * wrong;
    const float slope = 2 * wrong / static_cast<float>(samples);
    for (std::size_t h = 0; h < hidden_; ++h) {
      out[h] += slope * values[h];
      back_[s * hidden_ + h] = slope * weights[h] * (1 - values[h] * values[h]);
    }
    out[hidden_] += slope;
  }
  ready(1);
  float* bias = &gradient[inputs_ * hidden_];
  for (std::size_t s = 0; s < samples; ++s) {
    const float* back = &back_[s * hidden_];
    for (std::size_t i = 0; i < inputs_; ++i) {
      const float input = inputs[s * inputs_ + i];
      for (std::size_t h = 0; h < hidden_; ++h) gradient[i * hidden_ + h] += input * back[h];
    }
    for (std::size_t h = 0; h < hidden_; ++h) bias[h] += back[h];
  }
  ready(0);
  return samples == 0 ? 0 : error / static_cast<double>(samples);
}

void Network::step(std::span<const float> gradient, float rate) {
  constexpr float kMean = 0.9F, kSquare = 0.999F;
  ++steps_;
  const auto t = static_cast<float>(steps_);
  const float unbias_mean = 1 - std::pow(kMean, t), unbias_square = 1 - std::pow(kSquare, t);
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    mean_[i] += (1 - kMean) * (gradient[i] - mean_[i]);
    square_[i] += (1 - kSquare) * (gradient[i] * gradient[i] - square_[i]);
    parameters_[i] -= rate * (mean_[i] / unbias_mean) / (std::sqrt(square_[i] / unbias_square) + 1e-8F);
  }
}

}  // namespace heat
