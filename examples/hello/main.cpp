#include <trireme/trireme.hpp>

#include <cmath>
#include <cstdio>
#include <numbers>
#include <numeric>
#include <vector>

constexpr int kSlices = 16;

/// The area under 4 / (1 + x^2) over one slice of [0, 1]; all slices together are pi.
double integrate(int slice) {
  constexpr int kSteps = 1'000'000;
  constexpr double h = 1.0 / kSlices / kSteps;
  double area = 0;
  for (int i = 0; i < kSteps; ++i) {
    const double x = static_cast<double>(slice) / kSlices + (i + 0.5) * h;
    area += 4 / (1 + x * x) * h;
  }
  return area;
}

class Statistics {
 public:
  void add(double part) { total_ += part; }
  double total() const { return total_; }

 private:
  double total_ = 0;
};

int main(int argc, char** argv) {
  trireme::Runtime rt(argc, argv);  // rank 0 returns, the others serve until it ends

  std::vector<int> grid(kSlices);
  std::iota(grid.begin(), grid.end(), 0);
  auto parts = trireme::map<&integrate>(grid);                  // tasks, wherever a core is free
  auto stats = rt.spawn<Statistics>();                          // an actor somewhere
  for (auto& part : parts) stats.call<&Statistics::add>(part);  // a reference as argument
  const double pi = rt.get(stats.call<&Statistics::total>());

  std::printf("%u rank(s): pi = %.9f\n", rt.size(), pi);
  return std::abs(pi - std::numbers::pi) < 1e-9 ? 0 : 1;
}
