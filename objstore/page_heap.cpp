#include "objstore/page_heap.hpp"

#include <sys/mman.h>

#include <bit>

#include "base/check.hpp"

namespace trireme::objstore {

namespace {

constexpr std::uint64_t kGranuleBytesMin = 2U << 20U;  // a huge page
constexpr std::uint64_t kGranulesMax = 4096;           // so that counting them stays cheap in a terabyte
constexpr int kHighRangesTried = 64;                   // then best fit is good enough

std::uint64_t bit_of(std::uint64_t granule) { return std::uint64_t{1} << (granule % 64); }

}  // namespace

PageHeap::PageHeap(std::byte* base, std::uint64_t bytes, std::uint64_t warm_bytes_max)
    : base_(base), pages_(bytes / kPageBytes) {
  std::uint64_t granule_bytes = kGranuleBytesMin;
  while (bytes / granule_bytes > kGranulesMax) granule_bytes *= 2;
  granule_pages_ = granule_bytes / kPageBytes;
  warm_granules_max_ = warm_bytes_max / granule_bytes;
  backed_.resize(pages_ / granule_pages_ / 64 + 1);
  add(0, pages_);
}

std::uint64_t PageHeap::warm_granules(std::uint64_t page, std::uint64_t pages) const {
  const auto first = (page + granule_pages_ - 1) / granule_pages_;
  const auto last = (page + pages) / granule_pages_;
  if (first >= last) return 0;
  const auto low = ~std::uint64_t{0} << (first % 64);
  const auto high = ~std::uint64_t{0} >> (63 - (last - 1) % 64);
  const auto from = first / 64;
  const auto to = (last - 1) / 64;
  if (from == to) return static_cast<std::uint64_t>(std::popcount(backed_[from] & low & high));
  auto count = std::popcount(backed_[from] & low) + std::popcount(backed_[to] & high);
  for (auto word = from + 1; word < to; ++word) count += std::popcount(backed_[word]);
  return static_cast<std::uint64_t>(count);
}

void PageHeap::add(std::uint64_t page, std::uint64_t pages) {
  auto next = by_start_.lower_bound(page);
  if (next != by_start_.end()) {
    TRIREME_CHECK(page + pages <= next->first, "pages freed twice");
    if (page + pages == next->first) {
      pages += next->second;
      const auto merged = next++;
      remove(merged);
    }
  }
  if (next != by_start_.begin()) {
    const auto before = std::prev(next);
    TRIREME_CHECK(before->first + before->second <= page, "pages freed twice");
    if (before->first + before->second == page) {
      page = before->first;
      pages += before->second;
      remove(before);
    }
  }
  by_start_.emplace_hint(next, page, pages);
  by_size_.emplace(pages, page);
  warm_granules_free_ += warm_granules(page, pages);
}

void PageHeap::remove(Ranges::iterator range) {
  warm_granules_free_ -= warm_granules(range->first, range->second);
  by_size_.erase({range->second, range->first});
  by_start_.erase(range);
}

std::uint64_t PageHeap::take(Ranges::iterator range, std::uint64_t at, std::uint64_t pages) {
  const auto [start, length] = *range;
  remove(range);
  // The bits must be set before the rests go back: a granule that straddles the border is backed from now on.
  const auto last = (at + pages - 1) / granule_pages_;
  for (auto granule = at / granule_pages_; granule <= last; ++granule) backed_[granule / 64] |= bit_of(granule);
  if (at > start) add(start, at - start);
  if (at + pages < start + length) add(at + pages, start + length - at - pages);
  used_pages_ += pages;
  return at;
}

std::optional<std::uint64_t> PageHeap::allocate(std::uint64_t pages) {
  const std::lock_guard lock(mutex_);
  const auto fit = by_size_.lower_bound({pages, 0});
  if (fit == by_size_.end()) return std::nullopt;
  return take(by_start_.find(fit->second), fit->second, pages);
}

std::optional<std::uint64_t> PageHeap::allocate_high(std::uint64_t pages) {
  const std::lock_guard lock(mutex_);
  int tried = 0;
  for (auto range = by_start_.rbegin(); range != by_start_.rend() && tried < kHighRangesTried; ++range, ++tried)
    if (range->second >= pages) return take(std::prev(range.base()), range->first + range->second - pages, pages);
  const auto fit = by_size_.lower_bound({pages, 0});
  if (fit == by_size_.end()) return std::nullopt;
  const auto range = by_start_.find(fit->second);
  return take(range, range->first + range->second - pages, pages);
}

void PageHeap::free(std::uint64_t page, std::uint64_t pages) {
  std::unique_lock lock(mutex_);
  used_pages_ -= pages;
  add(page, pages);
  if (warm_granules_free_ <= warm_granules_max_) return;

  // Give back what is too much from the high end of this range, down to three quarters of the limit, so that the next
  // free does not do it again. The range is out of the lists meanwhile, so the lock need not be held.
  const auto range = std::prev(by_start_.upper_bound(page));
  const auto [start, length] = *range;
  auto excess = warm_granules_free_ - warm_granules_max_ / 4 * 3;
  const auto first = (start + granule_pages_ - 1) / granule_pages_;
  const auto end = (start + length) / granule_pages_;
  auto from = end;
  while (from > first && excess > 0)
    if (--from; (backed_[from / 64] & bit_of(from)) != 0) --excess;
  if (from == end) return;
  remove(range);
  // Reported as in use while it is away.
  used_pages_ += length;
  lock.unlock();
  const bool gone = ::madvise(base_ + from * granule_pages_ * kPageBytes, (end - from) * granule_pages_ * kPageBytes,
                              MADV_REMOVE) == 0;
  lock.lock();
  used_pages_ -= length;
  // A kernel that refuses keeps the pages: no harm, they stay warm.
  if (gone)
    for (auto granule = from; granule < end; ++granule) backed_[granule / 64] &= ~bit_of(granule);
  add(start, length);
}

std::uint64_t PageHeap::largest_free_pages() const {
  const std::lock_guard lock(mutex_);
  return by_size_.empty() ? 0 : by_size_.rbegin()->first;
}

std::uint64_t PageHeap::used_pages() const {
  const std::lock_guard lock(mutex_);
  return used_pages_;
}

std::uint64_t PageHeap::warm_free_bytes() const {
  const std::lock_guard lock(mutex_);
  return warm_granules_free_ * granule_pages_ * kPageBytes;
}

}  // namespace trireme::objstore
