#pragma once

#include <chrono>
#include <coroutine>
#include <span>
#include <utility>
#include <vector>

#include "trireme/detail/codec.hpp"

namespace trireme {

using Duration = std::chrono::nanoseconds;

/// A reference to a value that is or will be somewhere in the job: the result of a task or call, or an object put.
///
/// Copying shares; the value is freed everywhere when the last reference in the job is gone. As an argument of a
/// function that takes T the reference is resolved before the function runs; of one that takes Ref<T> it is passed on.
///
/// Threading: like std::shared_ptr: distinct Refs to one value from any threads, one Ref from one thread at a time.
/// Lifetime:  must not outlive the Runtime.
template <class T>
class Ref {
 public:
  using value_type = T;
  Ref() = default;
  explicit Ref(detail::CellRef cell) : cell_(std::move(cell)) {}

  /// True when get() would return (or throw) at once. A poll: starts no transfer.
  bool ready() const { return cell_ && cell_->ready(); }
  explicit operator bool() const { return static_cast<bool>(cell_); }
  bool operator==(const Ref&) const = default;
  const detail::CellRef& cell() const { return cell_; }

  /// In a coroutine: `T value = co_await ref;` gives the thread back until the value is there.
  auto operator co_await() const;

  template <class Archive>
  void serialize(Archive& archive, unsigned version);

 private:
  detail::CellRef cell_;
};

namespace detail {
template <class T>
struct Codec<Ref<T>, void> {
  static void encode(Encoder& out, const Ref<T>& value) {
    out.out.push_back(std::byte{static_cast<bool>(value)});
    if (value) out.ref(value.cell());
  }
  static Ref<T> decode(Decoder& in) {
    if (in.raw(1)[0] == std::byte{0}) return {};
    return Ref<T>(in.ref());
  }
};
void require_ref(const CellRef& cell);
std::int64_t deadline_after(Duration timeout);
[[noreturn]] void throw_timeout(std::int64_t waited_ns);
}  // namespace detail

/// The value, as soon as it is there. Blocks the calling task or thread, not the core: others run meanwhile, and a task
/// that nobody has begun runs in place.
///
/// Errors: TaskError when the task threw, ActorDiedError, TimeoutError, Exception (owner died, object lost, ...).
template <class T>
T get(const Ref<T>& ref) {
  detail::require_ref(ref.cell());
  if (!ref.cell()->ready()) detail::wait_ready(ref.cell().get(), INT64_MAX);
  return detail::Resolved<T>(ref.cell().get()).take();
}
inline void get(const Ref<detail::Nothing>& ref) {
  detail::require_ref(ref.cell());
  if (!ref.cell()->ready()) detail::wait_ready(ref.cell().get(), INT64_MAX);
  if (ref.cell()->form() == detail::CellForm::error) detail::throw_error(ref.cell()->error());
}
template <class T>
T get(const Ref<T>& ref, Duration timeout) {
  detail::require_ref(ref.cell());
  if (!ref.cell()->ready() && !detail::wait_ready(ref.cell().get(), detail::deadline_after(timeout)))
    detail::throw_timeout(timeout.count());
  return detail::Resolved<T>(ref.cell().get()).take();
}
namespace detail {
template <class T, class Take>
void for_each_ready(const std::vector<Ref<T>>& refs, std::int64_t deadline_ns, std::int64_t timeout_ns, Take take) {
  std::vector<Cell*> cells;
  cells.reserve(refs.size());
  for (const auto& ref : refs) {
    require_ref(ref.cell());
    cells.push_back(ref.cell().get());
  }
  InOrder order(cells, deadline_ns);
  for (auto* cell : cells) {
    if (!order.wait_next()) throw_timeout(timeout_ns);
    take(cell);
  }
}
template <class T>
auto get_all(const std::vector<Ref<T>>& refs, std::int64_t deadline_ns, std::int64_t timeout_ns) {
  if constexpr (std::is_same_v<T, Nothing>) {
    for_each_ready(refs, deadline_ns, timeout_ns, [](Cell* cell) {
      if (cell->form() == CellForm::error) throw_error(cell->error());
    });
  } else {
    std::vector<T> values;
    values.reserve(refs.size());
    for_each_ready(refs, deadline_ns, timeout_ns, [&](Cell* cell) { values.push_back(Resolved<T>(cell).take()); });
    return values;
  }
}
}  // namespace detail

/// In the order of the references; the first error is thrown as soon as those before it are there. What lies in other
/// ranks is fetched at the same time.
template <class T>
auto get(const std::vector<Ref<T>>& refs) {
  return detail::get_all(refs, INT64_MAX, INT64_MAX);
}
/// The same, with TimeoutError when not all are there in time.
template <class T>
auto get(const std::vector<Ref<T>>& refs, Duration timeout) {
  return detail::get_all(refs, detail::deadline_after(timeout), timeout.count());
}

/// Makes a value available to all ranks. Small values and class types stay here until somebody asks; contiguous ones
/// (std::vector of plain elements, std::string) are copied once, into the arena.
template <class T>
Ref<std::decay_t<T>> put(T&& value) {
  using D = std::decay_t<T>;
  if constexpr (detail::Contiguous<D>::value) {
    if (detail::Contiguous<D>::view(value).size() > 4096) {
      auto cell = detail::make_plain_cell();
      cell->complete(detail::encode_value<D>(value));
      return Ref<D>(std::move(cell));
    }
  }
  auto* cell = new detail::TypedCell<D>(std::in_place, std::forward<T>(value));
  cell->complete_typed();
  return Ref<D>(detail::CellRef::adopt(cell));
}

/// Splits `refs` into those that are ready and the rest, once at least `count` are ready or the time is up.
/// Order is kept on both sides; at most `count` are returned as ready.
template <class T>
std::pair<std::vector<Ref<T>>, std::vector<Ref<T>>> wait(const std::vector<Ref<T>>& refs, std::size_t count = 1,
                                                         Duration timeout = Duration::max()) {
  std::vector<detail::Cell*> cells;
  cells.reserve(refs.size());
  for (const auto& ref : refs) {
    detail::require_ref(ref.cell());
    cells.push_back(ref.cell().get());
  }
  detail::wait_some(cells, count, detail::deadline_after(timeout));
  std::pair<std::vector<Ref<T>>, std::vector<Ref<T>>> split;
  for (const auto& ref : refs) (ref.ready() && split.first.size() < count ? split.first : split.second).push_back(ref);
  return split;
}

}  // namespace trireme
