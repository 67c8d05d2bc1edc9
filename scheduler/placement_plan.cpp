#include <algorithm>
#include <limits>
#include <numeric>
#include <set>

#include <fmt/format.h>

#include "scheduler/placement_group.hpp"

namespace trireme::scheduler {
namespace {

/// Steps of one exhaustive search: some 10 ms. Only contrived groups need more.
constexpr std::uint32_t kStepsMax = 100'000;
/// Nodes that PACK compares before it takes the best of them.
constexpr std::uint32_t kNodesCompared = 256;

/// One attempt to place the open bundles into `free`, which it changes.
struct Planner {
  const ClusterView& view;
  GroupStrategy strategy;
  const std::vector<Resources>& bundles;
  const BundleRules& rules;
  std::vector<std::vector<bool>> allowed;  // by bundle, by rank; empty where the bundle has no rules
  std::vector<Resources> free;             // by rank; meaningful where `usable`
  std::vector<bool> usable;                // by rank
  std::vector<Rank> ranks;                 // by bundle; kNoRank is open
  std::vector<std::uint32_t> open;         // bundles to place, large ones first
  std::vector<std::uint32_t> node_order;   // own node first
  std::uint32_t steps = 0;

  void look_at_labels() {
    if (rules.empty()) return;
    allowed.resize(bundles.size());
    for (std::size_t i = 0; i < bundles.size(); ++i) {
      if (rules[i].empty()) continue;
      if (i > 0 && rules[i] == rules[i - 1]) {
        allowed[i] = allowed[i - 1];
        continue;
      }
      allowed[i].resize(view.size());
      for (Rank rank = 0; rank < view.size(); ++rank) {
        const auto& labels = view.labels(rank);
        allowed[i][rank] = std::all_of(rules[i].begin(), rules[i].end(),
                                       [&labels](const LabelRule& rule) { return rule.holds(labels); });
      }
    }
  }
  bool may_go(std::uint32_t bundle, Rank rank) const {
    return usable[rank] && (allowed.empty() || allowed[bundle].empty() || allowed[bundle][rank]) &&
           bundles[bundle].fits(free[rank]);
  }
  bool put(std::uint32_t bundle, Rank rank) {
    if (!may_go(bundle, rank)) return false;
    free[rank] -= bundles[bundle];
    ranks[bundle] = rank;
    return true;
  }
  void take_back(std::uint32_t bundle) {
    free[ranks[bundle]] += bundles[bundle];
    ranks[bundle] = kNoRank;
  }
  Rank fitting_rank(std::uint32_t bundle, std::uint32_t node) const {
    for (const Rank rank : view.ranks_of_node(node))
      if (may_go(bundle, rank)) return rank;
    return kNoRank;
  }

  /// Depth-first over all ways to put open[at...] on `bins`. Exact unless the steps run out.
  bool search(const std::vector<Rank>& bins, std::size_t at, std::size_t first_bin) {
    if (at == open.size()) return true;
    const auto bundle = open[at];
    for (std::size_t bin = first_bin; bin < bins.size(); ++bin) {
      if (++steps > kStepsMax) return false;
      const Rank rank = bins[bin];
      // A bin as empty as the one before it would only repeat that one's failure, if all bundles may go to both.
      if (allowed.empty() && bin > first_bin && free[rank] == free[bins[bin - 1]]) continue;
      if (!put(bundle, rank)) continue;
      // Equal bundles are interchangeable: the next one need not try the bins that this one left behind.
      const bool same = at + 1 < open.size() && bundles[open[at + 1]] == bundles[bundle] &&
                        (rules.empty() || rules[open[at + 1]] == rules[bundle]);
      if (search(bins, at + 1, same ? bin : 0)) return true;
      take_back(bundle);
    }
    return false;
  }
  bool search_all() {
    std::vector<Rank> bins;
    for (Rank rank = 0; rank < view.size(); ++rank)
      if (usable[rank]) bins.push_back(rank);
    steps = 0;
    return search(bins, 0, 0);
  }

  bool strict_pack() {
    std::vector<std::uint32_t> nodes = node_order;
    for (const Rank rank : ranks)
      if (rank != kNoRank) nodes = {view.node_of(rank)};
    Resources sum;
    for (const auto bundle : open) sum += bundles[bundle];
    for (const auto node : nodes) {
      Resources there;
      std::vector<Rank> bins;
      for (const Rank rank : view.ranks_of_node(node)) {
        if (!usable[rank]) continue;
        bins.push_back(rank);
        there += free[rank];
      }
      if (!sum.fits(there)) continue;
      steps = 0;
      if (search(bins, 0, 0)) return true;
    }
    return false;
  }

  /// Bundles to nodes as a bipartite matching by augmenting paths.
  bool strict_spread() {
    constexpr auto kNobody = std::numeric_limits<std::uint32_t>::max();
    std::vector<std::uint32_t> taken_by(view.nodes(), kNobody);
    std::vector<bool> closed(view.nodes(), false);
    for (const Rank rank : ranks)
      if (rank != kNoRank) closed[view.node_of(rank)] = true;
    if (open.size() > view.nodes()) return false;
    std::vector<std::uint32_t> seen(view.nodes(), 0);
    std::uint32_t round = 0;
    std::size_t cursor = 0;
    const auto augment = [&](auto& self, std::uint32_t bundle) -> bool {
      for (std::size_t i = 0; i < node_order.size(); ++i) {
        const auto node = node_order[(cursor + i) % node_order.size()];
        if (closed[node] || taken_by[node] != kNobody || fitting_rank(bundle, node) == kNoRank) continue;
        taken_by[node] = bundle;
        cursor = (cursor + i + 1) % node_order.size();
        return true;
      }
      for (const auto node : node_order) {
        if (closed[node] || seen[node] == round || fitting_rank(bundle, node) == kNoRank) continue;
        seen[node] = round;
        if (self(self, taken_by[node])) {
          taken_by[node] = bundle;
          return true;
        }
      }
      return false;
    };
    for (const auto bundle : open) {
      ++round;
      if (!augment(augment, bundle)) return false;
    }
    for (std::uint32_t node = 0; node < view.nodes(); ++node)
      if (taken_by[node] != kNobody) put(taken_by[node], fitting_rank(taken_by[node], node));
    return true;
  }

  /// How many of `left` fit on the node, first fit; undone when `keep` is false.
  std::size_t fill(std::uint32_t node, const std::vector<std::uint32_t>& left, bool keep) {
    std::vector<std::uint32_t> placed;
    for (const auto bundle : left)
      if (const Rank rank = fitting_rank(bundle, node); rank != kNoRank && put(bundle, rank)) placed.push_back(bundle);
    if (!keep)
      for (const auto bundle : placed) take_back(bundle);
    return placed.size();
  }

  bool pack() {
    auto nodes = node_order;
    // Nodes that already hold bundles of this group come first.
    std::stable_partition(nodes.begin(), nodes.end(), [&](std::uint32_t node) {
      return std::any_of(ranks.begin(), ranks.end(),
                         [&](Rank rank) { return rank != kNoRank && view.node_of(rank) == node; });
    });
    auto left = open;
    while (!left.empty()) {
      std::size_t best = 0;
      auto best_node = nodes[0];
      std::uint32_t compared = 0;
      for (const auto node : nodes) {
        const auto count = fill(node, left, false);
        if (count > best) {
          best = count;
          best_node = node;
        }
        if (best == left.size() || (best > 0 && ++compared >= kNodesCompared)) break;
      }
      if (best == 0) {
        for (const auto bundle : open)
          if (ranks[bundle] != kNoRank) take_back(bundle);
        return search_all();
      }
      fill(best_node, left, true);
      std::erase_if(left, [&](std::uint32_t bundle) { return ranks[bundle] != kNoRank; });
    }
    return true;
  }

  bool spread() {
    if (open.size() <= view.nodes() && strict_spread()) return true;
    std::vector<std::uint32_t> used(view.nodes(), 0);
    for (const Rank rank : ranks)
      if (rank != kNoRank) ++used[view.node_of(rank)];
    // Rounds: everybody gets one before anybody gets two.
    for (const auto bundle : open) {
      auto best = std::numeric_limits<std::uint32_t>::max();
      Rank best_rank = kNoRank;
      for (const auto node : node_order) {
        if (used[node] >= best) continue;
        if (const Rank rank = fitting_rank(bundle, node); rank != kNoRank) {
          best = used[node];
          best_rank = rank;
          if (best == 0) break;
        }
      }
      if (best_rank == kNoRank) {
        for (const auto placed : open)
          if (ranks[placed] != kNoRank) take_back(placed);
        return search_all();
      }
      put(bundle, best_rank);
      ++used[view.node_of(best_rank)];
    }
    return true;
  }

  bool run() {
    switch (strategy) {
      case GroupStrategy::pack:
        return pack();
      case GroupStrategy::spread:
        return spread();
      case GroupStrategy::strict_pack:
        return strict_pack();
      case GroupStrategy::strict_spread:
        return strict_spread();
    }
    return false;
  }
};

std::string_view name_of(GroupStrategy strategy) {
  switch (strategy) {
    case GroupStrategy::pack:
      return "PACK";
    case GroupStrategy::spread:
      return "SPREAD";
    case GroupStrategy::strict_pack:
      return "STRICT_PACK";
    case GroupStrategy::strict_spread:
      return "STRICT_SPREAD";
  }
  return "?";
}

/// The labels of the living ranks, each once, some of them when there are many.
std::string labels_of(const ClusterView& view) {
  constexpr std::size_t kShown = 20;
  std::set<std::string> known;
  for (Rank rank = 0; rank < view.size(); ++rank) {
    if (!view.alive(rank)) continue;
    for (const auto& [key, value] : view.labels(rank))
      if (known.size() <= kShown) known.insert(key + "=" + value);
  }
  if (known.empty()) return "none";
  if (known.size() <= kShown) return fmt::format("{}", fmt::join(known, ", "));
  known.erase(std::prev(known.end()));
  return fmt::format("{}, ...", fmt::join(known, ", "));
}

Error nowhere(const ClusterView& view, GroupStrategy strategy, const std::vector<Resources>& bundles,
              const BundleRules& rules) {
  std::string asked;
  for (std::size_t i = 0, shown = 0; i < bundles.size(); ++shown) {
    auto end = i;
    while (end < bundles.size() && bundles[end] == bundles[i] && (rules.empty() || rules[end] == rules[i])) ++end;
    if (shown == 4) {
      asked += ", ...";
      break;
    }
    asked += fmt::format("{}{} x {}", i > 0 ? ", " : "", end - i, bundles[i].text());
    for (std::size_t rule = 0; !rules.empty() && rule < rules[i].size(); ++rule)
      asked += fmt::format(" with {}", rules[i][rule].text());
    i = end;
  }
  std::uint32_t ranks = 0, nodes = 0;
  Resources all, best;
  for (std::uint32_t node = 0; node < view.nodes(); ++node) {
    Resources sum;
    bool living = false;
    for (const Rank rank : view.ranks_of_node(node)) {
      if (!view.alive(rank)) continue;
      living = true;
      ++ranks;
      sum += view.total(rank);
    }
    nodes += living ? 1 : 0;
    all += sum;
    if (best.fits(sum)) best = sum;
  }
  return make_error(
      Errc::unschedulable,
      fmt::format("asked a {} placement group of {} bundles ({}); exists: {} living ranks on {} nodes with {} "
                  "in total, largest node {}{}; {}: ask for smaller or fewer bundles{}",
                  name_of(strategy), bundles.size(), asked, ranks, nodes, all.text(), best.text(),
                  rules.empty() ? "" : fmt::format(", labels {}", labels_of(view)),
                  view.can_grow() ? "it waits until the job grows" : "this job cannot grow",
                  rules.empty() ? "" : ", or for labels that ranks have"));
}

}  // namespace

Result<BundlePlan> plan_bundles(const ClusterView& view, GroupStrategy strategy, const std::vector<Resources>& bundles,
                                const std::vector<Rank>& fixed, const std::vector<Rank>& busy,
                                const std::vector<Rank>& tried, const BundleRules& rules) {
  if (bundles.empty()) return make_error(Errc::invalid_argument, "a placement group needs at least one bundle");
  Planner planner{view, strategy, bundles, rules, {}, {}, {}, {}, {}, {}, 0};
  planner.look_at_labels();
  for (std::uint32_t i = 0; i < bundles.size(); ++i)
    if (fixed.empty() || fixed[i] == kNoRank) planner.open.push_back(i);

  // Size: the largest share of what the largest rank has.
  Resources largest;
  for (Rank rank = 0; rank < view.size(); ++rank) {
    const auto& total = view.total(rank);
    largest.set_cpu_units(std::max(largest.cpu_units(), total.cpu_units()));
    largest.set_gpu_units(std::max(largest.gpu_units(), total.gpu_units()));
    largest.set_memory_bytes(std::max(largest.memory_bytes(), total.memory_bytes()));
  }
  const auto size_of = [&](const Resources& bundle) {
    const auto share = [](std::int64_t part, std::int64_t whole) {
      return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
    };
    return std::max({share(bundle.cpu_units(), largest.cpu_units()), share(bundle.gpu_units(), largest.gpu_units()),
                     share(bundle.memory_bytes(), largest.memory_bytes()), bundle.custom().empty() ? 0.0 : 1.0});
  };
  std::stable_sort(planner.open.begin(), planner.open.end(), [&](std::uint32_t a, std::uint32_t b) {
    const auto size_a = size_of(bundles[a]), size_b = size_of(bundles[b]);
    return size_a != size_b ? size_a > size_b : bundles[a] > bundles[b];
  });
  planner.node_order.resize(view.nodes());
  std::iota(planner.node_order.begin(), planner.node_order.end(), 0U);
  std::rotate(planner.node_order.begin(), planner.node_order.begin() + view.node_of(view.self()),
              planner.node_order.end());

  for (const auto pass : {BundlePlan::From::free, BundlePlan::From::untried, BundlePlan::From::all}) {
    const bool now = pass == BundlePlan::From::free;
    if (pass == BundlePlan::From::untried && tried.empty()) continue;
    planner.ranks = fixed.empty() ? std::vector<Rank>(bundles.size(), kNoRank) : fixed;
    planner.usable.assign(view.size(), false);
    planner.free.assign(view.size(), Resources{});
    for (Rank rank = 0; rank < view.size(); ++rank) {
      planner.usable[rank] = view.alive(rank);
      planner.free[rank] = now ? view.available(rank) : view.total(rank);
    }
    if (pass != BundlePlan::From::all)
      for (const Rank rank : now ? busy : tried) planner.usable[rank] = false;
    if (!now)
      for (std::size_t i = 0; i < bundles.size(); ++i)
        if (planner.ranks[i] != kNoRank) planner.free[planner.ranks[i]] -= bundles[i];
    if (planner.run()) return BundlePlan{std::move(planner.ranks), pass};
  }
  return nowhere(view, strategy, bundles, rules);
}

}  // namespace trireme::scheduler
