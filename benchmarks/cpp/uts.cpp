// The unbalanced tree as tasks: near the root every child is a task of its own, below `split` levels one task
// searches what is left of its branch.
#include "benchmarks/workloads/uts.hpp"

#include "benchmarks/cpp/common.hpp"

namespace {

using namespace trireme::bench;

std::uint64_t count_below(const UtsTree& tree, const UtsNode& root) {
  std::vector<UtsNode> stack{root};
  std::uint64_t nodes = 0;
  while (!stack.empty()) {
    const UtsNode node = stack.back();
    stack.pop_back();
    ++nodes;
    const int children = uts_children(tree, node);
    for (int i = 0; i < children; ++i) stack.push_back(uts_child(tree, node, i));
  }
  return nodes;
}

std::uint64_t search(const UtsTree& tree, const UtsNode& node, int split) {
  if (node.depth >= split) return count_below(tree, node);
  std::vector<trireme::Ref<std::uint64_t>> parts;
  const int children = uts_children(tree, node);
  for (int i = 0; i < children; ++i) parts.push_back(trireme::submit<&search>(tree, uts_child(tree, node, i), split));
  std::uint64_t nodes = 1;
  for (const auto& part : parts) nodes += trireme::get(part);
  return nodes;
}

int here() { return 0; }

std::optional<double> rate(const Arguments& arguments) {
  UtsTree tree;
  tree.depth_max = static_cast<int>(arguments.number("depth", 10));
  tree.seed = arguments.number("seed", 19);
  const auto split = static_cast<int>(arguments.number("split", 5));
  for (trireme::Rank r = 0; r < trireme::rank_count(); ++r) trireme::get(trireme::submit_with<&here>(on_rank(r)));
  std::uint64_t nodes = 0;
  const double seconds =
      seconds_of([&] { nodes = trireme::get(trireme::submit<&search>(tree, uts_root(tree), split)); });
  expect(tree.seed != 23 || tree.depth_max != 10 || nodes == 4033123, "nodes of the tree");
  return static_cast<double>(nodes) / seconds / 1e6;
}

}  // namespace

int main(int argc, char** argv) {
  trireme::Runtime runtime(argc, argv);
  Program program;
  program.add("search", "M nodes/s", rate);
  return program.run(argc, argv);
}
