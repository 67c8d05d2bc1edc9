#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "python/native/objects.hpp"
#include "python/native/rank_api.hpp"
#include "python/native/stream.hpp"
#include "trireme/detail/cell.hpp"

namespace trireme::python {

/// What the interpreter in a rank's process holds of the runtime.

/// What the interpreter holds of a runtime may outlive it: an array in a global variable, say. Then its arena stays
/// mapped until the process ends, and what goes later is not told to anybody.
struct Holds {
  static inline std::atomic<std::uint32_t> session{0};  ///< the number of the runtime that is there, 0: none
  static inline std::atomic<std::int64_t> count{0};     ///< of the holds on it
  const std::uint32_t mine = session.load(std::memory_order_relaxed);
  Holds() { count.fetch_add(1, std::memory_order_relaxed); }
  /// Of several that are made together: whoever makes them counts them.
  struct Counted {};
  explicit Holds(Counted) {}
  bool current() const { return session.load(std::memory_order_relaxed) == mine; }
  /// False when the runtime that it belongs to is gone.
  bool give_up() const {
    if (session.load(std::memory_order_acquire) != mine) return false;
    // release: pairs with stop(), which ends the arena after the last one.
    count.fetch_sub(1, std::memory_order_release);
    return true;
  }
  Holds(const Holds&) = delete;
  Holds& operator=(const Holds&) = delete;
};

/// Made by reference_of(), references_of() and value_of(), which put it into the list of what is held.
class CellReference final : public Reference, public HeldCell {
 public:
  explicit CellReference(detail::CellRef c, bool value = false) : HeldCell(std::move(c), value) {}
  CellReference(detail::CellRef c, Holds::Counted counted) : HeldCell(std::move(c)), holds(counted) {}
  ~CellReference() override {
    leave();
    if (holds.give_up())
      cell = {};
    else
      cell.detach();
  }
  bool ready() const override { return cell->ready(); }
  std::uint64_t key() const override { return reinterpret_cast<std::uintptr_t>(cell.get()); }
  bool failed() const override { return cell->ready() && cell->form() == detail::CellForm::error; }
  bool of_actor_call() const override;
  bool look(BytesView& packed) const override {
    if (!holds.current() || !cell->ready() || cell->form() != detail::CellForm::encoded) return false;
    const auto& value = cell->value();
    if (value.lazy != detail::Value::Lazy::no || value.buffer || !value.refs.empty()) return false;
    packed = value.bytes;
    return true;
  }
  /// Arrivals hears of it, or will.
  bool heard() { return heard_.exchange(true, std::memory_order_relaxed); }
  bool identified(ObjectId& id) const override;

 private:
  std::atomic<bool> heard_{false};

 public:
  Holds holds;
};

/// A value that was pinned for the interpreter.
struct PinnedValue {
  detail::Value value;
  Holds holds;
  PinnedValue() = default;
  ~PinnedValue() {
    if (holds.give_up()) return;
    for (auto& ref : value.refs) ref.detach();
    new detail::Buffer(std::move(value.buffer));
  }
  PinnedValue(const PinnedValue&) = delete;
  PinnedValue& operator=(const PinnedValue&) = delete;
};

class StreamReference final : public Reference {
 public:
  StreamReference(std::shared_ptr<Stream> stream, std::uint64_t index)
      : consumer(std::make_unique<StreamConsumer>(std::move(stream), index)) {}
  ~StreamReference() override {
    if (!holds.give_up()) [[maybe_unused]]
      auto* kept = consumer.release();
  }
  bool ready() const override { return false; }
  std::uint64_t key() const override { return reinterpret_cast<std::uintptr_t>(consumer.get()); }
  std::unique_ptr<StreamConsumer> consumer;
  Holds holds;
};

/// An Errc::invalid_argument.
detail::ErrorInfo invalid(std::string message);

}  // namespace trireme::python
