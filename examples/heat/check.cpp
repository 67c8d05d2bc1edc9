#include "check.hpp"

#include <algorithm>
#include <cmath>
#include <sstream>

namespace heat {

namespace {

bool close(double a, double b) { return std::abs(a - b) <= kTolerance * std::max({std::abs(a), std::abs(b), 1e-3}); }

template <class T>
std::string differ(const std::string& what, const T& found, const T& expected) {
  std::ostringstream text;
  text.precision(17);
  text << what << " is " << found << ", a serial run gives " << expected;
  return text.str();
}

}  // namespace

SerialRun run_serially(const Plate& plate, std::uint64_t steps, std::uint64_t every) {
  SerialRun run;
  SerialSolver solver(plate);
  for (std::uint64_t step = 1; step <= steps; ++step) {
    solver.advance();
    if (step % every == 0)
      run.steps.push_back({step, static_cast<double>(step) * plate.dt, moments_of(solver.field(), plate.size)});
  }
  run.field.assign(solver.field().begin(), solver.field().end());
  return run;
}

std::string difference(const StepRecord& found, const StepRecord& expected) {
  const auto at = "step " + std::to_string(expected.step) + ": ";
  if (found.step != expected.step) return differ(at + "number", found.step, expected.step);
  if (!close(found.time, expected.time)) return differ(at + "time", found.time, expected.time);
  const auto &f = found.moments, &e = expected.moments;
  if (f.cells != e.cells) return differ(at + "number of cells", f.cells, e.cells);
  if (f.min != e.min) return differ(at + "min", f.min, e.min);
  if (f.max != e.max) return differ(at + "max", f.max, e.max);
  if (!close(f.mean, e.mean)) return differ(at + "mean", f.mean, e.mean);
  if (!close(f.variance(), e.variance())) return differ(at + "variance", f.variance(), e.variance());
  if (!close(f.total, e.total)) return differ(at + "total", f.total, e.total);
  for (std::size_t bin = 0; bin < kBins; ++bin) {
    if (f.histogram[bin] != e.histogram[bin])
      return differ(at + "histogram bin " + std::to_string(bin), f.histogram[bin], e.histogram[bin]);
  }
  return {};
}

std::string difference(const std::vector<StepRecord>& found, const std::vector<StepRecord>& expected) {
  if (found.size() != expected.size()) return differ("the number of analysed steps", found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    if (auto text = difference(found[i], expected[i]); !text.empty()) return text;
  }
  return {};
}

std::string difference(std::span<const double> found, std::span<const double> expected) {
  if (found.size() != expected.size()) return differ("the number of cells", found.size(), expected.size());
  const auto [f, e] = std::mismatch(found.begin(), found.end(), expected.begin());
  if (f == found.end()) return {};
  return differ("final field, cell " + std::to_string(f - found.begin()), *f, *e);
}

}  // namespace heat
