#include "transport/sim/network.hpp"

#include <algorithm>
#include <cstring>
#include <functional>
#include <utility>

#include "base/check.hpp"
#include "transport/sim/network_impl.hpp"

namespace trireme::transport {

SimNetwork::Impl::Impl(SimOptions given) : options(std::move(given)), rng(options.seed), ranks(options.ranks) {
  TRIREME_CHECK(options.ranks > 0 && options.bytes_per_ns > 0, "a network has ranks and a bandwidth");
  TRIREME_CHECK(options.credit_bytes >= options.frame_bytes_max, "credit covers a frame");
}

SimRank& SimNetwork::Impl::rank(Rank rank) {
  TRIREME_CHECK(rank < ranks.size(), "a rank of the network");
  auto& found = ranks[rank];
  if (found == nullptr) found = std::make_unique<SimRank>();
  return *found;
}

bool SimNetwork::Impl::running(Rank rank) const {
  const SimRank* found = find(rank);
  return found != nullptr && found->attached && !found->closed && found->died == kForever;
}

SimLink& SimNetwork::Impl::link(Rank from, Rank to) {
  const auto [at, added] = links.try_emplace(std::uint64_t{from} << 32U | to);
  if (added && links.find(std::uint64_t{to} << 32U | from) == links.end()) {
    rank(from).contacts.push_back(to);
    rank(to).contacts.push_back(from);
  }
  return at->second;
}

void SimNetwork::Impl::push(Nanos at, Event event) {
  std::uint32_t slot = 0;
  if (free_slots.empty()) {
    slot = static_cast<std::uint32_t>(slots.size());
    slots.push_back(std::move(event));
  } else {
    slot = free_slots.back();
    free_slots.pop_back();
    slots[slot] = std::move(event);
  }
  heap.push_back({std::max(at, now), order++, slot});
  std::push_heap(heap.begin(), heap.end(), std::greater<>());
}

bool SimNetwork::Impl::step() {
  if (heap.empty()) return false;
  std::pop_heap(heap.begin(), heap.end(), std::greater<>());
  const Due due = heap.back();
  heap.pop_back();
  now = due.at;
  Event event = std::move(slots[due.slot]);
  free_slots.push_back(due.slot);
  ++stats.events;
  handle(std::move(event));
  return true;
}

void SimNetwork::Impl::handle(Event event) {
  using Kind = Event::Kind;
  switch (event.kind) {
    case Kind::call:
      return event.call();
    case Kind::rank_call: {
      SimRank& target = rank(event.to);
      if (target.died != kForever || target.closed) return;
      if (!target.paused) return event.call();
      return target.deferred.push_back(std::move(event.call));
    }
    case Kind::frame: {
      const SimRank& source = rank(event.from);
      // The dead rank's last frames were on the wire or still in its memory: the seed says.
      const bool cut_off = source.died != kForever && !rng.chance(options.survive_share);
      if (cut_off || !running(event.to)) {
        ++stats.frames_dropped;
        return;
      }
      SimArrival arrival;
      arrival.peer = event.from;
      arrival.size = event.size;
      arrival.bytes = std::move(event.bytes);
      return arrive(event.to, std::move(arrival));
    }
    case Kind::get:
      return finish_get(event);
    case Kind::lost:
    case Kind::left: {
      if (!running(event.to)) return;
      SimArrival arrival;
      arrival.kind = event.kind == Kind::lost ? SimArrival::Kind::lost : SimArrival::Kind::left;
      arrival.peer = event.from;
      return arrive(event.to, std::move(arrival));
    }
    case Kind::credit: {
      SimRank& target = rank(event.to);
      if (running(event.to) && !target.paused && target.wake) target.wake();
      return;
    }
  }
}

void SimNetwork::Impl::arrive(Rank at, SimArrival arrival) {
  SimRank& target = rank(at);
  target.inbox.push_back(std::move(arrival));
  if (!target.paused && target.wake) target.wake();
}

void SimNetwork::Impl::finish_get(Event& event) {
  if (!running(event.to)) return;  // the reader is gone, and its memory may be
  SimArrival arrival;
  arrival.kind = SimArrival::Kind::get_done;
  arrival.peer = event.from;
  arrival.done = std::move(event.done);
  const SimRank* source = find(event.from);
  if (!running(event.from) || rank(event.to).gone.count(event.from) != 0) {
    arrival.result = Errc::peer_lost;
  } else if (event.offset > source->exposed.size() || event.into.size() > source->exposed.size() - event.offset) {
    arrival.result = Errc::invalid_argument;
  } else if (!event.into.empty()) {
    std::memcpy(event.into.data(), source->exposed.data() + event.offset, event.into.size());
  }
  arrive(event.to, std::move(arrival));
}

void SimNetwork::Impl::tell_peers(Rank about, Event::Kind kind, Nanos delay_min, Nanos delay_max) {
  const auto tell = [&](Rank to) {
    if (to == about || !running(to)) return;
    Event event;
    event.kind = kind;
    event.to = to;
    event.from = about;
    const auto spread = static_cast<std::uint64_t>(std::max<Nanos>(0, delay_max - delay_min) + 1);
    const Nanos distance = options.distance ? options.distance(about, to) : 0;
    push(now + delay_min + distance + static_cast<Nanos>(rng.below(spread)), std::move(event));
  };
  if (options.tell_everyone) {
    for (Rank to = 0; to < ranks.size(); ++to) tell(to);
  } else {
    for (const Rank to : rank(about).contacts) tell(to);
  }
}

/// Until the last byte that `from` sends now has left it.
Nanos SimNetwork::Impl::leave(Rank from, std::size_t bytes) {
  SimRank& source = rank(from);
  source.egress_free =
      std::max(source.egress_free, now) + static_cast<Nanos>(static_cast<double>(bytes) / options.bytes_per_ns);
  return source.egress_free - now;
}

Nanos SimNetwork::Impl::delay(Rank from, Rank to, std::size_t bytes) {
  Nanos total = leave(from, bytes) + options.latency;
  if (options.jitter > 0) total += static_cast<Nanos>(rng.below(static_cast<std::uint64_t>(options.jitter) + 1));
  if (options.distance) total += options.distance(from, to);
  if (options.reorder && options.straggle > 0 && rng.chance(options.straggle_share))
    total += static_cast<Nanos>(rng.below(static_cast<std::uint64_t>(options.straggle)));
  return total;
}

SendStatus SimNetwork::Impl::send(Rank from, Rank to, BytesView frame) {
  TRIREME_CHECK(frame.size() <= options.frame_bytes_max, "a frame is at most frame_bytes_max() bytes");
  if (!running(from) || rank(from).gone.count(to) != 0) return SendStatus::peer_lost;
  SimLink& way = link(from, to);
  if (way.in_flight + frame.size() > options.credit_bytes) {
    way.starved = true;
    return SendStatus::would_block;
  }
  way.in_flight += frame.size();
  ++stats.frames;
  stats.frame_bytes += frame.size();

  Event event;
  event.kind = Event::Kind::frame;
  event.from = from;
  event.to = to;
  event.size = static_cast<std::uint32_t>(frame.size());
  event.bytes = std::make_unique_for_overwrite<std::byte[]>(frame.size());
  if (!frame.empty()) std::memcpy(event.bytes.get(), frame.data(), frame.size());
  Nanos at = now + delay(from, to, frame.size());
  if (!options.reorder) at = way.last_arrival = std::max(at, way.last_arrival);
  push(at, std::move(event));
  return SendStatus::sent;
}

void SimNetwork::Impl::get(Rank reader, Rank from, std::uint64_t offset, std::span<std::byte> into, GetDone done) {
  ++stats.gets;
  stats.get_bytes += into.size();
  link(reader, from);
  Event event;
  event.kind = Event::Kind::get;
  event.to = reader;
  event.from = from;
  event.offset = offset;
  event.into = into;
  event.done = std::move(done);
  // The request's way there, then the bytes' way back.
  push(now + delay(reader, from, 0) + delay(from, reader, into.size()), std::move(event));
}

int SimNetwork::Impl::poll(Rank self, Sink& sink) {
  SimRank& me = rank(self);
  if (me.inbox.empty() || !running(self)) return 0;
  int events = 0;
  auto inbox = std::exchange(me.inbox, {});
  for (SimArrival& arrival : inbox) {
    if (!running(self)) return events;  // a handler killed or closed this rank
    ++events;
    const Rank peer = arrival.peer;
    switch (arrival.kind) {
      case SimArrival::Kind::frame: {
        SimLink& way = link(peer, self);
        way.in_flight -= arrival.size;
        if (std::exchange(way.starved, false)) {
          Event credit;
          credit.kind = Event::Kind::credit;
          credit.to = peer;
          push(now + options.latency, std::move(credit));
        }
        if (me.gone.count(peer) == 0) sink.on_frame(peer, {arrival.bytes.get(), arrival.size});
        break;
      }
      case SimArrival::Kind::lost:
        if (me.gone.insert(peer).second) sink.on_lost(peer, "the rank was killed in the simulation");
        break;
      case SimArrival::Kind::left:
        if (me.gone.insert(peer).second) sink.on_left(peer);
        break;
      case SimArrival::Kind::get_done:
        if (arrival.result == Errc::ok) {
          arrival.done({});
        } else {
          arrival.done(make_error(arrival.result, arrival.result == Errc::peer_lost
                                                      ? "get: the rank that holds the memory is gone"
                                                      : "get: the range lies outside the peer's exposed memory"));
        }
        break;
    }
  }
  if (me.inbox.empty()) {  // keep the capacity
    inbox.clear();
    me.inbox = std::move(inbox);
  }
  return events;
}

void SimNetwork::Impl::close(Rank self) {
  SimRank& me = rank(self);
  if (!running(self)) return;
  me.closed = true;
  me.inbox.clear();
  me.exposed = {};
  // Behind all that is under way: an orderly leave loses nothing.
  const Nanos quiet = std::max<Nanos>(0, me.egress_free - now) + options.latency + options.jitter + options.straggle;
  tell_peers(self, Event::Kind::left, quiet, quiet + options.jitter);
}

SimNetwork::SimNetwork(SimOptions options) : impl_(std::make_unique<Impl>(std::move(options))) {}
SimNetwork::~SimNetwork() = default;

Nanos SimNetwork::now() const { return impl_->now; }
Rng& SimNetwork::rng() { return impl_->rng; }
const SimOptions& SimNetwork::options() const { return impl_->options; }
const SimNetwork::Stats& SimNetwork::stats() const { return impl_->stats; }

void SimNetwork::on_wake(Rank rank, Callback wake) { impl_->rank(rank).wake = std::move(wake); }

void SimNetwork::schedule(Nanos at, Callback call) {
  Impl::Event event;
  event.call = std::move(call);
  impl_->push(at, std::move(event));
}

void SimNetwork::schedule(Rank rank, Nanos at, Callback call) {
  Impl::Event event;
  event.kind = Impl::Event::Kind::rank_call;
  event.to = rank;
  event.call = std::move(call);
  impl_->push(at, std::move(event));
}

bool SimNetwork::step() { return impl_->step(); }

void SimNetwork::run_until(Nanos at) {
  while (!impl_->heap.empty() && impl_->heap.front().at <= at) impl_->step();
  impl_->now = std::max(impl_->now, at);
}

bool SimNetwork::run_until_idle(std::uint64_t events_max) {
  for (std::uint64_t i = 0; i < events_max; ++i)
    if (!impl_->step()) return true;
  return impl_->heap.empty();
}

void SimNetwork::kill(Rank rank) {
  SimRank& dead = impl_->rank(rank);
  if (dead.died != kForever || dead.closed) return;
  dead.died = impl_->now;
  dead.inbox.clear();
  dead.deferred.clear();
  dead.exposed = {};
  impl_->tell_peers(rank, Impl::Event::Kind::lost, impl_->options.detect_min, impl_->options.detect_max);
}

void SimNetwork::pause(Rank rank) { impl_->rank(rank).paused = true; }

void SimNetwork::resume(Rank rank) {
  SimRank& target = impl_->rank(rank);
  if (!target.paused) return;
  target.paused = false;
  for (auto& call : std::exchange(target.deferred, {})) schedule(rank, impl_->now, std::move(call));
  // Also without arrivals: credit may have come back meanwhile.
  Impl::Event wake;
  wake.kind = Impl::Event::Kind::credit;
  wake.to = rank;
  impl_->push(impl_->now, std::move(wake));
}

bool SimNetwork::alive(Rank rank) const {
  const SimRank* found = impl_->find(rank);
  return found == nullptr || found->died == kForever;
}

bool SimNetwork::paused(Rank rank) const {
  const SimRank* found = impl_->find(rank);
  return found != nullptr && found->paused;
}

}  // namespace trireme::transport
