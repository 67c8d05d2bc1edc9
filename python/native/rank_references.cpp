#include "python/native/rank_references.hpp"

#include <algorithm>

#include "base/block_cache.hpp"
#include "core/refs.hpp"
#include "python/native/requests.hpp"

namespace trireme::python {

using detail::CellRef;

detail::ErrorInfo invalid(std::string message) {
  detail::ErrorInfo error;
  error.code = Errc::invalid_argument;
  error.message = std::move(message);
  return error;
}

namespace {

/// Memory of references: they come and go by the thousand.
template <class T>
struct BlockAllocator {
  using value_type = T;
  BlockAllocator() = default;
  template <class U>
  BlockAllocator(const BlockAllocator<U>&) {}
  T* allocate(std::size_t count) { return static_cast<T*>(take_block(count * sizeof(T))); }
  void deallocate(T* block, std::size_t count) noexcept { give_block(block, count * sizeof(T)); }
  bool operator==(const BlockAllocator&) const = default;
};

template <class... As>
std::shared_ptr<CellReference> make_reference(As&&... args) {
  return std::allocate_shared<CellReference>(BlockAllocator<CellReference>(), std::forward<As>(args)...);
}

}  // namespace

bool CellReference::identified(ObjectId& id) const {
  // What an exported cell's entry is named by stays, and the entry stays with the cell.
  if (!cell->exported()) return false;
  id = cell->entry()->id;
  return true;
}

bool CellReference::of_actor_call() const {
  return holds.current() && !cell->ready() && makes_by_actor_call(cell.get());
}

RefPtr reference_of(CellRef cell) {
  if (!cell) return nullptr;
  auto made = make_reference(std::move(cell));
  HeldCell::enter(made.get());
  return made;
}

std::vector<RefPtr> references_of(std::span<const CellRef> cells) {
  std::vector<RefPtr> refs;
  refs.reserve(cells.size());
  Holds::count.fetch_add(
      static_cast<std::int64_t>(std::ranges::count_if(cells, [](const CellRef& cell) { return bool(cell); })),
      std::memory_order_relaxed);
  HeldCell* last = nullptr;
  for (const auto& cell : cells) {
    auto made = cell ? make_reference(cell, Holds::Counted{}) : nullptr;
    if (made != nullptr) {
      made->chain(last);
      last = made.get();
    }
    refs.push_back(std::move(made));
  }
  HeldCell::enter(last);
  return refs;
}

std::shared_ptr<const void> value_of(CellRef cell) {
  auto made = make_reference(std::move(cell), true);
  HeldCell::enter(made.get());
  return made;
}

const CellRef& cell_of(const RefPtr& ref) {
  const auto* held = dynamic_cast<const CellReference*>(ref.get());
  if (held == nullptr) throw Exception(invalid("the reference is a stream's or of another process: it has no value"));
  if (!held->holds.current())
    throw Exception(
        invalid("the reference is of a session that was shut down, and its object went with it: make it anew"));
  return held->cell;
}

}  // namespace trireme::python
