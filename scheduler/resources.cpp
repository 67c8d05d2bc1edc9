#include "scheduler/resources.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include <fmt/format.h>

namespace trireme::scheduler {
namespace {

struct Suffix {
  std::string_view text;
  double factor;
};
constexpr Suffix kSuffixes[] = {{"Ki", 0x1p10}, {"Mi", 0x1p20}, {"Gi", 0x1p30}, {"Ti", 0x1p40},
                                {"K", 1e3},     {"M", 1e6},     {"G", 1e9},     {"T", 1e12}};

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::optional<double> parse_amount(std::string_view text, bool bytes) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  auto rest = text.substr(static_cast<std::size_t>(end - text.data()));
  if (rest.empty()) return value;
  if (!bytes) return std::nullopt;
  if (rest.back() == 'B') rest.remove_suffix(1);
  if (rest.empty()) return value;
  for (const auto& suffix : kSuffixes)
    if (rest == suffix.text) return value * suffix.factor;
  return std::nullopt;
}

std::string bytes_text(std::int64_t bytes) {
  for (const auto& [name, shift] : {std::pair{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}}) {
    const auto unit = std::int64_t{1} << shift;
    if (bytes >= unit || -bytes >= unit) {
      const auto value = static_cast<double>(bytes) / static_cast<double>(unit);
      return fmt::format("{} {}", std::round(value * 100) / 100, name);
    }
  }
  return fmt::format("{} B", bytes);
}

Error bad(std::string_view name, double amount, std::string_view why) {
  return make_error(Errc::invalid_argument, fmt::format("resource {} = {}: {}", name, amount, why));
}

bool in_range(std::int64_t amount) { return amount <= Resources::kAmountMax && amount >= -Resources::kAmountMax; }

}  // namespace

Result<Resources> Resources::parse(std::string_view text) {
  Resources out;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const auto item = trim(text.substr(0, comma));
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    if (item.empty()) continue;
    const auto equals = item.find('=');
    const auto name = trim(item.substr(0, equals));
    const auto amount =
        equals == std::string_view::npos ? std::nullopt : parse_amount(trim(item.substr(equals + 1)), name == "memory");
    if (!amount)
      return make_error(
          Errc::invalid_argument,
          fmt::format("resource '{}' is not of the form NAME=AMOUNT, as in CPU=2,GPU=0.5,memory=4GiB", item));
    if (auto status = out.set(name, *amount); !status) return status.error();
  }
  return out;
}

Resources Resources::cpus(double count) {
  Resources out;
  const auto status = out.set("CPU", count);
  TRIREME_CHECK(status.ok(), "Resources::cpus() takes a valid CPU count");
  return out;
}

Status Resources::set(std::string_view name, double amount) {
  if (name.empty() || name.size() > kNameBytesMax)
    return make_error(Errc::invalid_argument,
                      fmt::format("a resource name takes 1 to {} bytes, this one has {}", kNameBytesMax, name.size()));
  if (!(amount >= 0) || !std::isfinite(amount)) return bad(name, amount, "amounts are finite and not negative");
  const bool memory = name == "memory";
  const double scaled = memory ? std::floor(amount) : amount * static_cast<double>(kUnit);
  if (scaled > static_cast<double>(kAmountMax)) return bad(name, amount, "too large");
  const auto units = static_cast<std::int64_t>(std::llround(scaled));
  if (!memory && std::abs(scaled - static_cast<double>(units)) > 1e-6 * std::max(1.0, scaled))
    return bad(name, amount, "the finest step is 0.0001");
  if (name == "GPU" && units > kUnit && units % kUnit != 0)
    return bad(name, amount, "more than one GPU must be a whole number");
  if (memory)
    memory_ = units;
  else if (name == "CPU")
    cpu_ = units;
  else if (name == "GPU")
    gpu_ = units;
  else {
    if (units != 0 && custom_units(name) == 0 && custom_.size() == kCustomMax)
      return bad(name, amount, fmt::format("at most {} custom resources", kCustomMax));
    set_custom_units(name, units);
  }
  return {};
}

void Resources::set_custom_units(std::string_view name, std::int64_t units) {
  const auto at = std::lower_bound(custom_.begin(), custom_.end(), name,
                                   [](const auto& entry, std::string_view key) { return entry.first < key; });
  const bool found = at != custom_.end() && at->first == name;
  if (units == 0) {
    if (found) custom_.erase(at);
  } else if (found) {
    at->second = units;
  } else {
    custom_.emplace(at, std::string(name), units);
  }
}

std::int64_t Resources::custom_units(std::string_view name) const {
  const auto at = std::lower_bound(custom_.begin(), custom_.end(), name,
                                   [](const auto& entry, std::string_view key) { return entry.first < key; });
  return at != custom_.end() && at->first == name ? at->second : 0;
}

bool Resources::non_negative() const {
  return cpu_ >= 0 && gpu_ >= 0 && memory_ >= 0 &&
         std::all_of(custom_.begin(), custom_.end(), [](const auto& entry) { return entry.second > 0; });
}

// An amount that is not asked for fits whatever there is: availability may be negative (see ResourcePool::reclaim_cpu).
bool Resources::fits(const Resources& within) const {
  const auto ok = [](std::int64_t asked, std::int64_t there) { return asked <= 0 || asked <= there; };
  if (!ok(cpu_, within.cpu_) || !ok(gpu_, within.gpu_) || !ok(memory_, within.memory_)) return false;
  return std::all_of(custom_.begin(), custom_.end(),
                     [&](const auto& entry) { return ok(entry.second, within.custom_units(entry.first)); });
}

Resources& Resources::operator+=(const Resources& other) {
  cpu_ += other.cpu_;
  gpu_ += other.gpu_;
  memory_ += other.memory_;
  for (const auto& [name, units] : other.custom_) set_custom_units(name, custom_units(name) + units);
  return *this;
}

Resources& Resources::operator-=(const Resources& other) {
  cpu_ -= other.cpu_;
  gpu_ -= other.gpu_;
  memory_ -= other.memory_;
  for (const auto& [name, units] : other.custom_) set_custom_units(name, custom_units(name) - units);
  return *this;
}

bool Resources::overlaps(const Resources& other) const {
  const auto both = [](std::int64_t a, std::int64_t b) { return a > 0 && b > 0; };
  if (both(cpu_, other.cpu_) || both(gpu_, other.gpu_) || both(memory_, other.memory_)) return true;
  return std::any_of(custom_.begin(), custom_.end(),
                     [&](const auto& entry) { return both(entry.second, other.custom_units(entry.first)); });
}

std::string Resources::text() const {
  std::string out = "{";
  const auto add = [&](std::string_view name, const std::string& amount) {
    if (out.size() > 1) out += ", ";
    out += fmt::format("{}: {}", name, amount);
  };
  const auto plain = [](std::int64_t units) { return fmt::format("{}", static_cast<double>(units) / kUnit); };
  if (cpu_ != 0) add("CPU", plain(cpu_));
  if (gpu_ != 0) add("GPU", plain(gpu_));
  if (memory_ != 0) add("memory", bytes_text(memory_));
  for (const auto& [name, units] : custom_) add(name, plain(units));
  return out + "}";
}

// Zigzag varints: availability can be negative and is mostly small.
void Resources::encode(Writer& out) const {
  const auto put = [&](std::int64_t value) {
    out.varint((static_cast<std::uint64_t>(value) << 1U) ^ static_cast<std::uint64_t>(value >> 63));
  };
  put(cpu_);
  put(gpu_);
  put(memory_);
  out.varint(custom_.size());
  for (const auto& [name, units] : custom_) {
    out.text(name);
    put(units);
  }
}

Resources Resources::decode(Reader& in) {
  const auto get = [&] {
    const auto raw = in.varint();
    const auto value = static_cast<std::int64_t>(raw >> 1U) ^ -static_cast<std::int64_t>(raw & 1U);
    if (!in_range(value)) in.fail();
    return in_range(value) ? value : 0;
  };
  Resources out;
  out.cpu_ = get();
  out.gpu_ = get();
  out.memory_ = get();
  const auto customs = in.count(3);
  if (customs > kCustomMax) in.fail();
  for (std::uint64_t i = 0; i < customs && in.ok(); ++i) {
    std::string name(in.text());
    const auto units = get();
    // Sorted, unique, non-zero and of legal length, so that equal resources have equal bytes.
    if (name.empty() || name.size() > kNameBytesMax || units == 0 ||
        (!out.custom_.empty() && !(out.custom_.back().first < name))) {
      in.fail();
      break;
    }
    out.custom_.emplace_back(std::move(name), units);
  }
  return in.ok() ? out : Resources{};
}

}  // namespace trireme::scheduler
