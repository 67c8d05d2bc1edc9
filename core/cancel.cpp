#include "core/cancel.hpp"

#include "core/current.hpp"
#include "core/rank_core.hpp"

namespace trireme::core {

namespace {

/// A key is kept in every rank that the call never comes to, so most are never taken.
constexpr std::size_t kKeysMax = 10'000;

}  // namespace

void CancelledKeys::remember(std::uint64_t key) {
  if (!keys_.insert(key).second) return;
  order_.push_back(key);
  if (order_.size() <= kKeysMax) return;
  keys_.erase(order_.front());
  order_.pop_front();
}

Bytes CancelledKeys::write() const {
  Bytes note;
  Writer out(note);
  for (const auto key : keys_) out.put(key);
  return note;
}

void CancelledKeys::read(BytesView note) {
  Reader in(note);
  while (in.left() != 0 && in.ok()) remember(in.get<std::uint64_t>());
}

namespace {

/// An error: the rank died, and what it had is not with it any more. One that answers what is no bool has nothing
/// either.
bool says_yes(const Ref<bool>& answer) {
  if (answer.cell()->form() == detail::CellForm::error) return false;
  try {
    return get(answer);
  } catch (const Exception&) {
    return false;
  }
}

}  // namespace

void CancelRound::await(const Ref<bool>& answer) {
  struct Answer final : detail::Waiter {
    std::shared_ptr<CancelRound> round;
    Ref<bool> ref;
  };
  left_.fetch_add(1, std::memory_order_relaxed);
  auto* waiter = new Answer;
  waiter->round = shared_from_this();
  waiter->ref = answer;
  waiter->fire = [](detail::Waiter* w) {
    const std::unique_ptr<Answer> self(static_cast<Answer*>(w));
    self->round->heard(says_yes(self->ref));
  };
  detail::on_ready(answer.cell().get(), waiter);
}

void CancelRound::heard(bool found) {
  if (found) found_.store(true, std::memory_order_relaxed);
  // acq_rel: the last sees what the others found.
  if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1 && then_) then_(found_.load(std::memory_order_relaxed));
}

std::vector<Rank> other_ranks() {
  const auto& context = current().context();
  std::vector<Rank> ranks;
  for (Rank rank = 0; rank < context.size; ++rank)
    if (rank != context.self && context.alive(rank)) ranks.push_back(rank);
  return ranks;
}

TaskOptions asking(Rank rank) {
  TaskOptions options;
  options.resources.cpus = 0;
  options.placement = Placement::on(rank);
  return options;
}

void cancel_cells(const Context& context, std::vector<CellRef> cells) {
  post(*context.host, [&context, cells = std::move(cells)] {
    const auto error = runtime_error(context, Errc::cancelled, "it was cancelled before it began");
    for (const auto& cell : cells) {
      // A value that is known to lie in another rank: it is done, although nobody here has fetched it.
      if (const auto* entry = cell->entry(); entry != nullptr && entry->location) continue;
      cell->cancel(error);
    }
  });
}

}  // namespace trireme::core
