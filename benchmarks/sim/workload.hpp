#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/ids.hpp"
#include "base/rng.hpp"

namespace trireme::sim {

/// `count` equal queue entries; each stands for `leaves` tasks that it splits into when it runs.
struct Task {
  std::uint32_t count = 1;
  std::uint32_t leaves = 1;
};

enum class Shape : std::uint8_t {
  bag,   ///< all tasks queued on rank 0
  tree,  ///< one task on rank 0; a task of n leaves queues halves until one is left, and runs that
  uts,   ///< one task on rank 0; a task of n runs one and queues up to four subtrees of random, unequal sizes
  ramp,  ///< every rank has its own; `skew` says how unequal: rank i gets 1 - skew to 1 + skew of the mean
};

struct Workload {
  Shape shape = Shape::bag;
  std::uint32_t tasks_per_core = 100;
  Nanos task = 10 * kMillisecond;
  double spread = 0;  ///< a task takes task * (1 - spread) to task * (1 + spread)
  double skew = 1;
  std::uint32_t task_bytes = 128;  ///< of one queue entry on the wire
};

/// Oldest first for thieves, newest first for the rank itself.
class TaskQueue {
 public:
  void push(Task task);
  Task pop_newest();
  /// Moves up to `entries` of the oldest to `out`.
  void take_oldest(std::uint32_t entries, std::vector<Task>& out);
  std::uint32_t size() const { return size_; }

 private:
  std::deque<Task> runs_;
  std::uint32_t size_ = 0;
};

/// What rank `rank` of `ranks` has at the start.
Task initial_task(const Workload& workload, Rank rank, std::uint32_t ranks, std::uint64_t tasks);
/// Runs one entry: queues what it splits into.
void expand(const Workload& workload, Task task, TaskQueue& queue, Rng& rng);

}  // namespace trireme::sim
