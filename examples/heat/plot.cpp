#include "plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <stdexcept>

namespace heat {

namespace {

constexpr double kWidth = 720, kHeight = 420;
constexpr double kLeft = 70, kRight = 20, kTop = 40, kBottom = 50;
constexpr double kSmallest = 1e-12;  // for the logarithm

/// Where steps and errors lie on the picture.
class Axes {
 public:
  explicit Axes(const std::vector<SurrogateError>& errors) {
    for (const auto& e : errors) {
      last_ = std::max(last_, static_cast<double>(e.step));
      for (const double value : {e.error, e.unchanged}) {
        low_ = std::min(low_, std::floor(std::log10(std::max(value, kSmallest))));
        high_ = std::max(high_, std::ceil(std::log10(std::max(value, kSmallest))));
      }
    }
    if (low_ >= high_) high_ = low_ + 1;
  }
  double x(double step) const { return kLeft + step / last_ * (kWidth - kLeft - kRight); }
  double y(double value) const {
    const double part = (std::log10(std::max(value, kSmallest)) - low_) / (high_ - low_);
    return kHeight - kBottom - part * (kHeight - kTop - kBottom);
  }
  double last() const { return last_; }
  int low() const { return static_cast<int>(low_); }
  int high() const { return static_cast<int>(high_); }

 private:
  double last_ = 1, low_ = 99, high_ = -99;
};

std::string line(const Axes& axes, const std::vector<SurrogateError>& errors, double SurrogateError::*value,
                 const char* colour) {
  std::string points;
  for (const auto& e : errors)
    points += fmt::format("{:.1f},{:.1f} ", axes.x(static_cast<double>(e.step)), axes.y(e.*value));
  return fmt::format("<polyline fill='none' stroke='{}' stroke-width='2' points='{}'/>\n", colour, points);
}

std::string text(double x, double y, const char* anchor, const std::string& words, const char* colour = "black") {
  return fmt::format("<text x='{:.1f}' y='{:.1f}' text-anchor='{}' fill='{}'>{}</text>\n", x, y, anchor, colour, words);
}

}  // namespace

void plot(const std::string& path, const std::vector<SurrogateError>& errors) {
  const Axes axes(errors);
  std::string picture = fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {0} {1}' font-family='sans-serif' font-size='13'>\n"
      "<rect width='{0}' height='{1}' fill='white'/>\n",
      kWidth, kHeight);
  for (int decade = axes.low(); decade <= axes.high(); ++decade) {
    const double y = axes.y(std::pow(10.0, decade));
    picture +=
        fmt::format("<line x1='{}' x2='{}' y1='{:.1f}' y2='{:.1f}' stroke='#ddd'/>\n", kLeft, kWidth - kRight, y, y);
    picture += text(kLeft - 8, y + 4, "end", fmt::format("1e{}", decade));
  }
  for (int quarter = 0; quarter <= 4; ++quarter) {
    const double step = axes.last() * quarter / 4;
    picture += text(axes.x(step), kHeight - kBottom + 20, "middle", fmt::format("{:.0f}", step));
  }
  picture += text(kWidth / 2, kHeight - 10, "middle", "step of the simulation");
  picture += text(kWidth / 2, 20, "middle", "error of the surrogate, trained while the simulation runs (RMS)");
  picture += line(axes, errors, &SurrogateError::unchanged, "#999999");
  picture += line(axes, errors, &SurrogateError::error, "#c03030");
  if (!errors.empty()) {
    const auto& last = errors.back();
    picture += text(kWidth - kRight - 4, axes.y(last.unchanged) - 8, "end", "saying that nothing changes", "#777777");
    picture += text(kWidth - kRight - 4, axes.y(last.error) - 8, "end", "surrogate", "#c03030");
  }
  std::ofstream file(path);
  file << picture << "</svg>\n";
  file.close();
  if (!file) throw std::runtime_error("could not write " + path);
}

}  // namespace heat
