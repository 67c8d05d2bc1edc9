#include "scheduler/steal.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace trireme::scheduler {
namespace {

enum class Kind : std::uint8_t {
  ask = 1,    // varint nonce, rest: free resources. Answered by given or empty.
  wait = 2,   // rest: free resources. Answered by given, at once or whenever there is work; never by empty.
  given = 3,  // varint nonce (0: for a wait), varint tasks, which came just before
  empty = 4,  // varint nonce
  offer = 5,  // varint source: who has tasks, varint hops: how often it may be passed on. Not answered.
};

/// An offer is passed on at most this often: who waits may have found work since, and know others who wait.
constexpr std::uint32_t kOfferHops = 2;

}  // namespace

StealProtocol::StealProtocol(Victims victims, StealHost& host, StealOptions options, std::uint64_t seed)
    : victims_(std::move(victims)), host_(host), options_(options), rng_(seed) {}

void StealProtocol::set_phase(Phase phase, Nanos now) {
  if (phase == Phase::busy && phase_ != Phase::busy) {
    offer_pause_ = options_.offer_every;
    deadline_ = now + offer_pause_;
  } else if (phase != Phase::busy) {
    deadline_ = kForever;
  }
  phase_ = phase;
  waiting_changed();
}

void StealProtocol::on_local_idle(Nanos now) {
  if (phase_ == Phase::stopped || phase_ == Phase::asking || victims_.levels() == 0) return;
  if (now < ask_at_) {
    if (phase_ == Phase::waiting) return;
    set_phase(Phase::waiting, now);
    return wait_at_lifelines();
  }
  set_phase(Phase::asking, now);
  tries_ = 0;
  asked_.clear();
  if (request_to_ == kNoRank) ask_next(now);
}

void StealProtocol::on_local_work(std::uint32_t queued, Nanos now) {
  if (phase_ == Phase::stopped || victims_.levels() == 0) return;
  set_phase(Phase::busy, now);
  if (queued > 0) share();
}

Rank StealProtocol::next_victim() {
  const auto near = static_cast<std::uint32_t>(victims_.levels() - 1) * options_.near_tries;
  while (tries_ < near + options_.far_tries) {
    const auto level = tries_ < near ? tries_ / options_.near_tries : victims_.levels() - 1;
    ++tries_;
    const Rank rank = victims_.pick(level, rng_);
    if (!host_.alive(rank) || std::find(asked_.begin(), asked_.end(), rank) != asked_.end()) continue;
    asked_.push_back(rank);
    return rank;
  }
  return kNoRank;
}

void StealProtocol::ask_next(Nanos now) {
  const Rank victim = next_victim();
  if (victim != kNoRank) {
    ask(victim);
    return;
  }
  ask_at_ = now + options_.ask_again_after;
  set_phase(Phase::waiting, now);
  wait_at_lifelines();
}

void StealProtocol::ask(Rank victim) {
  request_to_ = victim;
  ++nonce_;
  scratch_.clear();
  Writer out(scratch_);
  out.put(Kind::ask);
  out.varint(nonce_);
  host_.free_resources(scratch_);
  ++stats_.requests_sent;
  host_.send(victim, scratch_);
}

void StealProtocol::wait_at(Rank rank) {
  if (std::find(waits_at_.begin(), waits_at_.end(), rank) != waits_at_.end()) return;
  waits_at_.push_back(rank);
  scratch_.clear();
  Writer out(scratch_);
  out.put(Kind::wait);
  host_.free_resources(scratch_);
  ++stats_.registrations_sent;
  host_.send(rank, scratch_);
}

void StealProtocol::wait_at_lifelines() {
  const Rank self = victims_.self();
  const auto size = victims_.size();
  // Far dimensions first: the neighbour across the largest cut stands for most ranks.
  for (auto d = lifeline_dimensions(size); d-- > 0;) {
    // 64 substitutes: that many dead in a row means that the dimension's other lifelines matter more.
    for (std::uint32_t attempt = 0; attempt < 64; ++attempt) {
      const Rank rank = lifeline(self, size, d, attempt);
      if (rank == kNoRank || !host_.alive(rank)) continue;
      wait_at(rank);
      break;
    }
  }
  // The ring of the living keeps the graph connected whoever dies.
  for (Rank rank = self;;) {
    rank = rank + 1 == size ? 0 : rank + 1;
    if (rank == self) break;
    if (!host_.alive(rank)) continue;
    wait_at(rank);
    break;
  }
}

bool StealProtocol::give_to(Rank thief, std::uint32_t count, BytesView free, std::uint64_t nonce) {
  count = std::min(count, options_.give_max);
  const auto given = count == 0 ? 0 : host_.give(thief, count, free);
  if (given == 0) return false;
  ++stats_.gifts_sent;
  offer_pause_ = options_.offer_every;
  stats_.tasks_given += given;
  scratch_.clear();
  Writer out(scratch_);
  out.put(Kind::given);
  out.varint(nonce);
  out.varint(given);
  host_.send(thief, scratch_);
  return true;
}

void StealProtocol::share() {
  if (waiting_.empty()) return;
  auto left = host_.stealable();
  // Each waiting rank and this one get the same share; who gets nothing (resources that do not fit) stays.
  auto sharers = static_cast<std::uint32_t>(waiting_.size()) + 1;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < waiting_.size(); ++i) {
    const auto share = std::min(options_.give_max, (left + sharers - 1) / sharers);
    --sharers;
    if (share > 0 && give_to(waiting_[i].rank, share, waiting_[i].free, 0)) {
      ++stats_.pushes_sent;
      left -= std::min(left, share);
    } else {
      if (kept != i) waiting_[kept] = std::move(waiting_[i]);
      ++kept;
    }
  }
  waiting_.resize(kept);
  waiting_changed();
}

void StealProtocol::waiting_changed() {
  const bool tell = phase_ != Phase::stopped && (phase_ != Phase::busy || !waiting_.empty());
  if (told_waiting_ == tell) return;
  told_waiting_ = tell;
  host_.set_waiting(tell);
}

void StealProtocol::on_reply(Rank from, std::uint64_t nonce, bool gift, Nanos now) {
  if (nonce == 0) {
    std::erase(waits_at_, from);
  } else if (from == request_to_ && nonce == nonce_) {
    request_to_ = kNoRank;
  } else {
    return;
  }
  if (gift) {
    ask_at_ = 0;
    if (phase_ != Phase::stopped) set_phase(Phase::busy, now);
  }
  if (phase_ == Phase::asking && request_to_ == kNoRank) ask_next(now);
}

void StealProtocol::on_timer(Nanos now) {
  if (now < deadline_) return;
  const auto queued = host_.stealable();
  if (queued == 0) {
    offer_pause_ = options_.offer_every;
  } else {
    for (std::uint32_t i = 0; i < options_.offer_fanout; ++i) {
      const Rank rank = victims_.pick(victims_.levels() - 1, rng_);
      if (!host_.alive(rank)) continue;
      ++stats_.offers_sent;
      send_offer(rank, victims_.self(), kOfferHops);
    }
    offer_pause_ = std::min(2 * offer_pause_, options_.offer_every_max);
  }
  deadline_ = now + offer_pause_;
}

void StealProtocol::send_offer(Rank to, Rank source, std::uint32_t hops) {
  scratch_.clear();
  Writer out(scratch_);
  out.put(Kind::offer);
  out.varint(source);
  out.varint(hops);
  host_.send(to, scratch_);
}

void StealProtocol::on_offer(Rank source, std::uint32_t hops, Nanos now) {
  if (source == victims_.self() || !host_.alive(source)) return;
  switch (phase_) {
    case Phase::stopped:
    case Phase::asking:
      return;
    case Phase::waiting:
      if (request_to_ != kNoRank) return;
      // If it brings nothing, back to the lifelines at once: the tries were used up before.
      set_phase(Phase::asking, now);
      ask(source);
      return;
    case Phase::busy:
      if (hops == 0 || waiting_.empty()) return;
      if (const Rank rank = waiting_[rng_.below(waiting_.size())].rank; rank != source)
        send_offer(rank, source, hops - 1);
      return;
  }
}

Status StealProtocol::on_message(Rank from, BytesView message, Nanos now) {
  Reader in(message);
  const auto bad = [&](std::string_view what) -> Status {
    return make_error(Errc::malformed,
                      fmt::format("steal message of {} bytes from rank {}: {}", message.size(), from, what));
  };
  if (from >= victims_.size() || from == victims_.self()) return bad("no such peer");
  const auto kind = in.get<Kind>();
  switch (kind) {
    case Kind::ask:
    case Kind::wait: {
      const auto nonce = kind == Kind::ask ? in.varint() : 0;
      const auto free = in.rest();
      if (!in.done() || (kind == Kind::ask && nonce == 0)) return bad("truncated request");
      if (free.size() > kFreeBytesMax) return bad("oversize resources");
      if (!host_.alive(from)) return {};
      const auto queued = phase_ == Phase::stopped ? 0 : host_.stealable();
      if (give_to(from, queued - queued / 2, free, nonce)) return {};
      if (kind == Kind::ask) {
        scratch_.clear();
        Writer out(scratch_);
        out.put(Kind::empty);
        out.varint(nonce);
        host_.send(from, scratch_);
        return {};
      }
      std::erase_if(waiting_, [&](const Waiting& other) { return other.rank == from; });
      waiting_.push_back({from, Bytes(free.begin(), free.end())});
      waiting_changed();
      return {};
    }
    case Kind::given: {
      const auto nonce = in.varint();
      const auto tasks = in.varint();
      if (!in.done() || tasks == 0) return bad("bad gift");
      ++stats_.gifts_received;
      on_reply(from, nonce, true, now);
      return {};
    }
    case Kind::offer: {
      const auto source = in.varint();
      const auto hops = in.varint();
      if (!in.done() || source >= victims_.size() || hops > kOfferHops) return bad("bad offer");
      on_offer(static_cast<Rank>(source), static_cast<std::uint32_t>(hops), now);
      return {};
    }
    case Kind::empty: {
      const auto nonce = in.varint();
      if (!in.done() || nonce == 0) return bad("bad answer");
      ++stats_.empties_received;
      on_reply(from, nonce, false, now);
      return {};
    }
  }
  return bad("unknown kind");
}

void StealProtocol::on_rank_lost(Rank rank, Nanos now) {
  std::erase_if(waiting_, [&](const Waiting& other) { return other.rank == rank; });
  waiting_changed();
  const bool lifeline_lost = std::erase(waits_at_, rank) > 0;
  if (request_to_ == rank) {
    request_to_ = kNoRank;
    if (phase_ == Phase::asking) ask_next(now);
  }
  if (lifeline_lost && phase_ == Phase::waiting) wait_at_lifelines();
}

void StealProtocol::stop() {
  waiting_.clear();
  set_phase(Phase::stopped, 0);
}

}  // namespace trireme::scheduler
