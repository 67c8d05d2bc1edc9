#include "scheduler/topology.hpp"

#include <hwloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>

namespace trireme::scheduler {
namespace {

struct HwlocFree {
  void operator()(hwloc_topology* topology) const { hwloc_topology_destroy(topology); }
  void operator()(hwloc_bitmap_s* bitmap) const { hwloc_bitmap_free(bitmap); }
};
using HwlocTopology = std::unique_ptr<hwloc_topology, HwlocFree>;
using Bitmap = std::unique_ptr<hwloc_bitmap_s, HwlocFree>;

std::vector<int> to_vector(hwloc_const_bitmap_t bitmap) {
  std::vector<int> out;
  for (int cpu = hwloc_bitmap_first(bitmap); cpu >= 0; cpu = hwloc_bitmap_next(bitmap, cpu)) out.push_back(cpu);
  return out;
}

Bitmap usable_cpus(hwloc_topology_t topology, const TopologyQuery& query) {
  Bitmap usable(hwloc_bitmap_alloc());
  if (query.affinity) {
    for (int cpu : *query.affinity) hwloc_bitmap_set(usable.get(), static_cast<unsigned>(cpu));
  } else if (!query.synthetic.empty() || hwloc_get_cpubind(topology, usable.get(), HWLOC_CPUBIND_THREAD) != 0) {
    hwloc_bitmap_copy(usable.get(), hwloc_topology_get_topology_cpuset(topology));
  }
  hwloc_bitmap_and(usable.get(), usable.get(), hwloc_topology_get_allowed_cpuset(topology));
  return usable;
}

int numa_of(hwloc_obj_t object) {
  // Memory hangs beside the tree in hwloc 2: the nearest ancestor that has some.
  for (hwloc_obj_t at = object; at != nullptr; at = at->parent) {
    for (hwloc_obj_t memory = at->memory_first_child; memory != nullptr; memory = memory->next_sibling) {
      hwloc_obj_t node = memory;
      while (node != nullptr && node->type != HWLOC_OBJ_NUMANODE) node = node->memory_first_child;
      if (node != nullptr) return static_cast<int>(node->os_index);
    }
  }
  return 0;
}

void add_cores(hwloc_topology_t topology, hwloc_const_bitmap_t usable, Topology& out) {
  // Machines that do not tell their cores are taken as one core per hardware thread.
  const hwloc_obj_type_t level = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
  Bitmap mine(hwloc_bitmap_alloc());
  for (hwloc_obj_t object = nullptr; (object = hwloc_get_next_obj_by_type(topology, level, object)) != nullptr;) {
    hwloc_bitmap_and(mine.get(), object->cpuset, usable);
    if (hwloc_bitmap_iszero(mine.get()) != 0) continue;
    Core core;
    core.cpus = to_vector(mine.get());
    core.numa = numa_of(object);
    const hwloc_obj_t package = hwloc_get_ancestor_obj_by_type(topology, HWLOC_OBJ_PACKAGE, object);
    core.package = package != nullptr ? static_cast<int>(package->logical_index) : 0;
    out.cores.push_back(std::move(core));
  }
}

std::uint64_t last_level_cache(hwloc_topology_t topology) {
  for (hwloc_obj_type_t level : {HWLOC_OBJ_L4CACHE, HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L1CACHE}) {
    const hwloc_obj_t cache = hwloc_get_obj_by_type(topology, level, 0);
    if (cache != nullptr) return cache->attr->cache.size;
  }
  return 0;
}

/// Keeps the NUMA nodes that have a core here, with the cpus that are here.
void sum_up_numa(Topology& topology) {
  std::vector<NumaNode> kept;
  for (NumaNode& node : topology.numa) {
    node.cpus.clear();
    for (const Core& core : topology.cores) {
      if (core.numa == node.os_index) node.cpus.insert(node.cpus.end(), core.cpus.begin(), core.cpus.end());
    }
    std::sort(node.cpus.begin(), node.cpus.end());
    if (!node.cpus.empty()) kept.push_back(std::move(node));
  }
  topology.numa = std::move(kept);
}

}  // namespace

Result<Topology> discover_topology(const TopologyQuery& query) {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0)
    return make_error(Errc::unavailable, "hwloc_topology_init failed: out of memory?");
  const HwlocTopology handle(raw);
  if (!query.synthetic.empty() && hwloc_topology_set_synthetic(raw, query.synthetic.c_str()) != 0) {
    return make_error(Errc::invalid_argument,
                      "hwloc does not understand the synthetic machine '" + query.synthetic + "'");
  }
  if (hwloc_topology_load(raw) != 0) {
    return make_error(Errc::unavailable,
                      "hwloc cannot read this machine: look at what `lstopo` says (HWLOC_* variables?)");
  }

  Topology out;
  char host[256] = {};
  gethostname(host, sizeof host - 1);
  out.host = host;
  out.machine_cpus = static_cast<unsigned>(hwloc_bitmap_weight(hwloc_topology_get_complete_cpuset(raw)));
  out.packages = static_cast<unsigned>(std::max(1, hwloc_get_nbobjs_by_type(raw, HWLOC_OBJ_PACKAGE)));
  out.cache_bytes = last_level_cache(raw);
  const Bitmap usable = usable_cpus(raw, query);
  add_cores(raw, usable.get(), out);
  if (out.cores.empty()) {
    return make_error(Errc::unavailable, "no cpu is left for this rank: the affinity names none of the " +
                                             std::to_string(out.machine_cpus) + " cpus that the control group allows");
  }
  std::uint64_t machine_memory = 0;
  for (hwloc_obj_t node = nullptr; (node = hwloc_get_next_obj_by_type(raw, HWLOC_OBJ_NUMANODE, node)) != nullptr;) {
    out.numa.push_back({static_cast<int>(node->os_index), node->attr->numanode.local_memory, {}});
    machine_memory += node->attr->numanode.local_memory;
  }
  sum_up_numa(out);
  out.cgroup = read_cgroup_limits(query.cgroup_root, query.cgroup_of_self);
  out.memory_bytes = machine_memory;
  if (out.cgroup.memory_bytes != 0) out.memory_bytes = std::min(machine_memory, out.cgroup.memory_bytes);
  out.rdma = find_rdma_devices(query.rdma_root);
  if (!query.nvml_library.empty()) {
    out.gpus = find_gpus(query.nvml_library,
                         query.visible_gpus ? query.visible_gpus->c_str() : std::getenv("CUDA_VISIBLE_DEVICES"));
  }
  return out;
}

std::vector<int> Topology::cpus() const {
  std::vector<int> all;
  for (const Core& core : cores) all.insert(all.end(), core.cpus.begin(), core.cpus.end());
  std::sort(all.begin(), all.end());
  return all;
}

unsigned Topology::threads() const {
  const auto own = static_cast<unsigned>(cores.size());
  if (cgroup.cpus <= 0) return own;
  const auto allowed = static_cast<unsigned>(cgroup.cpus / share_count);
  return std::clamp(allowed, 1U, own);
}

std::vector<int> Topology::pin_to() const {
  // With fewer threads than cores the kernel spreads them better than a fixed choice; with shared cores it balances
  // ranks.
  if (threads() < cores.size() || cores.empty()) return {};
  std::vector<int> out;
  for (const Core& core : cores) out.push_back(core.cpus.front());
  return out;
}

namespace {

/// The cores of `rank`, a rank of the node of `whole`, as indices into `whole.cores`.
struct Part {
  std::vector<std::size_t> cores;
  unsigned index = 0, count = 1;
};

std::vector<Rank> ranks_on_node_of(std::span<const Place> places, Rank self) {
  std::vector<Rank> ranks;
  for (Rank r = 0; r < places.size(); ++r) {
    if (places[r].node == places[self].node) ranks.push_back(r);
  }
  return ranks;
}

Part part_of(const Topology& whole, std::span<const Place> places, std::span<const Rank> on_node, Rank rank) {
  const Place& place = places[rank];
  Part part;
  part.count = 0;
  for (Rank r : on_node) {
    if (places[r].cpus != place.cpus) continue;
    if (r == rank) part.index = part.count;
    ++part.count;
  }
  std::vector<std::size_t> mine;
  for (std::size_t i = 0; i < whole.cores.size(); ++i) {
    const std::vector<int>& cpus = whole.cores[i].cpus;
    const bool inside = std::any_of(cpus.begin(), cpus.end(), [&](int cpu) {
      return std::binary_search(place.cpus.begin(), place.cpus.end(), cpu);
    });
    if (inside) mine.push_back(i);
  }
  if (mine.empty()) return part;
  if (part.count > mine.size()) {
    part.cores.push_back(mine[part.index % mine.size()]);
    return part;
  }
  const std::size_t begin = mine.size() * part.index / part.count;
  const std::size_t end = mine.size() * (part.index + 1) / part.count;
  part.cores.assign(mine.begin() + static_cast<std::ptrdiff_t>(begin), mine.begin() + static_cast<std::ptrdiff_t>(end));
  return part;
}

int first_numa(const Topology& whole, const Part& part) {
  return part.cores.empty() ? -1 : whole.cores[part.cores.front()].numa;
}

Distance between(const Topology& whole, const Part& mine, const Part& theirs) {
  Distance best = Distance::same_node;
  for (std::size_t a : mine.cores) {
    for (std::size_t b : theirs.cores) {
      if (a == b) return Distance::same_core;
      if (whole.cores[a].numa == whole.cores[b].numa) best = Distance::same_numa;
    }
  }
  return best;
}

}  // namespace

Topology divide(const Topology& whole, std::span<const Place> places, Rank self) {
  const std::vector<Rank> on_node = ranks_on_node_of(places, self);
  const Part part = part_of(whole, places, on_node, self);
  Topology mine = whole;
  mine.share_index = part.index;
  mine.share_count = part.count;
  mine.cores.clear();
  for (std::size_t i : part.cores) mine.cores.push_back(whole.cores[i]);
  // Ranks of a node share its memory and, by the launcher's usual set-up, its control group.
  mine.memory_bytes = whole.memory_bytes / on_node.size();
  sum_up_numa(mine);
  return mine;
}

Distance distance(const Topology& whole, std::span<const Place> places, Rank self, Rank peer) {
  if (places[self].node != places[peer].node) return Distance::other_node;
  const std::vector<Rank> on_node = ranks_on_node_of(places, self);
  return between(whole, part_of(whole, places, on_node, self), part_of(whole, places, on_node, peer));
}

std::vector<std::vector<std::uint32_t>> locality_groups(const Topology& whole, std::span<const Place> places,
                                                        Rank self) {
  constexpr std::uint32_t kElsewhere = UINT32_MAX;
  std::vector<std::uint32_t> numa(places.size(), kElsewhere);
  std::vector<std::uint32_t> node(places.size(), kElsewhere);
  std::map<std::string_view, std::uint32_t> numbers;
  for (Rank r = 0; r < places.size(); ++r) {
    node[r] = numbers.emplace(places[r].node, static_cast<std::uint32_t>(numbers.size())).first->second;
  }
  const std::vector<Rank> on_node = ranks_on_node_of(places, self);
  for (Rank r : on_node)
    numa[r] = static_cast<std::uint32_t>(first_numa(whole, part_of(whole, places, on_node, r)) + 1);
  return {std::move(numa), std::move(node)};
}

}  // namespace trireme::scheduler
