#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "python/native/api.hpp"
#include "trireme/detail/cell.hpp"

namespace trireme::python {

/// What a rank that runs Python brings; zero, empty or below 0: found out, as RuntimeOptions says.
struct RankOptions {
  unsigned threads = 0;
  std::uint64_t arena_bytes = 0;
  double gpus = -1;
  std::map<std::string, double> resources;
  std::map<std::string, std::string> labels;
  int zygote_fd = -1;  ///< the rank's end of the socket to the template process; taken over
  int zygote_pid = -1;
  int prestart = -1;  ///< workers that are started at once; below 0: one per CPU
};

/// Begins a line that is none: which call writes what follows (python/trireme/_output.py).
inline constexpr std::string_view kCallMark = "\x1e__trireme_call__:";

/// A line that a worker wrote.
struct LogLine {
  int pid = 0;
  int stream = 1;  ///< 1 stdout, 2 stderr
  std::string label;
  std::string text;
};

/// The runtime in the process of a rank: the driver, or a rank that serves.
///
/// Threading: as Api; create, serve and stop by one thread.
/// Lifetime:  one at a time per process. References may outlive it: they are dead then.
class RankApi : public Api {
 public:
  /// Joins the job (collective). Errors: Exception.
  static std::unique_ptr<RankApi> create(const RankOptions& options);
  /// Ranks other than 0: blocks until rank 0 ends the job.
  virtual void serve(const Check& interrupted) = 0;
  /// Ends the job (rank 0) or leaves it. Once.
  virtual void stop() = 0;
  /// Blocks until workers wrote whole lines; empty at the end.
  virtual std::vector<LogLine> next_logs() = 0;
};

/// Between a rank's cells and its references. Errors: Exception invalid_argument for a reference that is no cell's.
RefPtr reference_of(detail::CellRef cell);
std::vector<RefPtr> references_of(std::span<const detail::CellRef> cells);
/// What keeps the value of a ready cell in place; no reference.
std::shared_ptr<const void> value_of(detail::CellRef cell);
const detail::CellRef& cell_of(const RefPtr& reference);

}  // namespace trireme::python
