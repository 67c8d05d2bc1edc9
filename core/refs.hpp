#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/context.hpp"

namespace trireme::core {
class Refs;
}

namespace trireme::detail {

/// What the protocol knows of an exported or borrowed cell.
///
/// Lifetime: as long as its cell, which is freed when no handle lives in this rank and (owner) no other rank borrows.
/// `lives` counts how often the cell's count left 0, `drops` how often it came back to 0; the drop that finds no other
/// pending posts `released`. So nobody touches the entry after the last drop was counted.
struct Entry {
  ObjectId id;
  Cell* cell = nullptr;
  bool owned = false;

  std::uint32_t lives = 1;              // under the token
  std::atomic<std::uint32_t> drops{0};  // any thread: last releasers (release), the token's holder (acquire)
  bool local = true;                    // handles in this rank

  std::vector<std::pair<Rank, std::uint32_t>> grants;  // owner: who borrows, and how many grants it was given
  bool given = false;                                  // owner: there was a grant, to anybody
  std::vector<Rank> subscribers;                       // owner: who waits for the value
  std::uint32_t received = 0;                          // borrower: grants to give back
  std::vector<std::pair<Rank, std::uint32_t>> loans;   // borrower: passed on, not yet registered at the owner
  bool subscribed = false;

  std::optional<core::Location> location;  // the value is large and lies elsewhere
  ObjectId hold_key;                       // owner: names the result in the arena of location->rank
  std::vector<CellRef> contained;          // references inside a located value
  std::unique_ptr<Value> encoded;          // owner: wire form of a typed value, made at the first need
  std::vector<std::function<void()>> on_located;
  bool wanted = false;  // somebody here waits for the value itself
  bool fetching = false;
  CellRef watch;  // held while `watcher` waits for the local task

  struct Link : scheduler::Command {
    Entry* entry = nullptr;
    core::Context* context = nullptr;
    core::Refs* refs = nullptr;
  };
  Link released;
  struct Watcher : Waiter {
    Entry* entry = nullptr;
  } watcher;
  Link became_ready;
};

}  // namespace trireme::detail

namespace trireme::core {

using detail::Cell;
using detail::CellRef;
using detail::Entry;
using detail::Value;

/// Brings a large object into this rank's arena. Implemented over objstore's Puller.
class Fetcher {
 public:
  virtual ~Fetcher() = default;
  /// `done` runs under the token, exactly once: the copy is sealed in the store under `id`, or an error.
  virtual void fetch(ObjectId id, const Location& from, std::function<void(Status)> done) = 0;
};

/// Ownership and borrowing: who has references to what, and how values reach those who wait for them.
///
/// The rank that made a cell owns it. A message that carries a reference from the owner grants it to the receiver; from
/// a third rank it is a loan: the lender keeps its own reference until the owner has registered the receiver (borrow,
/// loan_done). A rank whose last handle is gone gives back all grants it received (release). Links are FIFO, so a
/// release never overtakes the borrow it belongs to. When a rank dies, its grants and the loans towards it are dropped.
///
/// A rank may name an object of ours once it was granted it, or has said that somebody lent it; else it lies, and its
/// message does not decode. A loan of what was given to nobody (or is freed) is void: the lender may have made it up,
/// so the borrower is answered with errors until it gives the reference back. See docs/decisions/006.
///
/// Threading: under the token.
class Refs {
 public:
  explicit Refs(Context& context) : context_(context) {}
  ~Refs();
  Fetcher* fetcher = nullptr;
  /// Called when an owned actor has no handle left in the job.
  std::function<void(Entry&)> on_actor_unreferenced;
  /// Gives the right cell to a handle that arrived (an actor hosted here gets its mailbox); without an id, one that is
  /// to become an error.
  std::function<Cell*(ObjectId)> make_actor_cell;

  ObjectId new_id(std::uint64_t count = 1) {
    const auto first = next_index_;
    next_index_ += count;
    return {context_.self, first};
  }
  Entry& export_cell(Cell* cell);
  /// A new handle on a cell that the protocol knows.
  CellRef handle(Entry& entry);
  Entry* find(ObjectId id);
  /// What a rank may do with an object of this rank.
  enum class Right : std::uint8_t {
    none,     ///< it was never given it, or as something else: to name it is a lie
    nothing,  ///< it was lent what does not exist: an error is all it gets
    use,
  };
  Right right(Rank rank, ObjectId id, bool actor) const;

  /// The reference table of a message to `to`: grants or lends each. The first `arguments` stand for their values:
  /// small ones that are here go in their place, so that nobody has to ask for them.
  void write(Writer& out, std::span<const CellRef> refs, Rank to, std::size_t arguments = 0);
  /// Reads such a table; what it returns are handles of this rank. Bad bytes make `in` bad.
  std::vector<CellRef> read(Reader& in, Rank from, std::size_t arguments = 0);

  /// Starts what is needed for the value to come here.
  void need(Cell* cell);
  /// `then` runs under the token once the value exists somewhere (or is an error), maybe at once.
  void when_located(Cell* cell, std::function<void()> then);
  /// Where the value lies: this rank for a ready cell, kNoRank while unknown. Size in bytes (0 for typed values).
  std::pair<Rank, std::uint64_t> place_of(Cell* cell);

  /// The result of a remote task: small, large (in the arena of location.rank under hold_key), or an error.
  void complete_located(Cell* cell, const Location& location, ObjectId hold_key, std::vector<CellRef> contained);
  /// Results made here for owners elsewhere.
  void hold(ObjectId key, detail::Buffer buffer) { held_[key] = std::move(buffer); }

  void on_subscribe(Rank from, Reader& in);
  void on_value(Rank from, Reader& in);
  void on_borrow(Rank from, Reader& in);
  void on_loan_done(Rank from, Reader& in);
  void on_release(Rank from, Reader& in);
  void on_free_result(Rank from, Reader& in);
  void on_rank_dead(Rank dead);
  /// The job is over, and no other rank gives anything back any more: what no handle of this rank holds goes.
  void end();

  void write_value(Writer& out, const Value& value, Rank to);
  struct Incoming {
    Value value;
    std::optional<Location> location;
  };
  Incoming read_value(Reader& in, Rank from);
  /// A copy that was evicted after it was pulled: `then` runs once it is back or failed.
  void refetch(Cell* cell, std::function<void()> then);

  void on_released(Entry& entry);
  void on_became_ready(Entry& entry);

  /// Goes through the cells of this rank that other ranks know, or knew.
  template <class F>
  void each_owned(F f) const {
    for (const auto& [id, entry] : entries_)
      if (entry->owned) f(*entry);
  }
  std::size_t entries() const { return entries_.size(); }
  /// Objects of this rank that others believe to have been lent and were not.
  std::size_t void_loans() const { return void_loans_.size(); }
  std::size_t held() const { return held_.size(); }
  /// For leak reports: "owned 0.3 grants 1:2 ...".
  std::string dump() const;

 private:
  std::vector<CellRef> handles();
  /// The value of a cell if it is here and small; `room` holds it where nothing else does.
  const Value* small_value(Cell* cell, Value& room);
  Entry& make_entry(ObjectId id, Cell* cell, bool owned);
  void maybe_free(Entry& entry);
  CellRef lost(bool actor, std::string why);
  void grant(Entry& entry, Rank to);
  std::uint32_t end_void_loans(ObjectId id, Rank borrower, std::uint32_t count_max);
  void answer(Entry& entry, Rank to);
  void located(Entry& entry);
  void fetch(Entry& entry);
  void resolved(Entry& entry);
  void subscribe(Entry& entry);

  Context& context_;
  std::unordered_map<ObjectId, Entry*> entries_;
  std::unordered_map<ObjectId, detail::Buffer> held_;
  using Counts = std::vector<std::pair<Rank, std::uint32_t>>;
  std::unordered_map<ObjectId, Counts> void_loans_;  // owner: by whom, and how often
  std::uint64_t next_index_ = 1;
};

}  // namespace trireme::core
