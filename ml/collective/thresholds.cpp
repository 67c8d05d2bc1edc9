#include "trireme/ml/thresholds.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

namespace trireme::ml {
namespace {

struct Entry {
  std::string_view name;
  std::size_t Thresholds::*value;
  std::size_t least;
  std::size_t most;
};

constexpr std::size_t kKiB = 1024;
constexpr std::size_t kMiB = 1024 * kKiB;
constexpr std::array kEntries{
    Entry{"node_direct", &Thresholds::node_direct, 0, 64 * kMiB},
    Entry{"node_chunk", &Thresholds::node_chunk, 4 * kKiB, kMiB},
    Entry{"net_doubling", &Thresholds::net_doubling, 0, 1024 * kMiB},
    Entry{"net_doubling_of_two", &Thresholds::net_doubling_of_two, 0, 1024 * kMiB},
    Entry{"net_segment", &Thresholds::net_segment, 4 * kKiB, 64 * kMiB},
    Entry{"net_ahead", &Thresholds::net_ahead, 0, 64},
    Entry{"net_tree", &Thresholds::net_tree, 0, 1024 * kMiB},
    Entry{"fixed_direct", &Thresholds::fixed_direct, 0, 64 * kMiB},
};

std::string names() {
  std::string list;
  for (const auto& entry : kEntries) list += (list.empty() ? "" : ", ") + std::string(entry.name);
  return list;
}

Result<std::size_t> parse_bytes(std::string_view text) {
  std::size_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  const auto unit = std::string_view(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (problem != std::errc{} || value > 1024 * kMiB || (unit != "" && unit != "k" && unit != "m"))
    return make_error(Errc::invalid_argument, fmt::format("'{}' is no number, such as 4096, 64k or 1m", text));
  return value * (unit == "k" ? kKiB : unit == "m" ? kMiB : 1);
}

}  // namespace

Result<Thresholds> parse_thresholds(std::string_view text) {
  Thresholds thresholds;
  while (!text.empty()) {
    const auto comma = std::min(text.find(','), text.size());
    const auto item = text.substr(0, comma);
    text.remove_prefix(std::min(comma + 1, text.size()));
    const auto equals = item.find('=');
    const auto name = item.substr(0, equals);
    const auto* entry = std::find_if(kEntries.begin(), kEntries.end(), [&](const Entry& e) { return e.name == name; });
    if (equals == std::string_view::npos || entry == kEntries.end())
      return make_error(Errc::invalid_argument,
                        fmt::format("'{}' is not name=value with one of the names {}", item, names()));
    auto bytes = parse_bytes(item.substr(equals + 1));
    if (!bytes.ok()) return make_error(Errc::invalid_argument, fmt::format("{}: {}", name, bytes.error().message));
    if (*bytes < entry->least || *bytes > entry->most)
      return make_error(Errc::invalid_argument,
                        fmt::format("{}={} is out of range: {} to {}", name, *bytes, entry->least, entry->most));
    thresholds.*(entry->value) = *bytes;
  }
  return thresholds;
}

std::string to_string(const Thresholds& thresholds) {
  std::string text;
  for (const auto& entry : kEntries) {
    const auto bytes = thresholds.*(entry.value);
    const bool whole = bytes % kKiB == 0 && bytes != 0;
    text +=
        fmt::format("{}{}={}{}", text.empty() ? "" : ",", entry.name, whole ? bytes / kKiB : bytes, whole ? "k" : "");
  }
  return text;
}

}  // namespace trireme::ml
