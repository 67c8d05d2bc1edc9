#include <fmt/format.h>

#include <cstring>

#include "base/check.hpp"
#include "objstore/store_impl.hpp"

namespace trireme::objstore {

Entry::Entry(Store::Impl& owner, ObjectId name, const Block& place, CopyKind its_kind)
    : Hold([](Hold* hold) {
        auto* self = static_cast<Entry*>(hold);
        self->store.unpin(self);
      }),
      store(owner),
      id(name),
      block(place),
      kind(its_kind) {}

void Store::Impl::park(Shard& in, Entry* entry) {
  entry->stamp = unpins.fetch_add(1, std::memory_order_relaxed);
  ages(in, entry).add(entry);
  if (entry->kind == CopyKind::secondary) evictable_bytes.fetch_add(entry->block.size, std::memory_order_relaxed);
}

void Store::Impl::unpark(Shard& in, Entry* entry) {
  ages(in, entry).remove(entry);
  if (entry->kind == CopyKind::secondary) evictable_bytes.fetch_sub(entry->block.size, std::memory_order_relaxed);
}

Buffer Store::Impl::pin_locked(Shard& in, Entry* entry) {
  // Relaxed: from 0 only under the shard's lock, which ordered it after the last unpin.
  if (entry->count.fetch_add(1, std::memory_order_relaxed) == 0) unpark(in, entry);
  return Buffer(entry, {arena.at(entry->block.offset), static_cast<std::size_t>(entry->block.size)},
                entry->block.offset, entry->block.generation);
}

void Store::Impl::unpin(Entry* entry) {
  auto count = entry->count.load(std::memory_order_relaxed);
  while (count > 1)
    // release: pairs with the acquire of the last unpin, below or in another thread.
    if (entry->count.compare_exchange_weak(count, count - 1, std::memory_order_release, std::memory_order_relaxed))
      return;
  // To 0 only under the lock: otherwise another thread could pin, unpin and free the entry in between.
  Shard& in = shard(entry->id);
  {
    const std::lock_guard lock(in.mutex);
    if (entry->count.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    if (entry->state != State::dropped) {
      park(in, entry);
      entry = nullptr;
    }
  }
  if (entry != nullptr) {
    dropped_pinned.fetch_sub(1, std::memory_order_relaxed);
    dispose(entry);
  } else if (waiting_count.load() != 0) {
    serve();  // an evictable copy is room, too
  }
}

/// Takes the entry out of the table; its lists too when it is sealed and unpinned.
void Store::Impl::detach(Shard& in, Entry* entry) {
  if (entry->state == State::sealed && entry->count.load(std::memory_order_relaxed) == 0) unpark(in, entry);
  in.table.erase(entry->id);
  objects.fetch_sub(1, std::memory_order_relaxed);
  object_bytes.fetch_sub(entry->block.size, std::memory_order_relaxed);
  if (entry->kind == CopyKind::secondary) secondary_bytes.fetch_sub(entry->block.size, std::memory_order_relaxed);
}

/// Frees a detached entry that nobody pins.
void Store::Impl::dispose(Entry* entry, bool serve_waiting) {
  arena.free(entry->block.offset);
  delete entry;
  if (serve_waiting && waiting_count.load() != 0) serve();
}

std::optional<Allocation> Store::Impl::place(ObjectId id, std::uint64_t size, CopyKind kind, bool& exists) {
  const auto block = find_room(size);
  if (!block) return std::nullopt;
  auto entry = std::make_unique<Entry>(*this, id, *block, kind);
  Shard& in = shard(id);
  {
    const std::lock_guard lock(in.mutex);
    exists = !in.table.emplace(id, entry.get()).second;
  }
  if (exists) {
    arena.free(block->offset);
    return std::nullopt;
  }
  entry.release();
  objects.fetch_add(1, std::memory_order_relaxed);
  object_bytes.fetch_add(size, std::memory_order_relaxed);
  if (kind == CopyKind::secondary) secondary_bytes.fetch_add(size, std::memory_order_relaxed);
  return Allocation{id, {arena.at(block->offset), static_cast<std::size_t>(size)}, block->offset, block->generation};
}

Result<Allocation> Store::Impl::create(ObjectId id, std::uint64_t size, CopyKind kind) {
  if (size > arena.largest_block()) return too_large(size);
  bool exists = false;
  if (auto allocation = place(id, size, kind, exists)) return *allocation;
  if (exists)
    return make_error(Errc::already_exists, fmt::format("object {}:{} already has a copy here", id.owner, id.index));
  return no_room(size);
}

Store::Store(Arena& arena, StoreOptions options) : impl_(std::make_unique<Impl>(arena, std::move(options))) {}

Store::~Store() {
  std::deque<Waiting> waiting;
  {
    const std::lock_guard lock(impl_->waiting_mutex);
    waiting.swap(impl_->waiting);
    impl_->waiting_count.store(0);
  }
  for (auto& creation : waiting)
    creation.done(make_error(Errc::shutdown, "the object store closed while a creation waited for memory"));
  TRIREME_CHECK(impl_->dropped_pinned.load(std::memory_order_relaxed) == 0, "a Buffer outlives its Store");
  for (auto& in : impl_->shards)
    for (auto& [id, entry] : in.table) {
      const auto count = entry->count.load(std::memory_order_relaxed);
      TRIREME_CHECK(count == 0, fmt::format("{} Buffers of object {}.{} of {} bytes outlive their Store", count,
                                            id.owner, id.index, entry->block.size));
      impl_->objects.fetch_sub(1, std::memory_order_relaxed);
      impl_->arena.free(entry->block.offset);
      delete entry;
    }
  TRIREME_CHECK(impl_->objects.load(std::memory_order_relaxed) == 0, "a Buffer without a name outlives its Store");
}

Arena& Store::arena() const { return impl_->arena; }

Result<Allocation> Store::try_create(ObjectId id, std::uint64_t size, CopyKind kind) {
  auto result = impl_->create(id, size, kind);
  // Evictions may have made room that was not enough here but is for a creation that waits.
  if (!result && impl_->waiting_count.load() != 0) impl_->serve();
  return result;
}

Result<Buffer> Store::Impl::seal(ObjectId id, bool pin) {
  Shard& in = shard(id);
  Entry* doomed = nullptr;
  {
    const std::lock_guard lock(in.mutex);
    const auto it = in.table.find(id);
    if (it == in.table.end())
      return make_error(Errc::not_found, fmt::format("object {}:{} has no copy here to seal", id.owner, id.index));
    auto* entry = it->second;
    if (entry->state == State::sealed)
      return make_error(Errc::invalid_argument, fmt::format("object {}:{} is sealed already", id.owner, id.index));
    if (entry->state == State::filling) {
      entry->state = State::sealed;
      park(in, entry);
      if (pin) return pin_locked(in, entry);
    } else {
      detach(in, entry);
      if (pin) {
        entry->state = State::dropped;
        dropped_pinned.fetch_add(1, std::memory_order_relaxed);
        entry->count.store(1, std::memory_order_relaxed);  // nobody else knows the entry any more
        return Buffer(entry, {arena.at(entry->block.offset), static_cast<std::size_t>(entry->block.size)},
                      entry->block.offset, entry->block.generation);
      }
      doomed = entry;
    }
  }
  if (doomed != nullptr) {
    dispose(doomed);
    return make_error(Errc::cancelled,
                      fmt::format("object {}:{} was dropped before it was sealed", id.owner, id.index));
  }
  if (waiting_count.load() != 0) serve();  // a secondary copy that can be evicted is room
  return Buffer();
}

Status Store::seal(ObjectId id) {
  auto result = impl_->seal(id, false);
  if (!result) return result.error();
  return {};
}

Result<Buffer> Store::seal_and_pin(ObjectId id) { return impl_->seal(id, true); }

Status Store::abort(ObjectId id) {
  Shard& in = impl_->shard(id);
  Entry* entry = nullptr;
  {
    const std::lock_guard lock(in.mutex);
    const auto it = in.table.find(id);
    if (it == in.table.end() || it->second->state == State::sealed)
      return make_error(Errc::not_found, fmt::format("object {}:{} has no unsealed copy here", id.owner, id.index));
    entry = it->second;
    impl_->detach(in, entry);
  }
  impl_->dispose(entry);
  return {};
}

Result<Buffer> Store::put(ObjectId id, std::span<const std::byte> bytes, CopyKind kind) {
  auto allocation = try_create(id, bytes.size(), kind);
  if (!allocation) return allocation.error();
  if (!bytes.empty()) std::memcpy(allocation->data.data(), bytes.data(), bytes.size());
  return seal_and_pin(id);
}

Buffer Store::pin(ObjectId id) {
  Shard& in = impl_->shard(id);
  const std::lock_guard lock(in.mutex);
  const auto it = in.table.find(id);
  if (it == in.table.end() || it->second->state != State::sealed) return {};
  return impl_->pin_locked(in, it->second);
}

std::optional<CopyInfo> Store::info(ObjectId id) const {
  Shard& in = impl_->shard(id);
  const std::lock_guard lock(in.mutex);
  const auto it = in.table.find(id);
  if (it == in.table.end()) return std::nullopt;
  const auto& entry = *it->second;
  return CopyInfo{entry.block.offset, entry.block.size, entry.block.generation, entry.kind,
                  entry.state == State::sealed};
}

Status Store::set_kind(ObjectId id, CopyKind kind) {
  Shard& in = impl_->shard(id);
  {
    const std::lock_guard lock(in.mutex);
    const auto it = in.table.find(id);
    if (it == in.table.end())
      return make_error(Errc::not_found, fmt::format("object {}:{} has no copy here", id.owner, id.index));
    auto* entry = it->second;
    if (entry->kind == kind) return {};
    const bool parked = entry->state == State::sealed && entry->count.load(std::memory_order_relaxed) == 0;
    if (parked) impl_->unpark(in, entry);
    entry->kind = kind;
    if (parked) impl_->park(in, entry);
    if (kind == CopyKind::secondary) {
      impl_->secondary_bytes.fetch_add(entry->block.size, std::memory_order_relaxed);
    } else {
      impl_->secondary_bytes.fetch_sub(entry->block.size, std::memory_order_relaxed);
    }
  }
  if (kind == CopyKind::secondary) memory_freed();
  return {};
}

bool Store::drop(ObjectId id) {
  Shard& in = impl_->shard(id);
  Entry* unpinned = nullptr;
  {
    const std::lock_guard lock(in.mutex);
    const auto it = in.table.find(id);
    if (it == in.table.end()) return false;
    auto* entry = it->second;
    if (entry->state == State::doomed) return false;
    if (entry->state == State::filling) {
      entry->state = State::doomed;
      return true;
    }
    impl_->detach(in, entry);
    if (entry->count.load(std::memory_order_acquire) == 0) {  // pairs with the unpins
      unpinned = entry;
    } else {
      entry->state = State::dropped;
      impl_->dropped_pinned.fetch_add(1, std::memory_order_relaxed);
    }
  }
  if (unpinned != nullptr) impl_->dispose(unpinned);
  return true;
}

bool Store::evict(ObjectId id) {
  Shard& in = impl_->shard(id);
  Entry* entry = nullptr;
  {
    const std::lock_guard lock(in.mutex);
    const auto it = in.table.find(id);
    if (it == in.table.end() || it->second->state != State::sealed) return false;
    if (it->second->count.load(std::memory_order_acquire) != 0) return false;  // pairs with the unpins
    entry = it->second;
    impl_->detach(in, entry);
  }
  impl_->dispose(entry);
  return true;
}

StoreStats Store::stats() const {
  const auto read = [](const auto& counter) { return counter.load(std::memory_order_relaxed); };
  StoreStats out;
  out.objects = read(impl_->objects);
  out.object_bytes = read(impl_->object_bytes);
  out.secondary_bytes = read(impl_->secondary_bytes);
  out.dropped_pinned = read(impl_->dropped_pinned);
  out.evictions = read(impl_->evictions);
  out.evicted_bytes = read(impl_->evicted_bytes);
  const std::lock_guard lock(impl_->waiting_mutex);
  out.waiting = impl_->waiting_count.load();
  out.waiting_bytes = impl_->waiting_bytes;
  out.served = impl_->served;
  return out;
}

}  // namespace trireme::objstore
