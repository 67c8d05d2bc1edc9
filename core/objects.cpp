#include <fmt/format.h>

#include <atomic>
#include <cstring>

#include "core/current.hpp"
#include "core/rank_core.hpp"
#include "trireme/array.hpp"
#include "trireme/detail/codec.hpp"

namespace trireme::detail {

using core::current;

namespace {

/// Larger values live in the arena and are pulled; smaller ones travel in messages.
constexpr std::size_t kInlineBytesMax = 8 << 10;

/// Keys of what this rank allocates for itself; ids of objects have the top bit clear.
ObjectId next_key(Rank self) {
  static std::atomic<std::uint64_t> counter{1};
  return {self, counter.fetch_add(1, std::memory_order_relaxed) | (1ULL << 63U)};
}

/// `let_go` runs before the pin is given back, with the last holder.
template <typename LetGo>
Buffer wrap(objstore::Buffer pin, Rank rank, LetGo let_go) {
  Buffer buffer;
  buffer.size = pin.size();
  buffer.rank = rank;
  buffer.offset = pin.offset();
  buffer.generation = pin.generation();
  auto* data = const_cast<std::byte*>(pin.data());
  buffer.data = std::shared_ptr<std::byte>(data, [let_go, held = std::move(pin)](std::byte*) mutable {
    let_go();
    held.reset();
  });
  return buffer;
}

[[noreturn]] void throw_store_error(const Error& error) {
  auto& context = current().context();
  throw_error(core::runtime_error(context, error.code, error.message));
}

/// Without an arena (simulation), or for what nobody else reads.
Buffer heap_buffer(std::size_t bytes) {
  Buffer buffer;
  buffer.size = bytes;
  buffer.data = std::shared_ptr<std::byte>(
      static_cast<std::byte*>(::operator new (std::max<std::size_t>(bytes, 1), std::align_val_t{64})),
      [](std::byte* p) { ::operator delete (p, std::align_val_t{64}); });
  return buffer;
}

}  // namespace

Buffer allocate_buffer(std::size_t bytes) {
  auto* core = core::current_or_null();
  auto* store = core != nullptr ? core->context().store : nullptr;
  if (store == nullptr) return heap_buffer(bytes);
  auto& context = core->context();
  auto room = store->hold(bytes);
  if (room) return wrap(std::move(*room), context.self, [] {});
  if (room.error().code != Errc::out_of_memory || context.host->holds_token() || !context.host->can_wait())
    throw_store_error(room.error());
  // Back-pressure: the producer waits, in the order of the requests, until memory is freed.
  const auto key = next_key(context.self);
  scheduler::WaitPoint point;
  std::optional<Result<objstore::Allocation>> later;
  store->create_when_possible(key, bytes, objstore::CopyKind::primary, [&](Result<objstore::Allocation> result) {
    later.emplace(std::move(result));
    point.signal();
  });
  context.host->wait(point, kForever);
  if (!*later) throw_store_error(later->error());
  auto pin = store->seal_and_pin(key);
  if (!pin) throw_store_error(pin.error());
  return wrap(std::move(*pin), context.self, [store, key] { store->drop(key); });
}

Buffer to_own_arena(const Buffer& buffer) {
  auto* core = core::current_or_null();
  if (core == nullptr || core->context().store == nullptr || buffer.rank == core->context().self) return buffer;
  auto own = allocate_buffer(buffer.size);
  std::memcpy(own.data.get(), buffer.data.get(), buffer.size);
  return own;
}

CellRef cell_of_buffer(const Buffer& buffer) {
  auto cell = make_plain_cell();
  Value value;
  if (buffer.rank == kNoRank) {
    const auto view = buffer.view();
    value.bytes.assign(view.begin(), view.end());
  } else {
    value.buffer = buffer;
  }
  cell->complete(std::move(value));
  return cell;
}

Buffer buffer_of_cell(const CellRef& cell) {
  wait_ready(cell.get(), kForever);
  if (cell->form() == CellForm::error) throw_error(cell->error());
  if (cell->form() == CellForm::typed) throw DecodeError{};
  const auto value = pinned(cell.get());
  if (value.buffer) return value.buffer;
  auto own = heap_buffer(value.bytes.size());
  std::memcpy(own.data.get(), value.bytes.data(), value.bytes.size());
  return own;
}

Value store_bytes(std::span<const std::byte> bytes) {
  Value value;
  auto* core = core::current_or_null();
  if (bytes.size() <= kInlineBytesMax || core == nullptr || core->context().store == nullptr) {
    value.bytes.assign(bytes.begin(), bytes.end());
    return value;
  }
  value.buffer = allocate_buffer(bytes.size());
  std::memcpy(value.buffer.data.get(), bytes.data(), bytes.size());
  return value;
}

Value store_encoded(std::vector<std::byte> bytes, std::vector<CellRef> refs) {
  Value value;
  if (bytes.size() <= kInlineBytesMax)
    value.bytes = std::move(bytes);
  else
    value = store_bytes(bytes);
  value.refs = std::move(refs);
  return value;
}

bool try_pinned(const Cell* cell, Value& value) {
  const auto& known = cell->value();
  if (known.lazy == Value::Lazy::no) {
    value = known;
    return true;
  }
  auto& context = current().context();
  auto keep = CellRef::share(const_cast<Cell*>(cell));
  value = Value{};
  value.refs = known.refs;
  if (known.lazy == Value::Lazy::peer) {
    // The reference keeps the object where it is, in the other rank's arena.
    value.buffer = known.buffer;
    value.buffer.data = std::shared_ptr<std::byte>(known.buffer.data.get(), [keep](std::byte*) {});
    return true;
  }
  auto pin = context.store->pin({known.id_owner, known.id_index});
  if (!pin) return false;
  value.buffer.size = pin.size();
  value.buffer.rank = context.self;
  value.buffer.offset = pin.offset();
  value.buffer.generation = pin.generation();
  auto* data = const_cast<std::byte*>(pin.data());
  value.buffer.data =
      std::shared_ptr<std::byte>(data, [held = std::move(pin), keep](std::byte*) mutable { held.reset(); });
  return true;
}

Value pinned(const Cell* cell) {
  Value value;
  if (try_pinned(cell, value)) return value;
  auto& core = current();
  auto& context = core.context();
  const auto& known = cell->value();
  auto keep = CellRef::share(const_cast<Cell*>(cell));
  const ObjectId id{known.id_owner, known.id_index};
  for (int tries = 0; tries < 16; ++tries) {
    // Evicted under pressure: bring it back.
    TRIREME_CHECK(!context.host->holds_token(), "an evicted copy is read in protocol code");
    scheduler::WaitPoint point;
    core::post(*context.host, [&] { core.refs().refetch(keep.get(), [&point] { point.signal(); }); });
    context.host->wait(point, kForever);
    if (try_pinned(cell, value)) return value;
  }
  throw_error(core::runtime_error(
      context, Errc::object_lost,
      fmt::format("object {}.{} was evicted here and could not be brought back: its source is gone or "
                  "the arena is too small for the objects in use",
                  id.owner, id.index)));
}

void Encoder::varint(std::uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<std::byte>(value | 0x80U));
    value >>= 7U;
  }
  out.push_back(static_cast<std::byte>(value));
}

std::uint64_t Decoder::varint() {
  Reader reader(in_);
  const auto value = reader.varint();
  if (!reader.ok()) throw DecodeError{};
  in_ = in_.last(reader.left());
  return value;
}

}  // namespace trireme::detail
