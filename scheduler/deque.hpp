#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <vector>

namespace trireme::scheduler {

/// Work-stealing deque of Chase and Lev (2005). T is a small trivial value; T{} means "nothing".
///
/// The orders follow Le et al. (2013), with their fences moved onto the operations: pop() must store `bottom_` before
/// it loads `top_`, steal() must load `top_` before it loads `bottom_`. All four are seq_cst, so either the owner sees
/// the thief's increment of `top_` or the thief sees the owner's decrement of `bottom_`; for the last entry both race
/// on the compare-exchange of `top_`.
///
/// Threading: push(), pop(), pop_if() by the owner only; steal(), size(), looks_empty() from any thread.
/// Errors:    none; grows without bound (bad_alloc apart).
/// Lifetime:  arrays that were outgrown are kept until the destructor, because a thief may still read them; together
///            they are smaller than the current one.
template <class T>
class WorkStealingDeque {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(void*));

 public:
  explicit WorkStealingDeque(std::size_t capacity = 256) {
    std::size_t power = 2;
    while (power < capacity) power *= 2;
    arrays_.push_back(std::make_unique<Array>(power));
    array_.store(arrays_.back().get(), std::memory_order_relaxed);
  }
  WorkStealingDeque(const WorkStealingDeque&) = delete;
  WorkStealingDeque& operator=(const WorkStealingDeque&) = delete;

  void push(T item) {
    const std::int64_t bottom = bottom_.load(std::memory_order_relaxed);
    Array* array = array_.load(std::memory_order_relaxed);
    if (bottom - top_seen_ >= array->capacity()) [[unlikely]] {
      // acquire: slots below `top_` were read by their thieves before they may be overwritten.
      top_seen_ = top_.load(std::memory_order_acquire);
      if (bottom - top_seen_ >= array->capacity()) array = grow(array, top_seen_, bottom);
    }
    array->put(bottom, item);
    // Publishes the item to steal(); seq_cst because the caller looks for sleepers next (see Executor::Impl::notify).
    bottom_.store(bottom + 1, std::memory_order_seq_cst);
  }

  /// The newest entry, or T{}.
  T pop() {
    const std::int64_t bottom = bottom_.load(std::memory_order_relaxed) - 1;
    return pop_at(bottom);
  }

  /// Takes the newest entry off when it equals `item`.
  bool pop_if(T item) {
    const std::int64_t bottom = bottom_.load(std::memory_order_relaxed) - 1;
    // The slot may hold an entry stolen long ago; pop_at() then finds the deque empty.
    if (bottom < 0 || array_.load(std::memory_order_relaxed)->get(bottom) != item) return false;
    return pop_at(bottom) == item;
  }

  /// The oldest entry for which `wanted(entry)` holds, or T{}. `wanted` must not dereference: the entry may be gone
  /// already.
  template <class Predicate>
  T steal_if(Predicate wanted) {
    for (;;) {
      std::int64_t top = top_.load(std::memory_order_seq_cst);
      // seq_cst also acquires: pairs with the stores of `bottom_`, all of which follow the put of the slots below.
      const std::int64_t bottom = bottom_.load(std::memory_order_seq_cst);
      if (top >= bottom) return T{};
      // Pairs with the release in grow().
      const T item = array_.load(std::memory_order_acquire)->get(top);
      if (!wanted(item)) {
        // Only meaningful while the slot is still ours to judge.
        if (top_.load(std::memory_order_seq_cst) == top) return T{};
        continue;
      }
      if (top_.compare_exchange_strong(top, top + 1, std::memory_order_seq_cst, std::memory_order_relaxed)) return item;
    }
  }
  T steal() {
    return steal_if([](T) { return true; });
  }

  bool looks_empty() const { return top_.load(std::memory_order_seq_cst) >= bottom_.load(std::memory_order_seq_cst); }
  std::size_t size() const {
    const std::int64_t top = top_.load(std::memory_order_relaxed);
    const std::int64_t bottom = bottom_.load(std::memory_order_relaxed);
    return bottom > top ? static_cast<std::size_t>(bottom - top) : 0;
  }

 private:
  class Array {
   public:
    explicit Array(std::size_t capacity) : mask_(capacity - 1), slots_(new std::atomic<T>[capacity]) {}
    std::int64_t capacity() const { return static_cast<std::int64_t>(mask_) + 1; }
    // Relaxed: ordered by `bottom_` and `top_`; atomic because a late thief may read a slot that is being reused.
    T get(std::int64_t at) const {
      return slots_[static_cast<std::size_t>(at) & mask_].load(std::memory_order_relaxed);
    }
    void put(std::int64_t at, T item) {
      slots_[static_cast<std::size_t>(at) & mask_].store(item, std::memory_order_relaxed);
    }

   private:
    std::size_t mask_;
    std::unique_ptr<std::atomic<T>[]> slots_;
  };

  T pop_at(std::int64_t bottom) {
    Array* array = array_.load(std::memory_order_relaxed);
    bottom_.store(bottom, std::memory_order_seq_cst);
    std::int64_t top = top_.load(std::memory_order_seq_cst);
    if (top < bottom) return array->get(bottom);
    T item{};
    if (top == bottom) {
      item = array->get(bottom);
      if (!top_.compare_exchange_strong(top, top + 1, std::memory_order_seq_cst, std::memory_order_relaxed)) item = T{};
    }
    // release: a thief that reads this value must still see every put() before it.
    bottom_.store(bottom + 1, std::memory_order_release);
    return item;
  }

  Array* grow(Array* old, std::int64_t top, std::int64_t bottom) {
    arrays_.push_back(std::make_unique<Array>(static_cast<std::size_t>(old->capacity()) * 2));
    Array* bigger = arrays_.back().get();
    for (std::int64_t at = top; at < bottom; ++at) bigger->put(at, old->get(at));
    array_.store(bigger, std::memory_order_release);  // pairs with the acquire in steal_if()
    return bigger;
  }

  alignas(64) std::atomic<std::int64_t> top_{0};     // thieves, and the owner for the last entry
  alignas(64) std::atomic<std::int64_t> bottom_{0};  // owner
  std::atomic<Array*> array_{nullptr};               // owner
  std::int64_t top_seen_ = 0;                   // owner: a lower bound of top_, spares a shared cache line in push()
  std::vector<std::unique_ptr<Array>> arrays_;  // owner
};

}  // namespace trireme::scheduler
