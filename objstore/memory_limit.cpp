#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>

#include "objstore/arena.hpp"

namespace trireme::objstore {

namespace {

constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();
constexpr std::uint64_t kGranule = 2U << 20U;
constexpr std::uint64_t kDefaultBytesMin = 64U << 20U;  // below that nothing useful fits
constexpr std::uint64_t kWhenUnknown = 1U << 30U;       // no /proc: a modest guess

/// The number in a one-line file, or `otherwise` ("max" and missing files).
std::uint64_t read_number(const std::string& path, std::uint64_t otherwise) {
  std::ifstream in(path);
  std::uint64_t value = 0;
  return in >> value ? value : otherwise;
}

/// The value after `key` in a file of "key value" lines.
std::uint64_t read_field(const std::string& path, std::string_view key, std::uint64_t otherwise) {
  std::ifstream in(path);
  std::string line;
  while (std::getline(in, line)) {
    std::istringstream words(line);
    std::string name;
    std::uint64_t value = 0;
    if (words >> name >> value && name == key) return value;
  }
  return otherwise;
}

/// What is left under one cgroup's limit. Inactive page cache counts as free: the kernel drops it first.
std::uint64_t left_in(const std::string& limit_file, const std::string& usage_file, const std::string& stat_file,
                      std::string_view cache_key) {
  const auto limit = read_number(limit_file, kUnlimited);
  if (limit == kUnlimited) return kUnlimited;
  const auto usage = read_number(usage_file, 0);
  const auto cache = std::min(usage, read_field(stat_file, cache_key, 0));
  return limit - std::min(limit, usage - cache);
}

/// The tightest limit on the way from `path` up to the root of the hierarchy mounted at `mount`.
template <class Left>
std::uint64_t tightest(const std::string& mount, std::string path, Left left) {
  auto result = kUnlimited;
  for (;;) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    result = std::min(result, left(mount + (path == "/" ? "" : path)));
    const auto slash = path.rfind('/');
    if (path.size() <= 1 || slash == std::string::npos) return result;
    path.resize(std::max<std::size_t>(slash, 1));
  }
}

std::uint64_t cgroup_left(const std::string& root) {
  auto result = kUnlimited;
  std::ifstream in(root + "/proc/self/cgroup");
  std::string line;
  while (std::getline(in, line)) {  // "0::/path" (v2), "7:memory:/path" (v1)
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    const auto path = line.substr(second + 1);
    if (controllers.empty())
      result =
          std::min(result, tightest(root + "/sys/fs/cgroup", path, [](const std::string& at) {
                     return left_in(at + "/memory.max", at + "/memory.current", at + "/memory.stat", "inactive_file");
                   }));
    else if (("," + controllers + ",").find(",memory,") != std::string::npos)
      result = std::min(result, tightest(root + "/sys/fs/cgroup/memory", path, [](const std::string& at) {
                          return left_in(at + "/memory.limit_in_bytes", at + "/memory.usage_in_bytes",
                                         at + "/memory.stat", "total_inactive_file");
                        }));
  }
  return result;
}

std::uint64_t parse_bytes(const char* text) {
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (end == text || value <= 0) return 0;
  double unit = 1;
  switch (std::tolower(static_cast<unsigned char>(*end))) {
    case 'k':
      unit = 1024.0;
      break;
    case 'm':
      unit = 1024.0 * 1024;
      break;
    case 'g':
      unit = 1024.0 * 1024 * 1024;
      break;
    case 't':
      unit = 1024.0 * 1024 * 1024 * 1024;
      break;
    default:
      break;
  }
  return static_cast<std::uint64_t>(value * unit);
}

}  // namespace

std::uint64_t available_memory(const std::string& root) {
  const auto kilobytes = read_field(root + "/proc/meminfo", "MemAvailable:", 0);
  const auto machine = kilobytes != 0 ? kilobytes * 1024 : kWhenUnknown;
  return std::min(machine, cgroup_left(root));
}

std::uint64_t default_arena_bytes(unsigned ranks_on_node) {
  if (const char* text = std::getenv("TRIREME_ARENA_BYTES"))
    if (const auto bytes = parse_bytes(text)) return bytes;
  const auto share = available_memory() / 10 * 3 / std::max(1U, ranks_on_node);
  return std::max(kDefaultBytesMin, share / kGranule * kGranule);
}

}  // namespace trireme::objstore
