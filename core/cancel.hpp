#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_set>
#include <vector>

#include "core/context.hpp"
#include "core/refs.hpp"
#include "trireme/task.hpp"

namespace trireme::core {

/// Calls with a key can be cancelled: all ranks are asked for the key. Where the call runs or is queued, whoever runs
/// it ends it; a rank that does not know the key keeps it, so that the call does not begin there later. When no rank
/// knows it, it waits (for arguments, for resources, in a mailbox) or is on its way, and its cells fail at once. A rank
/// that joins later gets what the others keep before it begins.
///
/// What a rank does to a call that is with it is the runner's business (worker processes; in tests/sim a clerk).

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

/// The answers of the ranks that were asked for a key.
class CancelRound : public std::enable_shared_from_this<CancelRound> {
 public:
  explicit CancelRound(std::function<void(bool found)> then) : then_(std::move(then)) {}
  void await(const Ref<bool>& answer);
  void heard(bool found);

 private:
  std::function<void(bool)> then_;
  std::atomic<std::size_t> left_{1};
  std::atomic<bool> found_{false};
};

/// The other ranks that live.
std::vector<Rank> other_ranks();
TaskOptions asking(Rank rank);

/// Asks this rank, then all others: CancelHere(key, args...) says whether the call was with the rank. `then` hears
/// whether it was with any, once all have answered or are dead. Any thread.
template <auto CancelHere, class... Args>
void cancel_everywhere(std::uint64_t key, std::function<void(bool found)> then, Args... args) {
  const auto round = std::make_shared<CancelRound>(std::move(then));
  const bool here = CancelHere(key, args...);
  for (const Rank rank : other_ranks()) round->await(submit_with<CancelHere>(asking(rank), key, args...));
  round->heard(here);
}

/// For a result that another rank owns: CancelRef(result, args...) runs there, for the owner knows the call that makes
/// it. Any thread.
template <auto CancelRef, class... Args>
void cancel_at_owner(const Context& context, const CellRef& result, Args... args) {
  post(*context.host, [&context, result, args...] {
    const auto* entry = result->entry();
    if (entry == nullptr || entry->id.owner == context.self || !context.alive(entry->id.owner)) return;
    using Param = std::remove_cvref_t<std::tuple_element_t<0, typename detail::Signature<decltype(CancelRef)>::Params>>;
    submit_with<CancelRef>(asking(entry->id.owner), Param(result), args...);
  });
}

/// No rank knows the call: its results fail, unless they are there by now. Any thread.
void cancel_cells(const Context& context, std::vector<CellRef> cells);

}  // namespace trireme::core
