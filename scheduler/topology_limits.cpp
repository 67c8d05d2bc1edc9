#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

#include "scheduler/topology.hpp"

namespace trireme::scheduler {
namespace {

// Version 1 writes "no limit" as the largest page count: anything near 2^63 means none.
constexpr std::uint64_t kNoMemoryLimit = 1ULL << 62U;

std::optional<std::string> first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!file || !std::getline(file, line)) return std::nullopt;
  return line;
}

std::optional<std::uint64_t> number(const std::string& text) {
  std::uint64_t value = 0;
  if (text.empty()) return std::nullopt;
  for (char digit : text) {
    if (digit < '0' || digit > '9') return std::nullopt;
    if (value > (UINT64_MAX - 9) / 10) return UINT64_MAX;
    value = value * 10 + static_cast<std::uint64_t>(digit - '0');
  }
  return value;
}

void limit_cpus(CgroupLimits& limits, double cpus, const std::string& folder) {
  if (!(cpus > 0) || (limits.cpus > 0 && limits.cpus <= cpus)) return;
  limits.cpus = cpus;
  limits.source += (limits.source.empty() ? "" : ", ") + folder;
}
void limit_memory(CgroupLimits& limits, std::uint64_t bytes, const std::string& folder) {
  if (bytes == 0 || bytes >= kNoMemoryLimit || (limits.memory_bytes != 0 && limits.memory_bytes <= bytes)) return;
  limits.memory_bytes = bytes;
  limits.source += (limits.source.empty() ? "" : ", ") + folder;
}

void read_v2(const std::string& folder, CgroupLimits& limits) {
  if (const auto line = first_line(folder + "/cpu.max")) {
    std::istringstream words(*line);
    std::string quota, period;
    words >> quota >> period;
    const auto used = number(quota);
    const auto of = number(period);
    if (used && of && *of != 0) limit_cpus(limits, static_cast<double>(*used) / static_cast<double>(*of), folder);
  }
  for (const char* file : {"/memory.max", "/memory.high"}) {
    if (const auto line = first_line(folder + file)) limit_memory(limits, number(*line).value_or(0), folder);
  }
}

void read_v1(const std::string& folder, CgroupLimits& limits) {
  const auto quota = first_line(folder + "/cpu.cfs_quota_us");
  const auto period = first_line(folder + "/cpu.cfs_period_us");
  if (quota && period) {
    const auto used = number(*quota);  // -1, no limit, is no number
    const auto of = number(*period);
    if (used && of && *of != 0) limit_cpus(limits, static_cast<double>(*used) / static_cast<double>(*of), folder);
  }
  if (const auto line = first_line(folder + "/memory.limit_in_bytes"))
    limit_memory(limits, number(*line).value_or(0), folder);
}

/// `read` in root/path and every folder above it down to root. In a container the path may name folders that are not
/// mounted: they are passed over.
template <class Read>
void up_from(const std::string& root, std::string path, CgroupLimits& limits, Read read) {
  while (!path.empty() && path.back() == '/') path.pop_back();
  for (;;) {
    read(root + path, limits);
    const auto slash = path.rfind('/');
    if (slash == std::string::npos) return;
    path.resize(slash);
  }
}

}  // namespace

CgroupLimits read_cgroup_limits(const std::string& root, const std::string& of_self) {
  CgroupLimits limits;
  std::ifstream file(of_self);
  // Each line: hierarchy number, controllers (none in version 2), path.
  for (std::string line; std::getline(file, line);) {
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (path.find("..") != std::string::npos) continue;
    if (controllers.empty()) {
      up_from(root, path, limits, read_v2);
      up_from(root + "/unified", path, limits, read_v2);  // where a hybrid set-up mounts it
      continue;
    }
    std::istringstream names(controllers);
    for (std::string name; std::getline(names, name, ',');) {
      if (name != "cpu" && name != "memory") continue;
      up_from(root + "/" + controllers, path, limits, read_v1);
      if (name != controllers) up_from(root + "/" + name, path, limits, read_v1);
    }
  }
  return limits;
}

std::string cpu_list(std::span<const int> cpus) {
  std::string out;
  for (std::size_t i = 0; i < cpus.size();) {
    std::size_t last = i;
    while (last + 1 < cpus.size() && cpus[last + 1] == cpus[last] + 1) ++last;
    if (!out.empty()) out += ',';
    out += std::to_string(cpus[i]);
    if (last > i) out += '-' + std::to_string(cpus[last]);
    i = last + 1;
  }
  return out;
}

Result<std::vector<int>> parse_cpu_list(std::string_view text) {
  // Far beyond any machine; keeps a hostile range from filling memory.
  constexpr std::uint64_t kCpusMax = 1U << 16U;
  const auto bad = [&] {
    return make_error(Errc::malformed, "'" + std::string(text) + "' is no cpu list such as 0-3,8");
  };
  std::vector<int> cpus;
  std::istringstream parts{std::string(text)};
  for (std::string part; std::getline(parts, part, ',');) {
    const auto dash = part.find('-');
    const auto first = number(part.substr(0, dash));
    const auto last = dash == std::string::npos ? first : number(part.substr(dash + 1));
    if (!first || !last || *first > *last || *last >= kCpusMax) return bad();
    if (!cpus.empty() && static_cast<std::uint64_t>(cpus.back()) >= *first) return bad();
    for (std::uint64_t cpu = *first; cpu <= *last; ++cpu) cpus.push_back(static_cast<int>(cpu));
  }
  return cpus;
}

Bytes Place::encode() const {
  Bytes out;
  Writer writer(out);
  writer.text(node);
  writer.text(cpu_list(cpus));
  return out;
}

Result<Place> Place::decode(BytesView bytes) {
  Reader reader(bytes);
  Place place;
  place.node = reader.text();
  const auto list = reader.text();
  if (!reader.done()) return make_error(Errc::malformed, "a rank's place is cut short or too long");
  auto cpus = parse_cpu_list(list);
  if (!cpus.ok()) return cpus.error();
  place.cpus = std::move(*cpus);
  return place;
}

}  // namespace trireme::scheduler
