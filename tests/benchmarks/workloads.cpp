#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "benchmarks/workloads/metg.hpp"
#include "benchmarks/workloads/patterns.hpp"
#include "benchmarks/workloads/uts.hpp"

using namespace trireme::bench;

TEST_CASE("in every pattern a task is an output of exactly its inputs") {
  for (const Pattern pattern : {Pattern::trivial, Pattern::stencil_1d, Pattern::fft, Pattern::tree}) {
    for (const int width : {1, 2, 5, 8, 16}) {
      CAPTURE(static_cast<int>(pattern));
      CAPTURE(width);
      const Grid grid(pattern, width);
      for (std::int64_t t = 1; t < 12; ++t) {
        std::set<std::pair<int, int>> asked;
        std::set<std::pair<int, int>> offered;
        for (int c = 0; c < grid.active(t); ++c) {
          const Columns in = grid.inputs(t, c);
          for (int i = 0; i < in.count; ++i) asked.insert({in.column[i], c});
        }
        for (int c = 0; c < grid.active(t - 1); ++c) {
          const Columns out = grid.outputs(t - 1, c);
          for (int i = 0; i < out.count; ++i) offered.insert({c, out.column[i]});
        }
        CHECK(asked == offered);
      }
    }
  }
}

TEST_CASE("no task needs a column that has no task before it") {
  const Grid tree(Pattern::tree, 8);
  CHECK(tree.active(0) == 1);
  CHECK(tree.active(2) == 4);
  CHECK(tree.active(40) == 8);
  CHECK(tree.tasks(5) == 1 + 2 + 4 + 8 + 8);
  for (std::int64_t t = 1; t < 8; ++t) {
    for (int c = 0; c < tree.active(t); ++c) {
      const Columns in = tree.inputs(t, c);
      for (int i = 0; i < in.count; ++i) CHECK(in.column[i] < tree.active(t - 1));
    }
  }
}

TEST_CASE("METG of a machine with a fixed cost a task is twice that cost") {
  // A task of n rounds takes overhead + n / rate, so half of the peak is reached where the two are equal.
  constexpr double kRate = 1e9;
  for (const double overhead : {50e-9, 1e-6, 30e-6}) {
    for (const int cores : {1, 4}) {
      const MetgProblem problem{cores, 8, kRate * cores};
      const double us = metg_us(problem, [&](std::uint64_t iterations, std::int64_t timesteps) {
        const double a_task = overhead + static_cast<double>(iterations) / kRate;
        return a_task * 8 * static_cast<double>(timesteps) / cores;
      });
      CHECK(us == doctest::Approx(2 * overhead * 1e6).epsilon(0.1));
    }
  }
}

TEST_CASE("the unbalanced tree is the same wherever its nodes are expanded, and is unbalanced") {
  UtsTree tree;
  tree.seed = 23;
  tree.depth_max = 6;
  const UtsNode root = uts_root(tree);
  const int children = uts_children(tree, root);
  REQUIRE(children > 1);
  std::uint64_t sum = 1;
  std::uint64_t largest = 0;
  std::uint64_t smallest = UINT64_MAX;
  for (int i = 0; i < children; ++i) {
    // A subtree counted on its own, as a thief would.
    std::uint64_t nodes = 0;
    std::vector<UtsNode> stack{uts_child(tree, root, i)};
    while (!stack.empty()) {
      const UtsNode node = stack.back();
      stack.pop_back();
      ++nodes;
      for (int j = 0; j < uts_children(tree, node); ++j) stack.push_back(uts_child(tree, node, j));
    }
    sum += nodes;
    largest = std::max(largest, nodes);
    smallest = std::min(smallest, nodes);
  }
  CHECK(sum == uts_count(tree));
  CHECK(largest > 4 * smallest);
}
