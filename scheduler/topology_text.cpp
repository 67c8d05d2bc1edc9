#include <fmt/format.h>

#include "scheduler/topology.hpp"

namespace trireme::scheduler {
namespace {

std::string bytes_text(std::uint64_t bytes) {
  if (bytes >= 10ULL << 30U) return fmt::format("{:.0f} GiB", static_cast<double>(bytes) / (1ULL << 30U));
  if (bytes >= 1ULL << 30U) return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / (1ULL << 30U));
  if (bytes >= 1ULL << 20U) return fmt::format("{:.0f} MiB", static_cast<double>(bytes) / (1ULL << 20U));
  return fmt::format("{} B", bytes);
}

std::string on_numa(int numa) { return numa < 0 ? std::string() : fmt::format(", NUMA node {}", numa); }

}  // namespace

std::string_view to_string(Distance distance) {
  switch (distance) {
    case Distance::same_core:
      return "same core";
    case Distance::same_numa:
      return "same NUMA node";
    case Distance::same_node:
      return "same node";
    case Distance::other_node:
      return "other node";
  }
  return "unknown";
}

std::string describe_topology(const Topology& mine, std::span<const PeerLine> peers) {
  std::string out = fmt::format("host {}: {} cpus, {} package{}, last-level cache {}\n", mine.host, mine.machine_cpus,
                                mine.packages, mine.packages == 1 ? "" : "s", bytes_text(mine.cache_bytes));
  out +=
      fmt::format("this rank: {} cores (cpus {}), {} compute thread{}, {} of memory\n", mine.cores.size(),
                  cpu_list(mine.cpus()), mine.threads(), mine.threads() == 1 ? "" : "s", bytes_text(mine.memory_bytes));
  if (mine.share_count > 1) {
    out += fmt::format("  number {} of {} ranks on this node with the same affinity, which share its cores\n",
                       mine.share_index + 1, mine.share_count);
    if (mine.share_count > mine.machine_cpus) {
      out += "  (with more ranks than cores several ranks run on one core)\n";
    }
  }
  for (const NumaNode& node : mine.numa) {
    out += fmt::format("  NUMA node {}: cpus {}, {} on the node\n", node.os_index, cpu_list(node.cpus),
                       bytes_text(node.memory_bytes));
  }
  if (mine.cgroup.cpus > 0 || mine.cgroup.memory_bytes != 0) {
    out += fmt::format("  control group: {}{}{} ({})\n",
                       mine.cgroup.cpus > 0 ? fmt::format("{:.3g} cores of time", mine.cgroup.cpus) : "",
                       mine.cgroup.cpus > 0 && mine.cgroup.memory_bytes != 0 ? ", " : "",
                       mine.cgroup.memory_bytes != 0 ? bytes_text(mine.cgroup.memory_bytes) : "", mine.cgroup.source);
  }
  for (const Gpu& gpu : mine.gpus) {
    out += fmt::format("  GPU {}: {}, {}, PCI {}{}\n", gpu.index, gpu.name, bytes_text(gpu.memory_bytes), gpu.pci,
                       on_numa(gpu.numa));
  }
  for (const RdmaDevice& device : mine.rdma) {
    out += fmt::format("  RDMA {}: {}, {}, {}{}\n", device.name, device.link.empty() ? "no port" : device.link,
                       device.active ? "up" : "down", device.rate.empty() ? "rate unknown" : device.rate,
                       on_numa(device.numa));
  }
  for (const PeerLine& peer : peers) {
    out += fmt::format("  rank {} on {} ({}): {}\n", peer.rank, peer.host, to_string(peer.distance), peer.transport);
  }
  return out;
}

}  // namespace trireme::scheduler
