#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "statistics.hpp"

namespace heat {

struct RunInfo {
  std::uint64_t size = 0;
  std::uint64_t ranks = 0;
  double dt = 0;
};

struct StepRecord {
  std::uint64_t step = 0;
  double time = 0;
  Moments moments;
};

/// The statistics on disk: HDF5 when the example was built with it, else comma-separated lines.
///
/// HDF5: attributes size, ranks, dt at the root; a group steps/<number> for each step with the attributes step, time,
/// cells, min, max, mean, variance, total and the dataset histogram.
///
/// Errors: std::runtime_error with the path and what failed.
class StepFile {
 public:
  StepFile(const std::string& path, const RunInfo& info);
  ~StepFile();
  void write(const StepRecord& record);
  /// The path with the ending that fits the format.
  const std::string& path() const;
  void close();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace heat
