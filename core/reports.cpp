#include "core/reports.hpp"

#include <algorithm>
#include <utility>

namespace trireme::core {

void Reports::takes(Rank to, const scheduler::Resources& demand) {
  cluster_.assume(to, demand, context_.router->stats(to).messages_sent);
}

void Reports::gives_back(Rank to, const scheduler::Resources& amount) {
  cluster_.expect(to, amount, context_.router->stats(to).messages_sent);
}

void Reports::refresh_own() {
  const auto self = context_.self;
  cluster_.update(self, queue_.version(), queue_.headroom(), context_.router->stats(self).messages_received);
}

void Reports::owe(Rank to) {
  if (to == context_.self || stopped_ || !context_.alive(to)) return;
  told_[to].owed = true;
  owed_ = true;
}

bool Reports::has_news(Rank to) const {
  if (!due()) return false;
  const auto at = told_.find(to);
  return at != told_.end() && (at->second.owed || at->second.headroom != queue_.headroom());
}

void Reports::put(Writer& out, Rank to) {
  out.varint(context_.router->stats(to).messages_received);
  out.varint(queue_.version());
  auto headroom = queue_.headroom();
  headroom.encode(out);
  if (to != context_.self && !stopped_ && context_.alive(to))
    told_.insert_or_assign(to, Told{std::move(headroom), false});
}

void Reports::take(Reader& in, Rank from) {
  const auto heard = in.varint();
  const auto version = in.varint();
  const auto available = scheduler::Resources::decode(in);
  if (in.ok()) cluster_.update(from, version, available, heard);
}

void Reports::on_report(Rank from, Reader& in) {
  take(in, from);
  if (!in.done()) in.fail();
}

Nanos Reports::next_deadline() const {
  if (!due()) return kForever;
  // What is due since the last poll() gets its round in the next one, at once.
  return round_at_ != kForever ? round_at_ : 0;
}

void Reports::run_timers() {
  if (!due()) {
    round_at_ = kForever;
    return;
  }
  const auto now = context_.clock->now();
  if (round_at_ == kForever) round_at_ = now + std::max(kRound, kRoundPerRank * static_cast<Nanos>(told_.size()));
  if (now < round_at_) return;
  for (auto& [to, told] : told_) {
    if (!has_news(to) || !context_.alive(to)) continue;
    auto out = context_.begin(MessageType::report);
    put(out, to);
    context_.send(to);
  }
  owed_ = false;
  round_version_ = queue_.version();
  round_at_ = kForever;
}

void Reports::stop() {
  stopped_ = true;
  owed_ = false;
  told_.clear();
}

}  // namespace trireme::core
