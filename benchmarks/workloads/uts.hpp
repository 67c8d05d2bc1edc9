#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace trireme::bench {

/// A tree that nobody can balance beforehand, after the Unbalanced Tree Search benchmark: the number of children
/// of a node is drawn from a geometric distribution by a generator that splits, so any process can expand any node
/// from its 16 bytes. Below `depth_max` there are no children.
struct UtsTree {
  std::uint64_t seed = 19;
  double branching = 4;  ///< expected children of an inner node
  int depth_max = 10;
  int rounds = 60;  ///< mixing rounds a node, so that a node costs about what one SHA-1 does in the original
};

struct UtsNode {
  std::uint64_t state = 0;
  std::int32_t depth = 0;
};

inline std::uint64_t uts_mix(std::uint64_t z, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    z += 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
    z ^= z >> 31U;
  }
  return z;
}

inline UtsNode uts_root(const UtsTree& tree) { return {uts_mix(tree.seed, tree.rounds), 0}; }

inline int uts_children(const UtsTree& tree, const UtsNode& node) {
  if (node.depth >= tree.depth_max) return 0;
  const double u = static_cast<double>(node.state >> 11U) * 0x1.0p-53;
  const double stop = 1.0 / (1.0 + tree.branching);
  return static_cast<int>(std::floor(std::log1p(-u) / std::log1p(-stop)));
}

inline UtsNode uts_child(const UtsTree& tree, const UtsNode& node, int i) {
  return {uts_mix(node.state + static_cast<std::uint64_t>(i) * 0xD1B54A32D192ED03ULL, tree.rounds), node.depth + 1};
}

/// Visits the whole tree on the calling thread and counts its nodes.
inline std::uint64_t uts_count(const UtsTree& tree) {
  std::vector<UtsNode> stack{uts_root(tree)};
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

}  // namespace trireme::bench
