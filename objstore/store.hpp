#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/ids.hpp"
#include "base/result.hpp"
#include "objstore/arena.hpp"
#include "objstore/buffer.hpp"

namespace trireme::objstore {

enum class CopyKind : std::uint8_t {
  primary,    ///< the copy that must not go away until the owner says so
  secondary,  ///< made by a pull; evicted under pressure
};

/// Room for a new object, to be filled and then sealed (or aborted). Stays in place until one of the two.
struct Allocation {
  ObjectId id;
  std::span<std::byte> data;
  std::uint64_t offset = 0;
  std::uint64_t generation = 0;
};

/// A sealed or unsealed copy as the table knows it.
struct CopyInfo {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::uint64_t generation = 0;
  CopyKind kind = CopyKind::primary;
  bool sealed = false;
};

/// Makes room by moving primary copies out of the arena. The store asks it when nothing is left to evict.
class Spiller {
 public:
  virtual ~Spiller() = default;
  /// Called with no lock held, from any thread, possibly from several at once. Writes copies out (which ones:
  /// Store::spill_candidates) and gives each up with Store::evict, now or later.
  /// Returns the bytes that are free now or on their way out; 0 when nothing can be spilled. While more than 0 is on
  /// its way, a creation that waits is tried again with each copy that goes.
  virtual std::uint64_t make_room(std::uint64_t bytes) = 0;
};

struct StoreOptions {
  /// Creations that may wait for memory at once; more is an error to the caller, who must slow down.
  std::size_t waiting_max = 65'536;
  /// A secondary copy was evicted; runs on the thread that needed the memory, no lock held.
  std::function<void(ObjectId)> on_evicted;
  /// A creation begins to wait for memory while none waited; runs on its thread, no lock held.
  std::function<void()> on_waiting;
  Spiller* spiller = nullptr;
};

struct StoreStats {
  std::uint64_t objects = 0, object_bytes = 0;  ///< in the table, or from hold()
  std::uint64_t secondary_bytes = 0;
  std::uint64_t dropped_pinned = 0;  ///< dropped, but still pinned by readers
  std::uint64_t evictions = 0, evicted_bytes = 0;
  std::uint64_t waiting = 0, waiting_bytes = 0;  ///< creations that wait for memory
  std::uint64_t served = 0;                      ///< creations that waited and have it
};

/// The copies of objects in this rank's arena, by id.
///
/// A copy is created (room, not readable), filled, sealed (immutable from now on), pinned by readers any number of
/// times, and dropped. A dropped copy leaves the table at once and its memory with the last pin. An unpinned sealed
/// secondary copy may be evicted whenever memory is short, least recently unpinned first.
///
/// Threading: any thread. Callbacks (creation done, on_evicted, Spiller) run on the thread whose call led to them,
///            never under a lock of the store: they may call the store, and should otherwise only post.
/// Errors:    out_of_memory: nothing (more) can be evicted now. too_large: larger than the arena, can never fit.
///            already_exists, not_found, invalid_argument (sealed twice), cancelled (dropped while it was
///            filled). Texts say asked, available and limit.
/// Lifetime:  the arena outlives the store; the store outlives every Buffer and waiting creation.
class Store {
 public:
  using Created = std::function<void(Result<Allocation>)>;

  Store(Arena& arena, StoreOptions options);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  /// Room now, evicting if that helps, or an error. Overtakes creations that wait: use it for what frees memory when it
  /// completes (results of running tasks), create_when_possible() for what a producer can be held back on.
  Result<Allocation> try_create(ObjectId id, std::uint64_t size, CopyKind kind);
  /// Calls `done` once: from here when there is room at once and nobody waits or when it can never fit; else later, in
  /// the order of the calls, from whichever thread frees the memory.
  void create_when_possible(ObjectId id, std::uint64_t size, CopyKind kind, Created done);
  /// Takes a waiting creation back. True when `done` will not run any more.
  bool cancel(ObjectId id);

  /// What was written to the Allocation's data is the object from now on.
  Status seal(ObjectId id);
  /// seal(), and the first pin in the same step (an unpinned secondary copy may vanish at once). A copy that was
  /// dropped meanwhile comes back pinned, too, but is not in the table.
  Result<Buffer> seal_and_pin(ObjectId id);
  /// Gives an unsealed copy back.
  Status abort(ObjectId id);
  /// Allocates, copies and seals.
  Result<Buffer> put(ObjectId id, std::span<const std::byte> bytes, CopyKind kind = CopyKind::primary);

  /// Room without a name: in no table, so only the Buffer's holders know it, and it is freed with the last of them.
  /// Its maker may write to it until it lets others see it. Overtakes creations that wait, as try_create() does.
  Result<Buffer> hold(std::uint64_t size);

  /// Empty when there is no sealed copy here.
  Buffer pin(ObjectId id);
  std::optional<CopyInfo> info(ObjectId id) const;
  /// A secondary copy takes the place of a lost primary, or the other way round.
  Status set_kind(ObjectId id, CopyKind kind);
  /// Out of the table now, out of the arena with its last pin. An unsealed copy goes when its writer seals it (which
  /// then fails with cancelled) or aborts it. False when there was none.
  bool drop(ObjectId id);
  /// drop(), only if sealed and unpinned. Does not call on_evicted.
  bool evict(ObjectId id);

  /// Sealed unpinned primary copies, least recently used first, until `bytes` are covered.
  std::vector<ObjectId> spill_candidates(std::uint64_t bytes) const;
  /// Somebody freed arena memory behind the store's back: serves waiting creations.
  void memory_freed();
  StoreStats stats() const;
  /// What the creation that has waited longest waits for, and what fills the arena; empty when none waits.
  std::string why_waiting() const;
  Arena& arena() const;

  struct Impl;  // private; named here for the entries of the table

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::objstore
