#include "network.hpp"

#include <algorithm>
#include <cmath>
#include <random>

Network::Network(std::size_t inputs, std::size_t hidden, std::size_t classes, unsigned seed)
    : inputs_(inputs), hidden_(hidden), classes_(classes) {
  std::mt19937 random(seed);
  const auto draw = [&](std::vector<float>& weights, std::size_t count, std::size_t fan_in) {
    weights.resize(count);
    for (auto& w : weights)
      w = (static_cast<float>(random()) / static_cast<float>(std::mt19937::max()) - 0.5F) * 2 /
          std::sqrt(static_cast<float>(fan_in));
  };
  draw(parameters_[kHiddenWeights], inputs * hidden, inputs);
  parameters_[kHiddenBias].assign(hidden, 0);
  draw(parameters_[kOutWeights], hidden * classes, hidden);
  parameters_[kOutBias].assign(classes, 0);
}

void Network::forward(std::span<const float> pictures, std::vector<float>& hidden, std::vector<float>& scores) const {
  const std::size_t count = pictures.size() / inputs_;
  hidden.assign(count * hidden_, 0);
  scores.assign(count * classes_, 0);
  for (std::size_t p = 0; p < count; ++p) {
    float* h = &hidden[p * hidden_];
    std::copy(parameters_[kHiddenBias].begin(), parameters_[kHiddenBias].end(), h);
    for (std::size_t i = 0; i < inputs_; ++i)
      for (std::size_t j = 0; j < hidden_; ++j)
        h[j] += pictures[p * inputs_ + i] * parameters_[kHiddenWeights][i * hidden_ + j];
    for (std::size_t j = 0; j < hidden_; ++j) h[j] = std::max(h[j], 0.0F);
    float* s = &scores[p * classes_];
    std::copy(parameters_[kOutBias].begin(), parameters_[kOutBias].end(), s);
    for (std::size_t j = 0; j < hidden_; ++j)
      for (std::size_t c = 0; c < classes_; ++c) s[c] += h[j] * parameters_[kOutWeights][j * classes_ + c];
  }
}

std::size_t Network::right(std::span<const float> pictures, std::span<const int> labels) const {
  std::vector<float> hidden, scores;
  forward(pictures, hidden, scores);
  std::size_t right = 0;
  for (std::size_t p = 0; p < labels.size(); ++p) {
    const auto begin = scores.begin() + static_cast<std::ptrdiff_t>(p * classes_);
    const auto best = std::max_element(begin, begin + static_cast<std::ptrdiff_t>(classes_)) - begin;
    right += best == labels[p] ? 1 : 0;
  }
  return right;
}

float Network::backward(std::span<const float> pictures, std::span<const int> labels,
                        const std::function<std::span<float>(std::size_t)>& gradient,
                        const std::function<void(std::size_t)>& ready) const {
  const std::size_t count = labels.size();
  std::vector<float> hidden, scores;
  forward(pictures, hidden, scores);
  float loss = 0;
  for (std::size_t p = 0; p < count; ++p) {  // scores become their own gradients: probability minus truth
    float* s = &scores[p * classes_];
    const float top = *std::max_element(s, s + classes_);
    float sum = 0;
    for (std::size_t c = 0; c < classes_; ++c) sum += s[c] = std::exp(s[c] - top);
    for (std::size_t c = 0; c < classes_; ++c) s[c] /= sum;
    loss -= std::log(std::max(s[labels[p]], 1e-20F));
    s[labels[p]] -= 1;
    for (std::size_t c = 0; c < classes_; ++c) s[c] /= static_cast<float>(count);
  }

  const auto out_bias = gradient(kOutBias);
  std::fill(out_bias.begin(), out_bias.end(), 0.0F);
  for (std::size_t p = 0; p < count; ++p)
    for (std::size_t c = 0; c < classes_; ++c) out_bias[c] += scores[p * classes_ + c];
  ready(kOutBias);

  const auto out_weights = gradient(kOutWeights);
  std::fill(out_weights.begin(), out_weights.end(), 0.0F);
  for (std::size_t p = 0; p < count; ++p)
    for (std::size_t j = 0; j < hidden_; ++j)
      for (std::size_t c = 0; c < classes_; ++c)
        out_weights[j * classes_ + c] += hidden[p * hidden_ + j] * scores[p * classes_ + c];
  ready(kOutWeights);

  for (std::size_t p = 0; p < count; ++p)  // hidden becomes its own gradient
    for (std::size_t j = 0; j < hidden_; ++j) {
      float sum = 0;
      for (std::size_t c = 0; c < classes_; ++c)
        sum += scores[p * classes_ + c] * parameters_[kOutWeights][j * classes_ + c];
      float& h = hidden[p * hidden_ + j];
      h = h > 0 ? sum : 0;
    }
  const auto hidden_bias = gradient(kHiddenBias);
  std::fill(hidden_bias.begin(), hidden_bias.end(), 0.0F);
  for (std::size_t p = 0; p < count; ++p)
    for (std::size_t j = 0; j < hidden_; ++j) hidden_bias[j] += hidden[p * hidden_ + j];
  ready(kHiddenBias);

  const auto hidden_weights = gradient(kHiddenWeights);
  std::fill(hidden_weights.begin(), hidden_weights.end(), 0.0F);
  for (std::size_t p = 0; p < count; ++p)
    for (std::size_t i = 0; i < inputs_; ++i)
      for (std::size_t j = 0; j < hidden_; ++j)
        hidden_weights[i * hidden_ + j] += pictures[p * inputs_ + i] * hidden[p * hidden_ + j];
  ready(kHiddenWeights);
  return loss / static_cast<float>(count);
}
