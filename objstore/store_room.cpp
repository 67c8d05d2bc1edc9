#include <fmt/format.h>

#include <algorithm>

#include "objstore/store_impl.hpp"

namespace trireme::objstore {

void Unnamed::drop(Hold* hold) {
  // acq_rel: pairs with the other holders' drops. Nobody finds an unnamed block by a table, so 0 is final.
  if (hold->count.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  auto* self = static_cast<Unnamed*>(hold);
  self->store.dispose(self);
}

void Store::Impl::dispose(Unnamed* room) {
  objects.fetch_sub(1, std::memory_order_relaxed);
  object_bytes.fetch_sub(room->block.size, std::memory_order_relaxed);
  arena.free(room->block.offset);
  delete room;
  if (waiting_count.load() != 0) serve();
}

bool Store::Impl::evict_oldest() {
  constexpr auto kSecondary = static_cast<std::size_t>(CopyKind::secondary);
  Shard* best = nullptr;
  auto stamp = UINT64_MAX;
  for (auto& in : shards) {
    const std::lock_guard lock(in.mutex);
    const auto* oldest = in.unpinned[kSecondary].oldest;
    if (oldest != nullptr && oldest->stamp < stamp) {
      stamp = oldest->stamp;
      best = &in;
    }
  }
  if (best == nullptr) return false;
  Entry* entry = nullptr;
  {
    const std::lock_guard lock(best->mutex);
    entry = best->unpinned[kSecondary].oldest;
    if (entry == nullptr) return true;  // pinned or evicted meanwhile: look again
    detach(*best, entry);
  }
  evictions.fetch_add(1, std::memory_order_relaxed);
  evicted_bytes.fetch_add(entry->block.size, std::memory_order_relaxed);
  const auto id = entry->id;
  dispose(entry, false);  // the room is for the creation that evicts
  if (options.on_evicted) options.on_evicted(id);
  return true;
}

std::optional<Block> Store::Impl::find_room(std::uint64_t size) {
  auto block = arena.allocate(size);
  if (block) return block;
  // Evict only when that can be enough: a creation that fails anyway must not empty the cache.
  const auto enough = [&] {
    return arena.bytes() - arena.used_bytes() + evictable_bytes.load(std::memory_order_relaxed) >= size;
  };
  while (enough() && evict_oldest())
    if ((block = arena.allocate(size))) return block;
  if (options.spiller != nullptr && options.spiller->make_room(size) > 0) block = arena.allocate(size);
  return block;
}

Error Store::Impl::too_large(std::uint64_t size) const {
  return make_error(
      Errc::too_large,
      fmt::format("an object of {} bytes can never fit: the arena has {} bytes, {} of them for one object. "
                  "Split the object, or raise TRIREME_ARENA_BYTES.",
                  size, arena.bytes(), arena.largest_block()));
}

Error Store::Impl::no_room(std::uint64_t size) const {
  const auto memory = arena.stats();
  return make_error(
      Errc::out_of_memory,
      fmt::format(
          "no room for an object of {} bytes: {} of {} bytes are in use by {} objects ({} bytes in secondary copies "
          "that can be evicted), the largest free range is {} bytes. Drop references to objects, or raise "
          "TRIREME_ARENA_BYTES.",
          size, memory.used_bytes, memory.bytes, objects.load(std::memory_order_relaxed),
          evictable_bytes.load(std::memory_order_relaxed), memory.largest_free));
}

/// Hands freed memory to the creations that wait, first come, first served.
void Store::Impl::serve() {
  std::unique_lock lock(waiting_mutex);
  if (serving) {
    serve_again = true;
    return;
  }
  serving = true;
  while (!waiting.empty()) {
    // Out of the queue while it is tried, so that cancel() cannot take it away under us.
    auto first = std::move(waiting.front());
    waiting.pop_front();
    serve_again = false;
    lock.unlock();
    bool exists = false;
    auto allocation = place(first.id, first.size, first.kind, exists);
    lock.lock();
    if (!allocation && !exists) {
      waiting.push_front(std::move(first));
      if (serve_again) continue;
      break;
    }
    waiting_bytes -= first.size;
    ++served;
    waiting_count.fetch_sub(1);
    lock.unlock();
    if (allocation) {
      first.done(*allocation);
    } else {
      first.done(make_error(Errc::already_exists,
                            fmt::format("object {}:{} already has a copy here", first.id.owner, first.id.index)));
    }
    lock.lock();
  }
  serving = false;
}

void Store::create_when_possible(ObjectId id, std::uint64_t size, CopyKind kind, Created done) {
  auto& impl = *impl_;
  if (size > impl.arena.largest_block()) return done(impl.too_large(size));
  if (impl.waiting_count.load() == 0) {
    bool exists = false;
    if (auto allocation = impl.place(id, size, kind, exists)) return done(*allocation);
    if (exists) return done(impl.create(id, size, kind));
  }
  bool first = false;
  {
    std::unique_lock lock(impl.waiting_mutex);
    if (impl.waiting.size() >= impl.options.waiting_max) {
      lock.unlock();
      return done(
          make_error(Errc::would_block,
                     fmt::format("no room for an object of {} bytes, and {} creations wait for memory already (the "
                                 "limit). Wait for some of them before more objects are made.",
                                 size, impl.options.waiting_max)));
    }
    impl.waiting.push_back({id, size, kind, std::move(done)});
    impl.waiting_bytes += size;
    first = impl.waiting_count.fetch_add(1) == 0;
  }
  if (first && impl.options.on_waiting) impl.options.on_waiting();
  impl.serve();  // memory may have been freed between the attempt and the queue
}

std::string Store::why_waiting() const {
  std::unique_lock lock(impl_->waiting_mutex);
  if (impl_->waiting.empty()) return "";
  const auto size = impl_->waiting.front().size;
  lock.unlock();
  return impl_->no_room(size).message;
}

bool Store::cancel(ObjectId id) {
  auto& impl = *impl_;
  Created dropped;  // destroyed after the lock
  {
    const std::lock_guard lock(impl.waiting_mutex);
    for (auto it = impl.waiting.begin(); it != impl.waiting.end(); ++it) {
      if (it->id != id) continue;
      dropped = std::move(it->done);
      impl.waiting_bytes -= it->size;
      impl.waiting.erase(it);
      impl.waiting_count.fetch_sub(1);
      break;
    }
  }
  if (!dropped) return false;
  if (impl.waiting_count.load() != 0) impl.serve();  // the next may fit where this one did not
  return true;
}

Result<Buffer> Store::hold(std::uint64_t size) {
  auto& impl = *impl_;
  if (size > impl.arena.largest_block()) return impl.too_large(size);
  const auto block = impl.find_room(size);
  if (!block) {
    // Evictions may have made room that was not enough here but is for a creation that waits.
    auto error = impl.no_room(size);
    if (impl.waiting_count.load() != 0) impl.serve();
    return error;
  }
  impl.objects.fetch_add(1, std::memory_order_relaxed);
  impl.object_bytes.fetch_add(size, std::memory_order_relaxed);
  return Buffer(new Unnamed(impl, *block), {impl.arena.at(block->offset), static_cast<std::size_t>(size)},
                block->offset, block->generation);
}

std::vector<ObjectId> Store::spill_candidates(std::uint64_t bytes) const {
  constexpr auto kPrimary = static_cast<std::size_t>(CopyKind::primary);
  // Each shard gives its oldest until they alone would cover it; the oldest of all of them are what is asked for.
  std::vector<std::pair<std::uint64_t, std::pair<ObjectId, std::uint64_t>>> found;
  for (auto& in : impl_->shards) {
    const std::lock_guard lock(in.mutex);
    std::uint64_t covered = 0;
    for (auto* entry = in.unpinned[kPrimary].oldest; entry != nullptr && covered < bytes; entry = entry->newer) {
      found.push_back({entry->stamp, {entry->id, entry->block.size}});
      covered += entry->block.size;
    }
  }
  std::sort(found.begin(), found.end());
  std::vector<ObjectId> out;
  std::uint64_t covered = 0;
  for (const auto& [stamp, copy] : found) {
    if (covered >= bytes) break;
    out.push_back(copy.first);
    covered += copy.second;
  }
  return out;
}

void Store::memory_freed() {
  if (impl_->waiting_count.load() != 0) impl_->serve();
}

}  // namespace trireme::objstore
