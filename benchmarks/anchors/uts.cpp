// The unbalanced tree without any balancing: one core, and what all cores could do if the balance were perfect.
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "benchmarks/harness/harness.hpp"
#include "benchmarks/harness/process.hpp"
#include "benchmarks/workloads/uts.hpp"

namespace {

using namespace trireme::bench;

/// Every thread visits the whole tree, so none waits for another: million nodes a second of all together.
double rate(const UtsTree& tree, std::size_t threads) {
  std::vector<std::uint64_t> nodes(threads);
  const double seconds = seconds_of([&] {
    std::vector<std::jthread> team;
    for (std::size_t i = 0; i < threads; ++i) {
      team.emplace_back([&, i] {
        pin_to_core(i);
        nodes[i] = uts_count(tree);
      });
    }
  });
  std::uint64_t sum = 0;
  for (const std::uint64_t n : nodes) sum += n;
  return static_cast<double>(sum) / seconds / 1e6;
}

UtsTree tree_of(const Arguments& arguments) {
  UtsTree tree;
  tree.depth_max = static_cast<int>(arguments.number("depth", 10));
  tree.seed = arguments.number("seed", 19);
  return tree;
}

}  // namespace

int main(int argc, char** argv) {
  Program program;
  program.add("sequential", "M nodes/s", [](const Arguments& a) { return rate(tree_of(a), 1); });
  program.add("perfect", "M nodes/s",
              [](const Arguments& a) { return rate(tree_of(a), a.number("cores", allowed_cores().size())); });
  program.add("nodes", "nodes", [](const Arguments& a) { return static_cast<double>(uts_count(tree_of(a))); });
  return program.run(argc, argv);
}
