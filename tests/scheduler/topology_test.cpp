#include "scheduler/topology.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <numeric>

#include "base/rng.hpp"

using namespace trireme;
using namespace trireme::scheduler;

namespace {

/// A folder of files, removed at the end.
struct Folder {
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "trireme-topology-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Folder() { std::filesystem::remove_all(path); }
  void write(const std::string& file, const std::string& text) const {
    const auto full = path / file;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text << '\n';
  }
  std::filesystem::path path;
};

Topology machine(const std::string& synthetic, std::optional<std::vector<int>> affinity = std::nullopt) {
  TopologyQuery query;
  query.synthetic = synthetic;
  query.affinity = std::move(affinity);
  query.cgroup_of_self = "/nonexistent";
  query.rdma_root = "/nonexistent";
  query.nvml_library.clear();
  auto found = discover_topology(query);
  REQUIRE_MESSAGE(found.ok(), (found.ok() ? std::string() : found.error().message));
  return std::move(*found);
}

std::vector<int> range(int first, int last) {
  std::vector<int> out(static_cast<std::size_t>(last - first + 1));
  std::iota(out.begin(), out.end(), first);
  return out;
}

/// Two packages, one NUMA node each, four cores with two hardware threads.
constexpr const char* kTwoPackages = "package:2 [numa] core:4 pu:2";

}  // namespace

TEST_CASE("this machine has a core for this process") {
  const auto found = discover_topology();
  REQUIRE(found.ok());
  const Topology& here = const_cast<Result<Topology>&>(found).value();
  CHECK(here.threads() >= 1);
  CHECK_FALSE(here.cpus().empty());
  CHECK(here.memory_bytes > 0);
  CHECK_FALSE(here.numa.empty());
  CHECK_FALSE(describe_topology(here, {}).empty());
}

TEST_CASE("cores, hardware threads, packages and NUMA nodes are read") {
  const Topology whole = machine(kTwoPackages);
  CHECK(whole.machine_cpus == 16);
  CHECK(whole.packages == 2);
  CHECK(whole.cores.size() == 8);
  CHECK(whole.threads() == 8);
  CHECK(whole.cpus() == range(0, 15));
  REQUIRE(whole.numa.size() == 2);
  CHECK(whole.numa[0].cpus == range(0, 7));
  CHECK(whole.numa[1].cpus == range(8, 15));
  CHECK(whole.pin_to() == std::vector<int>{0, 2, 4, 6, 8, 10, 12, 14});
  CHECK(whole.cores[5].package == 1);
}

TEST_CASE("affinity decides the cores; half a core is a core") {
  const Topology part = machine(kTwoPackages, std::vector<int>{3, 8, 9, 10});
  CHECK(part.cpus() == std::vector<int>{3, 8, 9, 10});
  CHECK(part.cores.size() == 3);
  CHECK(part.pin_to() == std::vector<int>{3, 8, 10});
  REQUIRE(part.numa.size() == 2);
  CHECK(part.numa[0].cpus == std::vector<int>{3});
}

TEST_CASE("an affinity outside the machine is an error that says so") {
  TopologyQuery query;
  query.synthetic = "core:2 pu:1";
  query.affinity = std::vector<int>{7};
  query.nvml_library.clear();
  const auto found = discover_topology(query);
  REQUIRE_FALSE(found.ok());
  CHECK(found.error().code == Errc::unavailable);
  query.synthetic = "nonsense:";
  const auto nonsense = discover_topology(query);
  REQUIRE_FALSE(nonsense.ok());
  CHECK(nonsense.error().code == Errc::invalid_argument);
}

TEST_CASE("ranks with equal affinity share the cores, those bound apart keep theirs") {
  const Topology whole = machine(kTwoPackages);
  const Place all{"n1", whole.cpus()};
  const Place other{"n2", whole.cpus()};
  const std::vector<Place> places{all, other, all, all};
  const Topology first = divide(whole, places, 0);
  const Topology second = divide(whole, places, 2);
  const Topology third = divide(whole, places, 3);
  CHECK(first.cpus() == std::vector<int>{0, 1, 2, 3});
  CHECK(second.cpus() == std::vector<int>{4, 5, 6, 7, 8, 9});
  CHECK(third.cpus() == std::vector<int>{10, 11, 12, 13, 14, 15});
  CHECK(second.share_index == 1);
  CHECK(second.share_count == 3);
  CHECK(second.memory_bytes == whole.memory_bytes / 3);
  CHECK(second.numa.size() == 2);
  CHECK(first.numa.size() == 1);
  CHECK(divide(whole, places, 1).cores.size() == 8);

  const std::vector<Place> bound{{"n1", range(0, 7)}, {"n1", range(8, 15)}};
  CHECK(divide(whole, bound, 1).cpus() == range(8, 15));
  CHECK(divide(whole, bound, 1).share_count == 1);
  CHECK(divide(whole, bound, 1).memory_bytes == whole.memory_bytes / 2);
}

TEST_CASE("every core goes to exactly one rank while there are enough, whatever the numbers") {
  for (int ranks = 1; ranks <= 12; ++ranks) {
    CAPTURE(ranks);
    const Topology whole = machine(kTwoPackages);
    const std::vector<Place> places(static_cast<std::size_t>(ranks), Place{"n1", whole.cpus()});
    std::vector<int> used;
    for (Rank r = 0; r < places.size(); ++r) {
      const Topology mine = divide(whole, places, r);
      CHECK(mine.threads() >= 1);
      const auto cpus = mine.cpus();
      used.insert(used.end(), cpus.begin(), cpus.end());
    }
    if (ranks <= 8) CHECK(used == whole.cpus());
    if (ranks > 8) CHECK(used.size() == static_cast<std::size_t>(ranks) * 2);
  }
}

TEST_CASE("distances and groups follow cores, NUMA nodes and nodes") {
  const Topology whole = machine(kTwoPackages);
  const std::vector<Place> places{{"n1", {0, 1}}, {"n1", {2, 3}}, {"n1", range(8, 15)}, {"n2", {0, 1}}, {"n1", {1, 2}}};
  CHECK(distance(whole, places, 0, 1) == Distance::same_numa);
  CHECK(distance(whole, places, 0, 2) == Distance::same_node);
  CHECK(distance(whole, places, 0, 3) == Distance::other_node);
  CHECK(distance(whole, places, 0, 4) == Distance::same_core);
  const auto groups = locality_groups(whole, places, 0);
  REQUIRE(groups.size() == 2);
  CHECK(groups[0][0] == groups[0][1]);
  CHECK(groups[0][0] != groups[0][2]);
  CHECK(groups[0][0] != groups[0][3]);
  CHECK(groups[1][0] == groups[1][2]);
  CHECK(groups[1][0] != groups[1][3]);
}

TEST_CASE("control groups of version 2 limit time and memory, the tightest on the way up counts") {
  const Folder folder;
  folder.write("self", "0::/slurm/job1/step0");
  folder.write("sys/slurm/job1/step0/cpu.max", "max 100000");
  folder.write("sys/slurm/job1/cpu.max", "250000 100000");
  folder.write("sys/slurm/cpu.max", "800000 100000");
  folder.write("sys/slurm/job1/step0/memory.max", "max");
  folder.write("sys/slurm/job1/memory.max", "4294967296");
  const auto limits = read_cgroup_limits((folder.path / "sys").string(), (folder.path / "self").string());
  CHECK(limits.cpus == doctest::Approx(2.5));
  CHECK(limits.memory_bytes == 4294967296U);

  TopologyQuery query;
  query.synthetic = kTwoPackages;
  query.cgroup_root = (folder.path / "sys").string();
  query.cgroup_of_self = (folder.path / "self").string();
  query.nvml_library.clear();
  auto found = discover_topology(query);
  REQUIRE(found.ok());
  CHECK(found->threads() == 2);
  CHECK(found->pin_to().empty());
  CHECK(found->memory_bytes == std::min<std::uint64_t>(4294967296U, found->memory_bytes));
  const std::vector<Place> places(2, Place{"n1", found->cpus()});
  CHECK(divide(*found, places, 0).threads() == 1);
}

TEST_CASE("control groups of version 1 limit time and memory") {
  const Folder folder;
  folder.write("self", "9:memory:/a/b\n4:cpu,cpuacct:/a\n1:name=systemd:/x\n0::/");
  folder.write("sys/cpu,cpuacct/a/cpu.cfs_quota_us", "150000");
  folder.write("sys/cpu,cpuacct/a/cpu.cfs_period_us", "100000");
  folder.write("sys/cpu,cpuacct/cpu.cfs_quota_us", "-1");
  folder.write("sys/cpu,cpuacct/cpu.cfs_period_us", "100000");
  folder.write("sys/memory/a/b/memory.limit_in_bytes", "9223372036854771712");
  folder.write("sys/memory/a/memory.limit_in_bytes", "1073741824");
  const auto limits = read_cgroup_limits((folder.path / "sys").string(), (folder.path / "self").string());
  CHECK(limits.cpus == doctest::Approx(1.5));
  CHECK(limits.memory_bytes == 1073741824U);
}

TEST_CASE("a control group whose path is not mounted here falls back to what is") {
  const Folder folder;
  folder.write("self", "0::/kubepods/pod1/container");
  folder.write("sys/cpu.max", "200000 100000");
  const auto limits = read_cgroup_limits((folder.path / "sys").string(), (folder.path / "self").string());
  CHECK(limits.cpus == doctest::Approx(2.0));
  CHECK(limits.memory_bytes == 0);
}

TEST_CASE("odd control group files are no limits") {
  for (const char* text : {"", "max", "0 100000", "100000 0", "-5 100000", "abc def", "100000"}) {
    CAPTURE(text);
    const Folder folder;
    folder.write("self", "0::/a\ngarbage\n1:2\n0::/../../etc");
    folder.write("sys/a/cpu.max", text);
    folder.write("sys/a/memory.max", "99999999999999999999999999");
    const auto limits = read_cgroup_limits((folder.path / "sys").string(), (folder.path / "self").string());
    CHECK(limits.cpus == 0);
    CHECK(limits.memory_bytes == 0);
  }
}

TEST_CASE("RDMA devices are listed with port state and NUMA node") {
  const Folder folder;
  folder.write("mlx5_1/ports/1/state", "1: DOWN");
  folder.write("mlx5_1/ports/1/link_layer", "Ethernet");
  folder.write("mlx5_0/ports/1/state", "1: DOWN");
  folder.write("mlx5_0/ports/2/state", "4: ACTIVE");
  folder.write("mlx5_0/ports/2/link_layer", "InfiniBand");
  folder.write("mlx5_0/ports/2/rate", "200 Gb/sec (4X HDR)");
  folder.write("mlx5_0/device/numa_node", "1");
  const auto devices = find_rdma_devices(folder.path.string());
  REQUIRE(devices.size() == 2);
  CHECK(devices[0].name == "mlx5_0");
  CHECK(devices[0].active);
  CHECK(devices[0].link == "InfiniBand");
  CHECK(devices[0].numa == 1);
  CHECK_FALSE(devices[1].active);
  CHECK(find_rdma_devices("/nonexistent").empty());
}

TEST_CASE("GPUs come from NVML, cut down and ordered by CUDA_VISIBLE_DEVICES") {
  const std::string library = FAKE_NVML;
  CHECK(find_gpus("libdoes-not-exist.so", nullptr).empty());
  const auto all = find_gpus(library, nullptr);
  REQUIRE(all.size() == 3);
  CHECK(all[1].name == "Fake 1");
  CHECK(all[1].memory_bytes == 2ULL << 30U);
  CHECK(all[1].pci == "00000000:11:00.0");
  const auto indices = [&](const char* visible) {
    std::vector<int> out;
    for (const Gpu& gpu : find_gpus(library, visible)) out.push_back(gpu.index);
    return out;
  };
  CHECK(indices("2,0") == std::vector<int>{2, 0});
  CHECK(indices("GPU-fake-1") == std::vector<int>{1});
  CHECK(indices("1,7,0") == std::vector<int>{1});
  CHECK(indices("").empty());
  CHECK(indices("-1").empty());
  CHECK(indices(" 1 , 2 ") == std::vector<int>{1, 2});
}

TEST_CASE("cpu lists travel") {
  CHECK(cpu_list(std::vector<int>{0, 1, 2, 3, 8, 10, 11}) == "0-3,8,10-11");
  CHECK(cpu_list({}).empty());
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    Place place{"node", {}};
    for (int cpu = 0; cpu < 300; ++cpu) {
      if (rng.chance(0.6)) place.cpus.push_back(cpu);
    }
    const Bytes bytes = place.encode();
    auto back = Place::decode(bytes);
    REQUIRE(back.ok());
    CHECK(back->node == place.node);
    CHECK(back->cpus == place.cpus);
    CHECK_FALSE(Place::decode(BytesView(bytes).first(rng.below(bytes.size()))).ok());
  }
  for (const char* bad : {"3-1", "a", "1,,2", "-", "1-", "5,3", "0-99999999999", "1,1", "0-70000"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_cpu_list(bad).ok());
  }
}

TEST_CASE("the text for people names cores, limits, devices and peers") {
  Topology whole = machine(kTwoPackages);
  whole.cgroup = {2.5, 8ULL << 30U, "/sys/fs/cgroup/job"};
  whole.gpus.push_back({0, "H200", "GPU-1", "00000000:11:00.0", 139ULL << 30U, 1});
  whole.rdma.push_back({"mlx5_0", 0, true, "InfiniBand", "400 Gb/sec"});
  const std::vector<PeerLine> peers{{1, "n1", "shm", Distance::same_numa},
                                    {2, "n2", "ucx rc_mlx5/mlx5_0", Distance::other_node}};
  const std::string text = describe_topology(whole, peers);
  for (const char* part : {"16 cpus", "8 cores (cpus 0-15), 2 compute threads", "2.5 cores of time, 8.0 GiB",
                           "H200, 139 GiB", "mlx5_0: InfiniBand, up, 400 Gb/sec", "rank 1 on n1 (same NUMA node): shm",
                           "rank 2 on n2 (other node): ucx rc_mlx5/mlx5_0"}) {
    CAPTURE(part);
    CAPTURE(text);
    CHECK(text.find(part) != std::string::npos);
  }
}
