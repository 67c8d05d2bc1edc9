#include "tools/tune_collectives/measure.hpp"

#include <algorithm>
#include <chrono>
#include <trireme/ml/group.hpp>

namespace trireme::tune {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) { return std::chrono::duration<double>(Clock::now() - begin).count(); }

/// A turn: long enough for the clock and for the caches.
constexpr double kTurnSeconds = 0.004;

}  // namespace

std::string node_here() { return topology().node; }

Times measure(const std::string& name, std::uint32_t member, std::uint32_t members, const Plan& plan) {
  std::vector<ml::Communicator> groups;
  for (std::size_t i = 0; i < plan.variants.size(); ++i) {
    ml::CommunicatorOptions options;
    options.name = name + "-" + std::to_string(i);
    options.fixed_order = plan.fixed_order;
    options.thresholds = ml::parse_thresholds(plan.variants[i]).value();
    groups.push_back(ml::make_group(options.name, member, members, options));
  }
  Times medians;
  for (const auto bytes : plan.sizes) {
    std::vector<double> data(bytes / sizeof(double), 1.0);
    const auto operate = [&](ml::Communicator& group) {
      if (plan.broadcast)
        group.broadcast(std::span(data), 0);
      else
        group.all_reduce(std::span(data), ml::ReduceOp::max);
    };
    // A broadcast's root is done before the others are: the barrier is part of it, for all variants alike.
    const auto turn = [&](ml::Communicator& group, std::int64_t count) {
      group.barrier();
      const auto begin = Clock::now();
      for (std::int64_t i = 0; i < count; ++i) operate(group);
      if (plan.broadcast) group.barrier();
      return seconds_since(begin) / static_cast<double>(count);
    };
    turn(groups[0], 2);
    std::int64_t count =
        std::clamp<std::int64_t>(static_cast<std::int64_t>(kTurnSeconds / turn(groups[0], 3)), 2, 4000);
    groups[0].broadcast(std::span(&count, 1), 0);  // all as often
    std::vector<std::vector<double>> samples(groups.size());
    for (int round = 0; round < plan.rounds; ++round)
      for (std::size_t i = 0; i < groups.size(); ++i) samples[i].push_back(turn(groups[i], count));
    medians.emplace_back();
    for (auto& times : samples) {
      const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
      std::nth_element(times.begin(), middle, times.end());
      medians.back().push_back(*middle);
    }
  }
  return medians;
}

}  // namespace trireme::tune
