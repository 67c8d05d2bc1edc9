#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "statistics.hpp"
#include "step_file.hpp"

namespace heat {

/// The actor that joins the blocks' statistics of each step and writes them to the file.
class Series {
 public:
  Series(std::string path, std::uint32_t ranks, RunInfo info);

  /// A step is written once its `ranks` parts are there, combined by rank, so that the order they come in changes
  /// nothing. Returns how many steps are complete.
  std::uint64_t add(std::uint64_t step, std::uint32_t rank, const Moments& part);
  /// Of the steps that are complete, ascending.
  std::vector<StepRecord> steps() const { return steps_; }
  /// Returns the path of the file, which is complete now.
  std::string close();

 private:
  struct Pending {
    std::map<std::uint32_t, Moments> parts;
  };

  std::uint32_t ranks_;
  RunInfo info_;
  std::map<std::uint64_t, Pending> pending_;
  std::vector<StepRecord> steps_;
  std::unique_ptr<StepFile> file_;
};

}  // namespace heat
