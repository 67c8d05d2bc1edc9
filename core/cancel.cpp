#include "core/cancel.hpp"

#include <algorithm>
#include <utility>

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

void encode(Writer& out, CancelOptions options) {
  out.put(static_cast<std::uint8_t>((options.force ? 1 : 0) | (options.recursive ? 2 : 0)));
}

CancelOptions decode(Reader& in) {
  const auto bits = in.get<std::uint8_t>();
  if (bits > 3) in.fail();
  return {(bits & 1U) != 0, (bits & 2U) != 0};
}

}  // namespace

void Cancels::everywhere(std::uint64_t key, CancelOptions options, std::function<void(bool)> then) {
  const bool found = here && here(key, options);
  post(*context_.host, [this, key, options, found, then = std::move(then)]() mutable {
    Round round{{}, found, std::move(then)};
    for (Rank rank = 0; rank < context_.size; ++rank)
      if (rank != context_.self && context_.alive(rank)) round.asked.push_back(rank);
    if (round.asked.empty()) {
      if (round.then) round.then(found);
      return;
    }
    const auto number = next_round_++;
    for (const Rank rank : round.asked) {
      auto out = context_.begin(MessageType::cancel);
      out.varint(number);
      out.put(key);
      encode(out, options);
      context_.send(rank);
    }
    rounds_.emplace(number, std::move(round));
  });
}

void Cancels::on_ask(Rank from, Reader& in) {
  const auto number = in.varint();
  const auto key = in.get<std::uint64_t>();
  const auto options = decode(in);
  if (!in.done()) return in.fail();
  const bool found = here && here(key, options);
  // Behind the outcome of a call that has just ended here: who asks then has that first.
  post(*context_.host, [this, from, number, found] {
    if (!context_.alive(from)) return;
    auto out = context_.begin(MessageType::cancel_answer);
    out.varint(number);
    out.put(static_cast<std::uint8_t>(found));
    context_.send(from);
  });
}

void Cancels::on_answer(Rank from, Reader& in) {
  const auto number = in.varint();
  const auto found = in.get<std::uint8_t>();
  const auto at = rounds_.find(number);
  if (!in.done() || found > 1 || at == rounds_.end()) return in.fail();
  const auto& asked = at->second.asked;
  if (std::find(asked.begin(), asked.end(), from) == asked.end()) return in.fail();
  heard(number, from, found != 0);
}

void Cancels::heard(std::uint64_t number, Rank from, bool found) {
  const auto at = rounds_.find(number);
  at->second.found |= found;
  if (std::erase(at->second.asked, from); !at->second.asked.empty()) return;
  const auto round = std::move(at->second);
  rounds_.erase(at);
  if (round.then) round.then(round.found);
}

void Cancels::on_rank_dead(Rank dead) {
  std::vector<std::uint64_t> waiting;
  for (const auto& [number, round] : rounds_)
    if (std::find(round.asked.begin(), round.asked.end(), dead) != round.asked.end()) waiting.push_back(number);
  std::sort(waiting.begin(), waiting.end());
  // What it had is not with it any more.
  for (const auto number : waiting) heard(number, dead, false);
}

void Cancels::at_owner(const CellRef& result, CancelOptions options) {
  post(*context_.host, [this, result, options] {
    const auto* entry = result->entry();
    if (entry == nullptr || entry->id.owner == context_.self || !context_.alive(entry->id.owner)) return;
    auto out = context_.begin(MessageType::cancel_result);
    out.id(entry->id);
    encode(out, options);
    context_.send(entry->id.owner);
  });
}

void Cancels::on_result(Rank from, Reader& in) {
  const auto id = in.id();
  const auto options = decode(in);
  if (!in.done() || id.owner != context_.self) return in.fail();
  const auto has = refs_.right(from, id, false);
  if (has == Refs::Right::none) return in.fail();
  if (has == Refs::Right::use && result) result(refs_.handle(*refs_.find(id)), options);
}

void cancel_cells(const Context& context, std::vector<CellRef> cells, std::string why) {
  post(*context.host, [&context, cells = std::move(cells), why = std::move(why)] {
    const auto error = runtime_error(context, Errc::cancelled, why);
    for (const auto& cell : cells) {
      // A value that is known to lie in another rank: it is done, although nobody here has fetched it.
      if (const auto* entry = cell->entry(); entry != nullptr && entry->location) continue;
      cell->cancel(error);
    }
  });
}

}  // namespace trireme::core
