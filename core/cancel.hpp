#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/context.hpp"
#include "core/refs.hpp"

namespace trireme::core {

/// Calls with a key can be cancelled: all ranks are asked for the key. Where the call runs or is queued, whoever runs
/// it ends it; a rank that does not know the key keeps it, so that the call does not begin there later. When no rank
/// knows it, it waits (for arguments, for resources, in a mailbox) or is on its way, and its cells fail at once. A rank
/// that joins later gets what the others keep before it begins.
///
/// What a rank does to a call that is with it is the business of the runner (worker processes; in tests/sim a clerk);
/// for what runs on the threads of the rank there is RunningCalls.

/// Keys of cancelled calls that were not with this rank when it was asked.
///
/// Threading: one owner.
class CancelledKeys {
 public:
  void remember(std::uint64_t key);
  void forget(std::uint64_t key) { keys_.erase(key); }
  /// True once for a key that is remembered: the call that came with it must not begin.
  bool take(std::uint64_t key) { return !keys_.empty() && keys_.erase(key) != 0; }
  /// For a rank that joins later and was not asked (Membership::note); there: read().
  Bytes write() const;
  void read(BytesView note);

 private:
  std::unordered_set<std::uint64_t> keys_;
  std::deque<std::uint64_t> order_;  // taken ones included; the oldest are forgotten
};

struct CancelOptions {
  bool force = false;
  bool recursive = false;
};

/// Asks the ranks, in messages: what is to be cancelled may hold all their threads.
///
/// Threading: under the token, unless a method says otherwise.
class Cancels {
 public:
  Cancels(Context& context, Refs& refs) : context_(context), refs_(refs) {}
  /// Says whether the call was with this rank; never blocks. Any thread. Set by the runner before the first call. A
  /// call that began is with the rank until its outcome is posted: whoever is told that no rank has it makes it one
  /// that never began, unless the outcome came first.
  std::function<bool(std::uint64_t key, CancelOptions)> here;
  /// Cancels the call of this rank that makes the result. Set likewise.
  std::function<void(const CellRef& result, CancelOptions)> result;

  /// Asks this rank, then all others. `then` hears, under the token, whether the call was with any, once all have
  /// answered or are dead. Any thread.
  void everywhere(std::uint64_t key, CancelOptions options, std::function<void(bool found)> then);
  /// For a result that another rank owns: that knows the call that makes it. Any thread.
  void at_owner(const CellRef& result, CancelOptions options);

  void on_ask(Rank from, Reader& in);
  void on_answer(Rank from, Reader& in);
  void on_result(Rank from, Reader& in);
  void on_rank_dead(Rank dead);
  /// Questions that are open.
  std::size_t open() const { return rounds_.size(); }
  /// At the end of the session: nobody answers any more.
  void drop_open() { const auto open = std::exchange(rounds_, {}); }

 private:
  struct Round {
    std::vector<Rank> asked;
    bool found = false;
    std::function<void(bool)> then;
  };
  void heard(std::uint64_t number, Rank from, bool found);

  Context& context_;
  Refs& refs_;
  std::unordered_map<std::uint64_t, Round> rounds_;
  std::uint64_t next_round_ = 0;
};

/// No rank knows the call, or nobody is to wait for its end: its results fail, unless they are there by now. Any
/// thread.
void cancel_cells(const Context& context, std::vector<CellRef> cells,
                  std::string why = "it was cancelled before it began");

}  // namespace trireme::core
