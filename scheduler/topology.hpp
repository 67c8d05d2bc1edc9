#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/ids.hpp"
#include "base/result.hpp"
#include "base/wire.hpp"

namespace trireme::scheduler {

struct NumaNode {
  int os_index = 0;
  std::uint64_t memory_bytes = 0;
  std::vector<int> cpus;  ///< of this rank
};

struct Core {
  int package = 0;        ///< logical number
  int numa = 0;           ///< OS index of its NUMA node
  std::vector<int> cpus;  ///< hardware threads of this rank, the first one is the one to pin to
};

/// As the control group of this process and those above it allow; 0 = no limit.
struct CgroupLimits {
  double cpus = 0;  ///< cores' worth of time
  std::uint64_t memory_bytes = 0;
  std::string source;  ///< the folders that set the limits, for people
};

struct Gpu {
  int index = 0;  ///< as NVML counts, in PCI order
  std::string name, uuid, pci;
  std::uint64_t memory_bytes = 0;
  int numa = -1;  ///< OS index; -1 unknown
};

struct RdmaDevice {
  std::string name;
  int numa = -1;
  bool active = false;     ///< a port is up
  std::string link, rate;  ///< "InfiniBand" or "Ethernet"; as the kernel prints it
};

/// What this rank may use of its machine: hwloc cut down by affinity and control groups.
///
/// Threading: a value. Units: bytes. CPU numbers are the operating system's.
struct Topology {
  std::string host;
  unsigned machine_cpus = 0, packages = 0;
  std::uint64_t cache_bytes = 0;   ///< of one last-level cache
  std::vector<Core> cores;         ///< in hwloc's order: neighbours are near each other
  std::vector<NumaNode> numa;      ///< those with a cpu of this rank
  std::uint64_t memory_bytes = 0;  ///< machine memory or the control group's limit, this rank's share of it
  CgroupLimits cgroup;
  std::vector<Gpu> gpus;
  std::vector<RdmaDevice> rdma;
  /// Ranks on this node with the same affinity, among which it was divided, and the place of this one.
  unsigned share_index = 0, share_count = 1;

  std::vector<int> cpus() const;  ///< all hardware threads, ascending
  /// Compute threads this rank should run: its cores, or fewer when the control group allows less time.
  unsigned threads() const;
  /// One cpu per compute thread; empty when time is limited and pinning would waste it.
  std::vector<int> pin_to() const;
};

/// Where to look. The defaults are this process; tests name folders and machines of their own.
struct TopologyQuery {
  std::optional<std::vector<int>> affinity;  ///< instead of the calling thread's
  std::string synthetic;                     ///< hwloc's synthetic description instead of this machine
  std::string cgroup_root = "/sys/fs/cgroup";
  std::string cgroup_of_self = "/proc/self/cgroup";
  std::string rdma_root = "/sys/class/infiniband";
  std::string nvml_library = "libnvidia-ml.so.1";  ///< empty: no GPUs
  std::optional<std::string> visible_gpus;         ///< instead of CUDA_VISIBLE_DEVICES
};

/// The whole of what the affinity allows, not yet divided. Takes tens of milliseconds: once per process.
/// Errors: unavailable, when hwloc cannot read the machine or the affinity is empty.
Result<Topology> discover_topology(const TopologyQuery& query = {});
CgroupLimits read_cgroup_limits(const std::string& root, const std::string& of_self);
std::vector<RdmaDevice> find_rdma_devices(const std::string& root);
/// Through NVML, loaded when it is there. `visible` as CUDA_VISIBLE_DEVICES, nullptr = all.
std::vector<Gpu> find_gpus(const std::string& library, const char* visible);

/// What a rank tells the others, before its topology is divided.
struct Place {
  std::string node;       ///< ranks with equal node ids share memory
  std::vector<int> cpus;  ///< ascending
  Bytes encode() const;
  static Result<Place> decode(BytesView bytes);
};

/// The part of rank `self`: ranks of a node with equal affinity share its cores in contiguous runs; with more ranks
/// than cores, several get the same core.
Topology divide(const Topology& whole, std::span<const Place> places, Rank self);

enum class Distance : std::uint8_t { same_core, same_numa, same_node, other_node };
std::string_view to_string(Distance distance);
/// Between the shares of two ranks. NUMA domains are known for the own node only.
Distance distance(const Topology& whole, std::span<const Place> places, Rank self, Rank peer);
/// For Victims::from_levels: which NUMA domain and which node each rank belongs to, as seen from `self`.
std::vector<std::vector<std::uint32_t>> locality_groups(const Topology& whole, std::span<const Place> places,
                                                        Rank self);

/// Linux notation: "0-3,8,10-11".
std::string cpu_list(std::span<const int> cpus);
Result<std::vector<int>> parse_cpu_list(std::string_view text);

struct PeerLine {
  Rank rank = 0;
  std::string host, transport;  ///< transport: backend and its own line, Router::describe
  Distance distance = Distance::other_node;
};
/// For the doctor tool; several lines, each ended.
std::string describe_topology(const Topology& mine, std::span<const PeerLine> peers);

}  // namespace trireme::scheduler
