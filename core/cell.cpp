#include "trireme/detail/cell.hpp"

#include "core/current.hpp"
#include "core/refs.hpp"
#include "trireme/detail/codec.hpp"

namespace trireme::detail {

void Cell::set_entry(Entry* entry) {
  entry_ = entry;
  exported_.store(true, std::memory_order_seq_cst);
}

bool Cell::add_waiter(Waiter* waiter) {
  auto state = state_.load(std::memory_order_acquire);
  do {
    if (state == kReady) return false;
    waiter->next = newest_of(state);
    // seq_cst: ordered before the waiter's later look at exported(), see Refs::make_entry().
  } while (!state_.compare_exchange_weak(state, reinterpret_cast<std::uintptr_t>(waiter) | (state & kWanted),
                                         std::memory_order_seq_cst, std::memory_order_acquire));
  return true;
}

bool Cell::want() {
  auto state = state_.load(std::memory_order_acquire);
  do {
    if (state == kReady) return false;
    // seq_cst: as in add_waiter().
  } while (!state_.compare_exchange_weak(state, state | kWanted, std::memory_order_seq_cst, std::memory_order_acquire));
  return true;
}

void Cell::publish() {
  // A waiter may drop the last handle while the list is worked through.
  retain();
  // acq_rel: publishes the value to readers of ready(), and takes over what waiters wrote before they linked in.
  const auto state = state_.exchange(kReady, std::memory_order_acq_rel);
  TRIREME_CHECK(state != kReady, "a cell was completed twice");
  Waiter* fifo = nullptr;
  for (auto* w = newest_of(state); w != nullptr;) {
    auto* next = w->next;
    w->next = fifo;
    fifo = w;
    w = next;
  }
  while (fifo != nullptr) {
    auto* next = fifo->next;  // the waiter may be gone once it was fired
    fifo->fire(fifo);
    fifo = next;
  }
  release();
}

bool Cell::take() {
  auto before = Completer::nobody;
  // relaxed: only one may write; publish() orders what it writes.
  if (completer_.compare_exchange_strong(before, Completer::maker, std::memory_order_relaxed)) return true;
  TRIREME_CHECK(before == Completer::cancel, "a cell was completed twice");
  return false;
}

bool Cell::cancel(ErrorInfo error) {
  auto before = Completer::nobody;
  if (!completer_.compare_exchange_strong(before, Completer::cancel, std::memory_order_relaxed)) return false;
  error_ = new ErrorInfo(std::move(error));
  form_ = CellForm::error;
  publish();
  return true;
}

void Cell::complete(Value value) {
  if (!take()) return;
  value_ = new Value(std::move(value));
  form_ = CellForm::encoded;
  publish();
}

void Cell::complete_error(ErrorInfo error) {
  if (!take()) return;
  error_ = new ErrorInfo(std::move(error));
  form_ = CellForm::error;
  publish();
}

void Cell::free_forms() noexcept {
  if (form_ == CellForm::encoded) delete value_;
  if (form_ == CellForm::error) delete error_;
  form_ = CellForm::none;
}

void Cell::drop_waiters() noexcept {
  auto* waiter = newest_of(state_.exchange(kReady, std::memory_order_acquire));
  while (waiter != nullptr) {
    auto* next = waiter->next;
    if (waiter->drop != nullptr) waiter->drop(waiter);
    waiter = next;
  }
}

void Cell::destroy() noexcept {
  // acquire: pairs with add_waiter(); release() ordered the last of them before this.
  if (state_.load(std::memory_order_acquire) != kReady) drop_waiters();
  free_forms();
  ops_->destroy(this);
}

void Cell::unreferenced() {
  if (!exported_.load(std::memory_order_acquire)) return destroy();
  Entry* entry = entry_;
  auto* host = entry->released.context->host;
  // acq_rel: see Refs::on_released(). The first drop since the last look posts; nobody else touches the entry.
  if (entry->drops.fetch_add(1, std::memory_order_acq_rel) == 0) host->post(&entry->released);
}

namespace {

struct PlainCell final : Cell, CachedBlock {
  PlainCell() : Cell(&kOps, CellKind::value) {}
  static void destroy(Cell* cell) noexcept { delete static_cast<PlainCell*>(cell); }
  static const void* typed(const Cell*) noexcept { return nullptr; }
  static Value encode(const Cell* cell) { return cell->value(); }
  static constexpr CellOps kOps{destroy, typed, encode};
};

}  // namespace

CellRef make_plain_cell() { return CellRef::adopt(new PlainCell); }

}  // namespace trireme::detail
