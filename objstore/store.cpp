#include "objstore/store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <deque>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "base/check.hpp"

namespace trireme::objstore {

namespace {

constexpr unsigned kShards = 16;  // of the table; enough that the threads of one rank rarely meet

enum class State : std::uint8_t {
  filling,
  doomed,  ///< dropped while it was being filled: goes when its writer is done
  sealed,
  dropped,
};

}  // namespace

/// One copy. In the table until dropped; in its shard's list of its kind while sealed and unpinned.
struct Entry : Hold {
  Entry(Store::Impl& owner, ObjectId name, const Block& place, CopyKind its_kind);

  Store::Impl& store;
  const ObjectId id;
  const Block block;
  CopyKind kind;
  State state = State::filling;
  Entry* older = nullptr;
  Entry* newer = nullptr;
  std::uint64_t stamp = 0;  // when it was last unpinned, in unpins of the store
};

/// Room that only its Buffers know.
struct Unnamed : Hold {
  Unnamed(Store::Impl& owner, const Block& place) : Hold(&Unnamed::drop), store(owner), block(place) {
    count.store(1, std::memory_order_relaxed);  // not shared yet
  }
  static void drop(Hold* hold);

  Store::Impl& store;
  const Block block;
};

/// Least recently unpinned first.
struct AgeList {
  Entry* oldest = nullptr;
  Entry* newest = nullptr;

  void add(Entry* entry) {
    entry->newer = nullptr;
    entry->older = newest;
    (newest != nullptr ? newest->newer : oldest) = entry;
    newest = entry;
  }
  void remove(Entry* entry) {
    (entry->older != nullptr ? entry->older->newer : oldest) = entry->newer;
    (entry->newer != nullptr ? entry->newer->older : newest) = entry->older;
  }
};

struct alignas(64) Shard {
  mutable std::mutex mutex;  // guards what follows and all fields of the entries in it
  std::unordered_map<ObjectId, Entry*> table;
  std::array<AgeList, 2> unpinned;  // by kind
};

struct Waiting {
  ObjectId id;
  std::uint64_t size;
  CopyKind kind;
  Store::Created done;
};

struct Store::Impl {
  Impl(Arena& the_arena, StoreOptions the_options) : arena(the_arena), options(std::move(the_options)) {}

  Shard& shard(ObjectId id) { return shards[std::hash<ObjectId>{}(id) >> 60U & (kShards - 1)]; }
  AgeList& ages(Shard& in, const Entry* entry) { return in.unpinned[static_cast<std::size_t>(entry->kind)]; }

  void park(Shard& in, Entry* entry);
  void unpark(Shard& in, Entry* entry);
  Buffer pin_locked(Shard& in, Entry* entry);
  void detach(Shard& in, Entry* entry);
  void dispose(Entry* entry, bool serve_waiting = true);
  void dispose(Unnamed* room);
  void unpin(Entry* entry);
  bool evict_oldest();
  std::optional<Allocation> place(ObjectId id, std::uint64_t size, CopyKind kind, bool& exists);
  std::optional<Block> find_room(std::uint64_t size);
  Result<Allocation> create(ObjectId id, std::uint64_t size, CopyKind kind);
  Error too_large(std::uint64_t size) const;
  Error no_room(std::uint64_t size) const;
  Result<Buffer> seal(ObjectId id, bool pin);
  void serve();

  Arena& arena;
  const StoreOptions options;
  std::array<Shard, kShards> shards;

  // All relaxed: an order among unpins, and statistics.
  std::atomic<std::uint64_t> unpins{0};
  std::atomic<std::uint64_t> objects{0}, object_bytes{0}, secondary_bytes{0}, dropped_pinned{0};
  std::atomic<std::uint64_t> evictions{0}, evicted_bytes{0};
  std::atomic<std::uint64_t> evictable_bytes{0};  // in the lists of unpinned secondaries

  std::mutex waiting_mutex;  // guards the four below; taken with no shard locked
  std::deque<Waiting> waiting;
  std::uint64_t waiting_bytes = 0;
  bool serving = false;      // a thread is in serve(): it alone takes from the queue, so order holds
  bool serve_again = false;  // memory was freed meanwhile
  /// Size of the queue including the creation being served. seq_cst: who frees memory and then reads 0 is ordered
  /// before who raises it and then finds no memory, so one of the two sees the other.
  std::atomic<std::size_t> waiting_count{0};
};

Entry::Entry(Store::Impl& owner, ObjectId name, const Block& place, CopyKind its_kind)
    : Hold([](Hold* hold) {
        auto* self = static_cast<Entry*>(hold);
        self->store.unpin(self);
      }),
      store(owner),
      id(name),
      block(place),
      kind(its_kind) {}

void Unnamed::drop(Hold* hold) {
  // acq_rel: pairs with the other holders' drops. Nobody finds an unnamed block by a table, so 0 is final.
  if (hold->count.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  auto* self = static_cast<Unnamed*>(hold);
  self->store.dispose(self);
}

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

Result<Allocation> Store::Impl::create(ObjectId id, std::uint64_t size, CopyKind kind) {
  if (size > arena.largest_block()) return too_large(size);
  bool exists = false;
  if (auto allocation = place(id, size, kind, exists)) return *allocation;
  if (exists)
    return make_error(Errc::already_exists, fmt::format("object {}:{} already has a copy here", id.owner, id.index));
  return no_room(size);
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

void Store::create_when_possible(ObjectId id, std::uint64_t size, CopyKind kind, Created done) {
  auto& impl = *impl_;
  if (size > impl.arena.largest_block()) return done(impl.too_large(size));
  if (impl.waiting_count.load() == 0) {
    bool exists = false;
    if (auto allocation = impl.place(id, size, kind, exists)) return done(*allocation);
    if (exists) return done(impl.create(id, size, kind));
  }
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
    impl.waiting_count.fetch_add(1);
  }
  impl.serve();  // memory may have been freed between the attempt and the queue
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
  return out;
}

}  // namespace trireme::objstore
