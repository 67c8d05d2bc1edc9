// Refs: how values reach those who wait for them, and where large ones lie.
#include <fmt/format.h>

#include <algorithm>

#include "core/refs.hpp"

namespace trireme::core {

namespace {

enum class ValueKind : std::uint8_t { bytes = 0, located = 1, error = 2 };

}  // namespace

void Refs::write_value(Writer& out, const Value& value, Rank to) {
  if (value.buffer) {
    out.put(ValueKind::located);
    Location{value.buffer.rank, value.buffer.offset, value.buffer.size, value.buffer.generation}.encode(out);
  } else {
    out.put(ValueKind::bytes);
    out.blob(value.bytes);
  }
  write(out, value.refs, to);
}

Refs::Incoming Refs::read_value(Reader& in, Rank from) {
  Incoming incoming;
  const auto kind = in.get<ValueKind>();
  if (kind == ValueKind::located) {
    incoming.location = Location::decode(in);
    if (incoming.location->rank >= context_.size) in.fail();
  } else if (kind == ValueKind::bytes) {
    const auto bytes = in.blob();
    incoming.value.bytes.assign(bytes.begin(), bytes.end());
  } else {
    in.fail();
  }
  incoming.value.refs = read(in, from);
  return incoming;
}

void Refs::answer(Entry& entry, Rank to) {
  auto* cell = entry.cell;
  const Value* value = nullptr;
  if (cell->ready()) {
    if (cell->form() == detail::CellForm::encoded) {
      value = &cell->value();
    } else if (cell->form() == detail::CellForm::typed) {
      if (!entry.encoded) entry.encoded = std::make_unique<Value>(cell->ops()->encode(cell));
      value = entry.encoded.get();
    }
  }
  auto out = context_.begin(MessageType::value);
  out.id(entry.id);
  if (value != nullptr && value->lazy == Value::Lazy::no) {
    write_value(out, *value, to);
  } else if (entry.location) {
    out.put(ValueKind::located);
    entry.location->encode(out);
    write(out, entry.contained, to);
  } else {
    out.put(ValueKind::error);
    encode_error(out, cell->error());
  }
  context_.send(to);
}

void Refs::on_subscribe(Rank from, Reader& in) {
  const auto id = in.id();
  const bool actor = in.get<std::uint8_t>() != 0;
  const auto has = right(from, id, actor);
  if (!in.done() || id.owner != context_.self || has == Right::none) return in.fail();
  if (has == Right::nothing) {
    auto out = context_.begin(MessageType::value);
    out.id(id);
    out.put(ValueKind::error);
    encode_error(
        out,
        runtime_error(context_, Errc::object_lost,
                      fmt::format("object {}.{} was freed by its owner: the rank that passed the reference on has died",
                                  id.owner, id.index)));
    context_.send(from);
    return;
  }
  auto* entry = find(id);
  if (entry->cell->ready() || entry->location) return answer(*entry, from);
  entry->subscribers.push_back(from);
  if (!entry->watch) {
    entry->watch = handle(*entry);
    if (!entry->cell->add_waiter(&entry->watcher)) on_became_ready(*entry);
  }
}

/// The local task behind an exported cell finished (or a fetch, or an error).
void Refs::on_became_ready(Entry& entry) {
  const CellRef keep = std::move(entry.watch);
  resolved(entry);
}

/// The value is known: tell whoever waited for that.
void Refs::resolved(Entry& entry) {
  const CellRef keep = handle(entry);
  for (const auto rank : std::exchange(entry.subscribers, {})) {
    if (context_.alive(rank)) answer(entry, rank);
  }
  for (auto& then : std::exchange(entry.on_located, {})) then();
}

void Refs::complete_located(Cell* cell, const Location& location, ObjectId hold_key, std::vector<CellRef> contained) {
  auto& entry = export_cell(cell);
  entry.location = location;
  entry.hold_key = hold_key;
  entry.contained = std::move(contained);
  located(entry);
  // The watch was for a task that runs here. It would keep a cell that nobody fetches any more.
  if (!cell->ready()) entry.watch = {};
}

void Refs::located(Entry& entry) {
  const CellRef keep = handle(entry);
  const auto& place = *entry.location;
  if (place.rank == context_.self) {
    // Made here for another owner, and now it is passed back to us.
    const auto at = held_.find(entry.hold_key);
    if (at != held_.end()) {
      Value value;
      value.buffer = at->second;
      value.refs = entry.contained;
      entry.cell->complete(std::move(value));
    } else {
      entry.cell->complete_error(
          runtime_error(context_, Errc::object_lost,
                        fmt::format("object {}.{} is said to lie in rank {}, which does not hold it", entry.id.owner,
                                    entry.id.index, context_.self)));
    }
  } else if (const auto memory = context_.host->peer_memory(place.rank); !memory.empty()) {
    if (place.offset > memory.size() || place.size > memory.size() - place.offset) {
      entry.cell->complete_error(runtime_error(
          context_, Errc::object_lost,
          fmt::format("object {}.{} is said to be {} bytes at {} of the memory of rank {}, which has {}",
                      entry.id.owner, entry.id.index, place.size, place.offset, place.rank, memory.size())));
      return resolved(entry);
    }
    Value value;
    value.lazy = Value::Lazy::peer;
    value.id_owner = entry.id.owner;
    value.id_index = entry.id.index;
    // Not held: pinned() adds what keeps it in place.
    value.buffer.data =
        std::shared_ptr<std::byte>(std::shared_ptr<std::byte>{}, const_cast<std::byte*>(memory.data()) + place.offset);
    value.buffer.size = place.size;
    value.buffer.rank = place.rank;
    value.buffer.offset = place.offset;
    value.buffer.generation = place.generation;
    value.refs = entry.contained;
    entry.cell->complete(std::move(value));
  } else if (entry.wanted) {
    fetch(entry);
  }
  resolved(entry);
}

void Refs::fetch(Entry& entry) {
  if (entry.fetching || entry.cell->ready()) return;
  entry.fetching = true;
  // The handle keeps the object alive (and the grant with it) until the bytes are here.
  fetcher->fetch(entry.id, *entry.location, [this, keep = handle(entry)](Status status) {
    auto& e = *keep->entry();
    e.fetching = false;
    if (keep->ready()) return;
    if (!status.ok()) {
      keep->complete_error(runtime_error(context_, status.error().code, status.error().message));
      return;
    }
    Value value;
    value.lazy = Value::Lazy::copy;
    value.id_owner = e.id.owner;
    value.id_index = e.id.index;
    value.refs = e.contained;
    value.buffer.size = e.location->size;
    keep->complete(std::move(value));
  });
}

void Refs::refetch(Cell* cell, std::function<void()> then) {
  auto& entry = *cell->entry();
  if (!entry.location || !context_.alive(entry.location->rank)) return then();
  fetcher->fetch(entry.id, *entry.location, [keep = handle(entry), then = std::move(then)](Status) { then(); });
}

void Refs::subscribe(Entry& entry) {
  if (entry.owned || entry.subscribed || entry.location || entry.cell->ready()) return;
  if (!context_.alive(entry.id.owner)) return;
  entry.subscribed = true;
  auto out = context_.begin(MessageType::subscribe);
  out.id(entry.id);
  out.put(static_cast<std::uint8_t>(entry.cell->kind() == detail::CellKind::actor));
  context_.send(entry.id.owner);
}

void Refs::need(Cell* cell) {
  auto* entry = cell->entry();
  if (entry == nullptr || cell->ready()) return;
  entry->wanted = true;
  if (entry->location)
    fetch(*entry);
  else
    subscribe(*entry);
}

void Refs::when_located(Cell* cell, std::function<void()> then) {
  auto* entry = cell->entry();
  if (cell->ready() || (entry != nullptr && entry->location)) return then();
  if (entry == nullptr) entry = &export_cell(cell);
  entry->on_located.push_back(std::move(then));
  if (!entry->owned) {
    subscribe(*entry);
  } else if (!entry->watch) {
    entry->watch = handle(*entry);
    if (!cell->add_waiter(&entry->watcher)) on_became_ready(*entry);
  }
}

std::pair<Rank, std::uint64_t> Refs::place_of(Cell* cell) {
  if (auto* entry = cell->entry(); entry != nullptr && entry->location) {
    const auto rank = cell->ready() && cell->form() != detail::CellForm::error && cell->value().lazy != Value::Lazy::no
                          ? context_.self
                          : entry->location->rank;
    return {rank, entry->location->size};
  }
  if (!cell->ready()) return {kNoRank, 0};
  if (cell->form() == detail::CellForm::encoded) return {context_.self, cell->value().view().size()};
  return {context_.self, 0};
}

void Refs::on_value(Rank from, Reader& in) {
  const auto id = in.id();
  Reader peek = in;
  const auto kind = peek.get<ValueKind>();
  // Only the owner says what an object is.
  if (id.owner != from) return in.fail();
  auto* entry = find(id);
  if (kind == ValueKind::error) {
    in = peek;
    auto error = decode_error(in);
    if (!in.done()) return in.fail();
    if (entry == nullptr || entry->cell->ready()) return;
    const CellRef keep = handle(*entry);
    entry->cell->complete_error(std::move(error));
    return resolved(*entry);
  }
  auto incoming = read_value(in, from);
  if (!in.done()) return in.fail();
  // Dropped meanwhile, or known already: what came along is dropped, its grants go back.
  if (entry == nullptr || entry->owned || entry->cell->ready() || entry->location) return;
  // Its last handle may just have gone, with on_released() still to come: completing it must not be counted as the last
  // once more.
  const CellRef keep = handle(*entry);
  if (incoming.location) {
    entry->location = incoming.location;
    entry->contained = std::move(incoming.value.refs);
    if (incoming.location->rank == context_.self) {
      // We hold the result; its key is the owner's task id, so look the block up by place.
      for (const auto& [key, buffer] : held_) {
        if (key.owner == from && buffer.offset == incoming.location->offset) entry->hold_key = key;
      }
    }
    return located(*entry);
  }
  entry->cell->complete(std::move(incoming.value));
  resolved(*entry);
}

}  // namespace trireme::core
