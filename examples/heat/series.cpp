#include "series.hpp"

#include <utility>

namespace heat {

Series::Series(std::string path, std::uint32_t ranks, RunInfo info)
    : ranks_(ranks), info_(info), file_(std::make_unique<StepFile>(path, info)) {}

std::uint64_t Series::add(std::uint64_t step, std::uint32_t rank, const Moments& part) {
  auto& pending = pending_[step];
  pending.parts[rank] = part;
  if (pending.parts.size() < ranks_) return steps_.size();
  StepRecord record;
  record.step = step;
  record.time = static_cast<double>(step) * info_.dt;
  for (const auto& [from, moments] : pending.parts) record.moments = combine(record.moments, moments);
  pending_.erase(step);
  file_->write(record);
  steps_.push_back(record);
  return steps_.size();
}

std::string Series::close() {
  file_->close();
  return file_->path();
}

}  // namespace heat
