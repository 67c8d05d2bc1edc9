#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>

#include "objstore/store.hpp"

// What the two halves of the store share: the table of copies (store.cpp), and where their memory comes from, when
// there is some at once and when not (store_room.cpp).
namespace trireme::objstore {

inline constexpr unsigned kShards = 16;  // of the table; enough that the threads of one rank rarely meet

enum class State : std::uint8_t {
  filling,
  doomed,  ///< dropped while it was being filled: goes when its writer is done
  sealed,
  dropped,
};

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

  std::mutex waiting_mutex;  // guards the five below; taken with no shard locked
  std::deque<Waiting> waiting;
  std::uint64_t waiting_bytes = 0;
  std::uint64_t served = 0;
  bool serving = false;      // a thread is in serve(): it alone takes from the queue, so order holds
  bool serve_again = false;  // memory was freed meanwhile
  /// Size of the queue including the creation being served. seq_cst: who frees memory and then reads 0 is ordered
  /// before who raises it and then finds no memory, so one of the two sees the other.
  std::atomic<std::size_t> waiting_count{0};
};

}  // namespace trireme::objstore
