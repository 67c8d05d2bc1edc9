#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "base/wire.hpp"

namespace trireme::scheduler {

/// An amount of each resource: what a rank has, what a task asks for, what is free.
///
/// Names: "CPU", "GPU", "memory" and any custom name. A custom resource of amount 0 is the same as none.
/// Units:   CPU, GPU and custom amounts are fixed-point, 1/10,000 (kUnit is one whole), so that sums of fractions are
///          exact; memory is in bytes.
/// Errors:  parse() and set() refuse what is negative, finer than 1/10,000, too large, or a GPU amount over 1 that is
/// not
///          whole (a task cannot use 1.5 devices).
/// Threading: one owner, or immutable.
class Resources {
 public:
  static constexpr std::int64_t kUnit = 10'000;
  /// Largest amount of one resource; sums over 1,000,000 ranks stay inside 63 bits.
  static constexpr std::int64_t kAmountMax = std::int64_t{1} << 43;
  static constexpr std::size_t kCustomMax = 256;
  static constexpr std::size_t kNameBytesMax = 128;

  /// "CPU=2,GPU=0.5,memory=4GiB,licence=1"; memory takes K, M, G, T (decimal) and Ki, Mi, Gi, Ti, with or without B.
  static Result<Resources> parse(std::string_view text);
  static Resources cpus(double count);

  /// `amount` in whole units (2 CPUs, 0.5 GPUs, bytes of memory).
  Status set(std::string_view name, double amount);
  void set_cpu_units(std::int64_t units) { cpu_ = units; }
  void set_gpu_units(std::int64_t units) { gpu_ = units; }
  void set_memory_bytes(std::int64_t bytes) { memory_ = bytes; }
  void set_custom_units(std::string_view name, std::int64_t units);

  std::int64_t cpu_units() const { return cpu_; }
  std::int64_t gpu_units() const { return gpu_; }
  std::int64_t memory_bytes() const { return memory_; }
  std::int64_t custom_units(std::string_view name) const;
  /// Sorted by name, no zero amounts.
  const std::vector<std::pair<std::string, std::int64_t>>& custom() const { return custom_; }

  bool empty() const { return cpu_ == 0 && gpu_ == 0 && memory_ == 0 && custom_.empty(); }
  bool non_negative() const;
  /// The default demand of a task, which bypasses ResourcePool (see there).
  bool is_one_cpu() const { return cpu_ == kUnit && gpu_ == 0 && memory_ == 0 && custom_.empty(); }

  /// Every amount is at most that of `within`. Says nothing about which GPU: see ResourcePool.
  bool fits(const Resources& within) const;
  Resources& operator+=(const Resources& other);
  /// Amounts may go below zero (a holder that waited takes its CPU back, see ResourcePool::reclaim_cpu).
  Resources& operator-=(const Resources& other);
  /// True when both ask for some resource of the same name.
  bool overlaps(const Resources& other) const;

  auto operator<=>(const Resources&) const = default;

  /// "{CPU: 2, GPU: 0.5, memory: 4 GiB}", "{}" when empty.
  std::string text() const;
  void encode(Writer& out) const;
  /// Makes `in` bad when the bytes break a rule above; negative amounts are allowed where availability travels.
  static Resources decode(Reader& in);

 private:
  std::int64_t cpu_ = 0, gpu_ = 0, memory_ = 0;
  std::vector<std::pair<std::string, std::int64_t>> custom_;
};

}  // namespace trireme::scheduler
