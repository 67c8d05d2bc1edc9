#include "workload.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace trireme::sim {

void TaskQueue::push(Task task) {
  size_ += task.count;
  if (!runs_.empty() && runs_.back().leaves == task.leaves) {
    runs_.back().count += task.count;
  } else {
    runs_.push_back(task);
  }
}

Task TaskQueue::pop_newest() {
  auto& run = runs_.back();
  const Task task{1, run.leaves};
  --size_;
  if (--run.count == 0) runs_.pop_back();
  return task;
}

void TaskQueue::take_oldest(std::uint32_t entries, std::vector<Task>& out) {
  while (entries > 0 && size_ > 0) {
    auto& run = runs_.front();
    const auto taken = std::min(entries, run.count);
    out.push_back({taken, run.leaves});
    run.count -= taken;
    size_ -= taken;
    entries -= taken;
    if (run.count == 0) runs_.pop_front();
  }
}

Task initial_task(const Workload& workload, Rank rank, std::uint32_t ranks, std::uint64_t tasks) {
  switch (workload.shape) {
    case Shape::bag:
      return {rank == 0 ? static_cast<std::uint32_t>(tasks) : 0, 1};
    case Shape::tree:
    case Shape::uts:
      return {rank == 0 ? 1U : 0U, static_cast<std::uint32_t>(tasks)};
    case Shape::ramp: {
      // Share of the ranks below x under the density 1 + skew * (2x - 1), so that the shares add up exactly.
      const auto below = [&](double x) {
        return static_cast<std::uint64_t>(std::llround(static_cast<double>(tasks) * (x + workload.skew * (x * x - x))));
      };
      const auto from = below(static_cast<double>(rank) / ranks), to = below(static_cast<double>(rank + 1) / ranks);
      return {static_cast<std::uint32_t>(to - from), 1};
    }
  }
  return {0, 1};
}

void expand(const Workload& workload, Task task, TaskQueue& queue, Rng& rng) {
  auto left = task.leaves;
  if (workload.shape == Shape::tree) {
    while (left > 1) {
      queue.push({1, left / 2});
      left -= left / 2;
    }
    return;
  }
  if (workload.shape != Shape::uts || --left == 0) return;
  std::array<double, 4> weights;
  double sum = 0;
  for (auto& weight : weights) {
    const double u = rng.uniform();
    weight = u * u * u;  // unequal on purpose
    sum += weight;
  }
  double upto = 0;
  std::uint32_t placed = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    upto += weights[i];
    const auto bound = i + 1 == weights.size() ? left : static_cast<std::uint32_t>(left * (upto / sum));
    if (bound > placed) queue.push({1, bound - placed});
    placed = std::max(placed, bound);
  }
}

}  // namespace trireme::sim
