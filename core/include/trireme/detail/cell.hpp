#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/block_cache.hpp"
#include "base/ids.hpp"
#include "trireme/error.hpp"

namespace trireme::detail {

class Cell;
class CellRef;
class Encoder;
struct Entry;  // identity and bookkeeping of a cell that other ranks know; private to the runtime

/// Called once when a cell becomes ready, by the thread that made it so. Intrusive: lives where the waiter lives.
struct Waiter {
  Waiter* next = nullptr;
  void (*fire)(Waiter*) = nullptr;
  /// In place of fire when the cell goes without becoming ready. None: the waiter keeps the cell, so that cannot be.
  void (*drop)(Waiter*) = nullptr;
};

/// Bytes in an arena (this rank's, or a same-node rank's mapped one) that stay put while `data` is held.
struct Buffer {
  std::shared_ptr<std::byte> data;
  std::size_t size = 0;
  Rank rank = kNoRank;           ///< whose arena
  std::uint64_t offset = 0;      ///< in that arena
  std::uint64_t generation = 0;  ///< of that block

  explicit operator bool() const { return data != nullptr; }
  std::span<const std::byte> view() const { return {data.get(), size}; }
};

/// A value in wire form: bytes (small) or a buffer (large), and the references it contains.
///
/// A lazy value is here but not held: it lies in a same-node rank's arena, or is a copy that may be evicted. Readers
/// take a held one from pinned().
struct Value : CachedBlock {
  enum class Lazy : std::uint8_t { no, peer, copy };
  std::vector<std::byte> bytes;
  Buffer buffer;
  std::vector<CellRef> refs;
  Lazy lazy = Lazy::no;
  Rank id_owner = kNoRank;  ///< of a lazy value: the object's id
  std::uint64_t id_index = 0;

  std::span<const std::byte> view() const { return buffer ? buffer.view() : std::span<const std::byte>(bytes); }
};

/// What a concrete cell knows about its typed value.
struct CellOps {
  void (*destroy)(Cell*) noexcept;             ///< value (if any) and memory
  const void* (*typed)(const Cell*) noexcept;  ///< address of the typed value
  Value (*encode)(const Cell*);                ///< typed value to wire form
};

enum class CellKind : std::uint8_t { value, task, element, call, actor };
enum class CellForm : std::uint8_t { none, typed, encoded, error };

/// The state behind a reference: a value, an error, or the promise of one. One per object and rank.
///
/// A cell is local memory until another rank has to know of it; only then it gets an ObjectId and an Entry. So a task
/// whose result stays in its rank never touches the ownership protocol.
///
/// Threading: any thread. The value is written once, before publish(), and is immutable afterwards.
/// Lifetime:  intrusive count; the last release frees it, through the protocol if it was exported.
class Cell {
 public:
  Cell(const CellOps* ops, CellKind kind, std::uint32_t refs = 1) : refs_(refs), kind_(kind), ops_(ops) {}
  Cell(const Cell&) = delete;
  Cell& operator=(const Cell&) = delete;

  void retain() { refs_.fetch_add(1, std::memory_order_relaxed); }
  /// retain(), telling the count before: the protocol counts revivals from 0.
  std::uint32_t retain_counted() { return refs_.fetch_add(1, std::memory_order_relaxed); }
  void release() {
    // acq_rel: what other holders did with the cell happens before its destruction.
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) unreferenced();
  }
  /// `at_last` runs when this was the last handle, before the cell is freed (or the protocol takes it over).
  template <class AtLast>
  void release(AtLast at_last) {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    at_last();
    unreferenced();
  }

  /// True once value or error is there, in this rank. Pairs with publish().
  bool ready() const { return state_.load(std::memory_order_acquire) == kReady; }
  /// False when the cell is ready already: the waiter will not be fired.
  bool add_waiter(Waiter* waiter);
  /// Marks a pending cell as one whose value is wanted in this rank, although nobody waits for it yet: once another
  /// rank knows the cell, the protocol fetches the value as it does for a waiter. False when the cell is ready.
  bool want();
  /// Whether somebody waits for the value, or wants it.
  bool wanted() const {
    const auto state = state_.load(std::memory_order_seq_cst);
    return state != kReady && state != 0;
  }

  void complete_typed() {
    form_ = CellForm::typed;
    publish();
  }
  /// Without effect when the cell was cancelled before.
  void complete(Value value);
  void complete_error(ErrorInfo error);
  /// Completes it with the error, unless somebody has completed it or is about to. Whoever was to complete it may still
  /// do so later. Under the token, and only for a cell whose value comes in wire form: complete_typed() does not look.
  bool cancel(ErrorInfo error);

  CellKind kind() const { return kind_; }
  CellForm form() const { return form_; }
  const CellOps* ops() const { return ops_; }
  const void* typed() const { return ops_->typed(this); }
  const Value& value() const { return *value_; }
  const ErrorInfo& error() const { return *error_; }

  /// Exported cells are known to the protocol. Set under the token by a holder, read by anyone after a seq_cst step.
  bool exported() const { return exported_.load(std::memory_order_seq_cst); }
  Entry* entry() const { return entry_; }
  void set_entry(Entry* entry);
  std::uint32_t use_count() const { return refs_.load(std::memory_order_acquire); }
  /// Frees value and memory. Only for the last holder, or the protocol on its behalf.
  void destroy() noexcept;

 protected:
  ~Cell() = default;
  void free_forms() noexcept;

 private:
  static constexpr std::uintptr_t kReady = 1;
  static constexpr std::uintptr_t kWanted = 2;
  static Waiter* newest_of(std::uintptr_t state) { return reinterpret_cast<Waiter*>(state & ~kWanted); }
  enum class Completer : std::uint8_t { nobody, maker, cancel };
  bool take();
  void publish();
  void unreferenced();
  void drop_waiters() noexcept;

  std::atomic<std::uint32_t> refs_;
  const CellKind kind_;
  CellForm form_ = CellForm::none;
  std::atomic<bool> exported_{false};
  std::atomic<Completer> completer_{Completer::nobody};  // who writes value or error; the first to say so does
  // kReady: done. Else pending: the newest Waiter of a list, or 0, and kWanted or not. Written by completers (release)
  // and waiters (CAS).
  std::atomic<std::uintptr_t> state_{0};
  const CellOps* const ops_;
  union {
    Value* value_ = nullptr;
    ErrorInfo* error_;
  };
  Entry* entry_ = nullptr;  // touched under the token only
};

/// Intrusive pointer to a Cell.
class CellRef {
 public:
  CellRef() = default;
  static CellRef adopt(Cell* cell) {
    CellRef ref;
    ref.cell_ = cell;
    return ref;
  }
  static CellRef share(Cell* cell) {
    if (cell != nullptr) cell->retain();
    return adopt(cell);
  }
  CellRef(const CellRef& other) : cell_(other.cell_) {
    if (cell_ != nullptr) cell_->retain();
  }
  CellRef(CellRef&& other) noexcept : cell_(std::exchange(other.cell_, nullptr)) {}
  CellRef& operator=(CellRef other) noexcept {
    std::swap(cell_, other.cell_);
    return *this;
  }
  ~CellRef() {
    if (cell_ != nullptr) cell_->release();
  }

  Cell* get() const { return cell_; }
  Cell* operator->() const { return cell_; }
  Cell* detach() { return std::exchange(cell_, nullptr); }
  explicit operator bool() const { return cell_ != nullptr; }
  bool operator==(const CellRef&) const = default;

 private:
  Cell* cell_ = nullptr;
};

/// The cell's value in a form that stays put: waits for a copy that was evicted to come back.
Value pinned(const Cell* cell);
/// The same without waiting; false when the copy was evicted.
bool try_pinned(const Cell* cell, Value& value);
/// A cell whose value only ever comes in wire form (a borrowed reference, an object that was put as bytes).
CellRef make_plain_cell();
/// Blocks until the cell is ready; runs its task in place when nobody has begun it. `deadline_ns` on SystemClock,
/// INT64_MAX without limit. False when the deadline passed.
bool wait_ready(Cell* cell, std::int64_t deadline_ns);
/// Waits for one cell after the other. As soon as it has to block, the values of all that follow are fetched, too.
/// For one thread; the caller keeps the cells, and the array of them.
class InOrder {
 public:
  InOrder(std::span<Cell* const> cells, std::int64_t deadline_ns) : cells_(cells), deadline_ns_(deadline_ns) {}
  /// wait_ready() of the first cell, then of the next.
  bool wait_next();

 private:
  std::span<Cell* const> cells_;  // those that are still to come
  std::int64_t deadline_ns_;
  bool all_wanted_ = false;
};
/// Blocks until at least `count` of the cells are ready or the deadline passed.
void wait_some(std::span<Cell* const> cells, std::size_t count, std::int64_t deadline_ns);
/// Fires when the cell is ready, at once (on this thread) if it is; fetches the value if it lies elsewhere.
void on_ready(Cell* cell, Waiter* waiter);

}  // namespace trireme::detail
