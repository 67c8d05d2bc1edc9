#pragma once

#include "ml/collective/fabric.hpp"

namespace trireme::ml {

/// Collectives among the members of one node, in their shared memory. Every one is made of phases that all members
/// pass together. Members combine in the order of their local numbers.

inline constexpr std::uint32_t kEverybody = UINT32_MAX;

/// What is small enough to be read by every member from every member in one phase.
bool is_direct(const Fabric& fabric, std::size_t bytes);
/// The two halves of that: write and publish, to be followed by Fabric::announce(); combine once arrived() is true.
void direct_publish(Fabric& fabric, const void* in, std::size_t bytes);
void direct_fold(Fabric& fabric, void* out, std::size_t count, DType type, ReduceOp op, unsigned mean_of);

Task node_barrier(Fabric& fabric);
/// Combines `in` of all into `out` of `root` (a local number) or of kEverybody; `out` may be `in`.
Task node_reduce(Fabric& fabric, const void* in, void* out, std::size_t count, DType type, ReduceOp op,
                 unsigned mean_of, std::uint32_t root);
Task node_broadcast(Fabric& fabric, void* data, std::size_t bytes, std::uint32_t root);
Task node_all_gather(Fabric& fabric, const void* mine, void* all, std::size_t bytes);
Task node_reduce_scatter(Fabric& fabric, const void* all, void* mine, std::size_t count, DType type, ReduceOp op,
                         unsigned mean_of);
Task node_all_to_all(Fabric& fabric, const void* from, void* to, std::size_t bytes);

}  // namespace trireme::ml
