#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

namespace trireme::objstore {

/// The unit of large blocks and slabs, whatever the kernel's page size.
inline constexpr std::uint64_t kPageBytes = 4096;

/// Which pages of the arena are free: ranges by start and by size, coalesced.
///
/// Also knows roughly which pages the kernel has backed: one bit per granule (2 MiB or more), set when the granule is
/// handed out, cleared when its pages are given back. Free backed memory beyond `warm_bytes_max` is given back.
///
/// Threading: any thread; one mutex. Pages are given back outside it.
class PageHeap {
 public:
  PageHeap(std::byte* base, std::uint64_t bytes, std::uint64_t warm_bytes_max);

  /// Best fit, low end: large blocks gather at low addresses, where pages are warm.
  std::optional<std::uint64_t> allocate(std::uint64_t pages);
  /// From the high end of a high range: slabs live longer than large blocks and must not split the space for these.
  std::optional<std::uint64_t> allocate_high(std::uint64_t pages);
  void free(std::uint64_t page, std::uint64_t pages);

  std::uint64_t largest_free_pages() const;
  std::uint64_t used_pages() const;
  std::uint64_t warm_free_bytes() const;

 private:
  using Ranges = std::map<std::uint64_t, std::uint64_t>;  // start page -> pages

  void add(std::uint64_t page, std::uint64_t pages);
  void remove(Ranges::iterator range);
  std::uint64_t take(Ranges::iterator range, std::uint64_t at, std::uint64_t pages);
  std::uint64_t warm_granules(std::uint64_t page, std::uint64_t pages) const;

  std::byte* const base_;
  const std::uint64_t pages_;
  std::uint64_t granule_pages_;
  std::uint64_t warm_granules_max_;

  mutable std::mutex mutex_;  // guards what follows
  Ranges by_start_;
  std::set<std::pair<std::uint64_t, std::uint64_t>> by_size_;  // (pages, start)
  std::vector<std::uint64_t> backed_;                          // one bit a granule
  std::uint64_t warm_granules_free_ = 0;                       // backed granules that lie wholly in free ranges
  std::uint64_t used_pages_ = 0;
};

}  // namespace trireme::objstore
