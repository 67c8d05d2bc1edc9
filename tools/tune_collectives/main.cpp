// Measures where one algorithm of a group should give way to another on this machine, and prints the setting. Run it
// as the job will be run: `mpirun -n 4 trireme-tune-collectives`, `srun --mpi=pmix trireme-tune-collectives`. Takes
// some seconds a threshold.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <string_view>
#include <trireme/ml/group.hpp>
#include <trireme/trireme.hpp>

#include "tools/tune_collectives/measure.hpp"

namespace {

using trireme::ml::Thresholds;
using trireme::tune::Plan;
using trireme::tune::Times;

constexpr std::uint64_t kKiB = 1024;
/// A candidate takes the place of the default only if it is faster by this much: the machine is not that quiet.
constexpr double kClearly = 0.95;

std::string human(std::uint64_t bytes) {
  if (bytes >= kKiB * kKiB && bytes % (kKiB * kKiB) == 0) return std::to_string(bytes / kKiB / kKiB) + "m";
  return bytes >= kKiB && bytes % kKiB == 0 ? std::to_string(bytes / kKiB) + "k" : std::to_string(bytes);
}

/// Times in seconds by size, then by variant, as the first member sees them.
Times run(const std::vector<trireme::Rank>& team, const Plan& plan) {
  static int number = 0;
  const auto name = "tune-collectives-" + std::to_string(number++);
  std::vector<trireme::Ref<Times>> results;
  for (std::uint32_t member = 0; member < team.size(); ++member) {
    trireme::TaskOptions there;
    there.placement = trireme::Placement::on(team[member]);
    results.push_back(trireme::submit_with<&trireme::tune::measure>(there, name, member,
                                                                    static_cast<std::uint32_t>(team.size()), plan));
  }
  auto times = trireme::get(results[0]);
  for (const auto& result : results) trireme::get(result);
  return times;
}

void print(std::string_view title, const Plan& plan, const std::vector<std::string>& columns, const Times& times) {
  std::printf("\n%.*s, us an operation\n%10s", static_cast<int>(title.size()), title.data(), "bytes");
  for (const auto& column : columns) std::printf(" %12s", column.c_str());
  std::printf("\n");
  for (std::size_t size = 0; size < plan.sizes.size(); ++size) {
    std::printf("%10s", human(plan.sizes[size]).c_str());
    for (const double time : times[size]) std::printf(" %12.2f", time * 1e6);
    std::printf("\n");
  }
  std::fflush(stdout);
}

/// The size up to which to take the first variant and above which the second, for the least time over all sizes (as a
/// product of ratios, so that one noisy size does not decide); 0 when the second is always better.
std::uint64_t crossover(const Plan& plan, const Times& times) {
  double total = 0;
  for (const auto& row : times) total += std::log(row[1]);
  double least = total;
  std::uint64_t upto = 0;
  for (std::size_t size = 0; size < plan.sizes.size(); ++size) {
    total += std::log(times[size][0]) - std::log(times[size][1]);
    if (total >= least) continue;
    least = total;
    upto = plan.sizes[size];
  }
  return upto;
}

std::vector<std::uint64_t> powers(std::uint64_t first, std::uint64_t last) {
  std::vector<std::uint64_t> list;
  for (; first <= last; first *= 2) list.push_back(first);
  return list;
}

class Tuner {
 public:
  Tuner(bool quick) : quick_(quick) {}
  Thresholds best;

  /// `few` up to the threshold, `many` above.
  void limit(std::string_view name, std::size_t Thresholds::*which, const std::vector<trireme::Rank>& team, Plan plan,
             std::uint64_t first, std::uint64_t last, std::string few, std::string many, std::uint64_t factor = 1) {
    plan.sizes = powers(first, quick_ ? std::min(last, first * 4) : last);
    for (const std::size_t value : {std::size_t{64} << 20U, std::size_t{0}}) {
      auto variant = best;
      variant.*which = value;
      plan.variants.push_back(to_string(variant));
    }
    plan.rounds = rounds();
    const auto times = run(team, plan);
    print(name, plan, {std::move(few), std::move(many)}, times);
    best.*which = crossover(plan, times) * factor;
  }

  /// The value that takes the least time over all sizes.
  void choice(std::string_view name, std::size_t Thresholds::*which, const std::vector<trireme::Rank>& team, Plan plan,
              const std::vector<std::uint64_t>& values, std::vector<std::uint64_t> sizes) {
    plan.sizes = std::move(sizes);
    if (quick_) plan.sizes.resize(1);
    std::vector<std::string> columns;
    std::vector<double> total(values.size());
    std::optional<std::size_t> now;
    for (std::size_t i = 0; i < values.size(); ++i) {
      auto variant = best;
      if (variant.*which == values[i]) now = i;
      variant.*which = values[i];
      plan.variants.push_back(to_string(variant));
      columns.push_back(human(values[i]));
    }
    plan.rounds = rounds();
    const auto times = run(team, plan);
    print(name, plan, columns, times);
    for (const auto& row : times)
      for (std::size_t i = 0; i < values.size(); ++i) total[i] += std::log(row[i]);
    const auto least = static_cast<std::size_t>(std::min_element(total.begin(), total.end()) - total.begin());
    const double gain = now ? std::exp((total[least] - total[*now]) / static_cast<double>(times.size())) : 0;
    if (gain <= kClearly) best.*which = values[least];
  }

 private:
  int rounds() const { return quick_ ? 3 : 9; }
  const bool quick_;
};

void tune(bool quick) {
  std::map<std::string, std::vector<trireme::Rank>> nodes;
  for (trireme::Rank rank = 0; rank < trireme::rank_count(); ++rank) {
    trireme::TaskOptions there;
    there.placement = trireme::Placement::on(rank);
    there.resources.cpus = 0;
    nodes[trireme::get(trireme::submit_with<&trireme::tune::node_here>(there))].push_back(rank);
  }
  std::vector<trireme::Rank> inside, across;
  for (const auto& [node, ranks] : nodes) {
    if (ranks.size() > inside.size()) inside = ranks;
    across.push_back(ranks[0]);
  }
  std::printf("%u ranks on %zu nodes, at most %zu on one\n", trireme::rank_count(), nodes.size(), inside.size());

  Tuner tuner(quick);
  const Plan reduce;
  Plan broadcast, fixed;
  broadcast.broadcast = true;
  fixed.fixed_order = true;
  if (inside.size() < 2) {
    std::printf("\nnode_direct, node_chunk: not measured, that needs two ranks on a node\n");
  } else {
    tuner.limit("node_direct", &Thresholds::node_direct, inside, reduce, 256, 32 * kKiB, "direct", "in parts",
                inside.size());
    tuner.choice("node_chunk", &Thresholds::node_chunk, inside, reduce, powers(64 * kKiB, 1024 * kKiB),
                 {1024 * kKiB, 4096 * kKiB, 16384 * kKiB});
  }
  if (across.size() < 2) {
    std::printf("\nnet_*, fixed_direct: not measured, that needs two nodes (TRIREME_NODE_ID forces ranks apart)\n");
  } else {
    // First the ring's pieces, which the others depend on.
    tuner.choice("net_segment", &Thresholds::net_segment, across, reduce, powers(128 * kKiB, 4096 * kKiB),
                 {2048 * kKiB, 4096 * kKiB, 8192 * kKiB, 32768 * kKiB});
    tuner.choice("net_ahead", &Thresholds::net_ahead, across, reduce, {1, 2, 4, 8},
                 {4096 * kKiB, 8192 * kKiB, 32768 * kKiB});
    if (across.size() == 2) {
      tuner.limit("net_doubling_of_two", &Thresholds::net_doubling_of_two, across, reduce, 8 * kKiB, 1024 * kKiB,
                  "doubling", "ring");
      std::printf("\nnet_doubling, net_tree: not measured, that needs three nodes\n");
    } else {
      tuner.limit("net_doubling", &Thresholds::net_doubling, across, reduce, 2 * kKiB, 1024 * kKiB, "doubling", "ring");
      tuner.limit("net_tree", &Thresholds::net_tree, across, broadcast, 8 * kKiB, 4096 * kKiB, "tree", "chain");
    }
    tuner.limit("fixed_direct", &Thresholds::fixed_direct, across, fixed, 512, 256 * kKiB, "to all", "in parts");
  }
  std::printf("\nTRIREME_COLLECTIVES=%s\n", to_string(tuner.best).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    trireme::Runtime runtime(argc, argv);
    const bool quick = argc == 2 && std::string_view(argv[1]) == "--quick";
    if (argc > 1 && !quick) {
      std::fprintf(stderr,
                   "usage: trireme-tune-collectives [--quick]\n"
                   "--quick measures a few sizes in a few rounds, for a first look; found '%s'\n",
                   argv[1]);
      return 2;
    }
    if (runtime.size() < 2) {
      std::fprintf(stderr,
                   "trireme-tune-collectives: a group needs two ranks or more, this job has one; start it with "
                   "mpirun -n N or srun -n N, as the job that is to be tuned\n");
      return 2;
    }
    tune(quick);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "trireme-tune-collectives: %s\n", error.what());
    return 1;
  }
  return 0;
}
