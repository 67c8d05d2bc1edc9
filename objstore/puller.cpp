#include "objstore/puller.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <utility>

#include "base/check.hpp"

namespace trireme::objstore {

namespace {

using Kind = TransferMessage::Kind;

/// Who has read more than this share of a half is not moved to another source: it would wait until that one is as far.
constexpr std::uint64_t kSettledShare = 8;

Error object_lost(ObjectId id, std::string_view why) {
  return make_error(Errc::object_lost, fmt::format("object {}:{}: {}", id.owner, id.index, why));
}

}  // namespace

struct Puller::Stripe {
  bool quiet() const { return in_flight == 0 && !checking; }

  std::uint64_t end = 0;
  std::uint64_t prefix = 0;  // all before it is here
  std::uint64_t next = 0;    // the next chunk to read begins here
  std::uint64_t ready = 0;   // the source has all before it
  std::uint64_t in_flight = 0;
  std::map<std::uint64_t, std::uint64_t> ahead;  // chunks that are here, behind a gap: begin -> end
  Rank source = kNoRank;
  std::uint64_t offset = 0;  // of the object in the source's arena
  bool subscribed = false;
  bool broken = false;     // no more reads from this source; another one is asked for when none is under way
  Rank move_to = kNoRank;  // broken on purpose: the owner wants us to read from there
  bool queued = false;     // in turns_
  bool settled = false;    // the owner was told to leave us where we are
  bool unchecked = false;  // read from `whole`, generation not checked yet
  bool checking = false;
  std::uint64_t generation_seen = 0;  // the check's get writes here
};

struct Puller::Pull {
  Pull(ObjectId its_id, std::uint64_t its_number, const Source& from, const TransferOptions& options)
      : id(its_id), number(its_number), whole(from), stripes(from.size, options) {
    for (std::uint32_t s = 0; s < stripes.count; ++s) {
      stripe[s].end = stripes.end[s];
      stripe[s].prefix = stripe[s].next = stripes.begin[s];
    }
  }
  bool complete() const {
    for (std::uint32_t s = 0; s < stripes.count; ++s)
      if (stripe[s].prefix < stripe[s].end || stripe[s].unchecked) return false;
    return true;
  }
  bool quiet() const { return stripe[0].quiet() && stripe[1].quiet(); }

  const ObjectId id;
  const std::uint64_t number;  // tells it from an earlier pull of the same object
  const Source whole;          // named by the caller
  const Stripes stripes;
  Stripe stripe[2];
  Allocation room;
  bool allocated = false;
  bool waiting = false;       // in the store's queue
  bool with_owner = false;    // the owner's planner knows of it
  bool held = false;          // `whole` cannot be freed meanwhile: its generation need not be checked
  bool whole_failed = false;  // never read from `whole` again
  std::optional<Error> failure;
  bool ended = false;  // the failure was reported; stays for the memory that followers may be reading
  bool tainted = false;
  std::vector<Done> dones;
  std::vector<Follower> followers;
};

Puller::Puller(Rank self, Store& store, TransferEnv& env, TransferOptions options)
    : self_(self), store_(store), env_(env), options_(options) {}

Puller::~Puller() = default;

Puller::Pull* Puller::find(ObjectId id, std::uint64_t number) {
  const auto it = pulls_.find(id);
  return it != pulls_.end() && it->second->number == number ? it->second.get() : nullptr;
}

void Puller::send(Rank to, const TransferMessage& message) { env_.send(to, message.encode()); }

TransferMessage Puller::message_of(const Pull& pull, Kind kind, std::uint32_t stripe) {
  TransferMessage message;
  message.kind = kind;
  message.id = pull.id;
  message.pull = pull.number;
  message.size = pull.whole.size;
  message.rank = pull.whole.rank;
  message.stripe = stripe;
  message.position = pull.stripe[stripe].prefix;
  return message;
}

void Puller::pull(ObjectId id, const Source& source, bool held, Done done) {
  if (const auto it = pulls_.find(id); it != pulls_.end()) {
    if (it->second->ended) return done(*it->second->failure);
    ++stats_.joined;
    it->second->dones.push_back(std::move(done));
    return;
  }
  if (auto here = store_.pin(id)) return done(std::move(here));
  ++stats_.pulls;
  auto& pull = *pulls_.emplace(id, std::make_unique<Pull>(id, ++pulls_started_, source, options_)).first->second;
  pull.dones.push_back(std::move(done));
  pull.held = held;
  const auto number = pull.number;
  if (source.size > options_.direct_bytes_max && env_.alive(id.owner)) {
    pull.with_owner = true;
    send(id.owner, message_of(pull, Kind::want));
  } else {
    const auto count = pull.stripes.count;
    for (std::uint32_t s = 0; s < count && find(id, number) != nullptr; ++s) follow(pull, s, source.rank);
  }
  if (find(id, number) != nullptr) allocate(pull);
}

void Puller::allocate(Pull& pull) {
  const auto id = pull.id;
  const auto number = pull.number;
  // At once in nearly all cases; only a full arena makes it wait in the queue, and come back through post().
  auto room = store_.try_create(id, pull.whole.size, CopyKind::secondary);
  if (room || room.error().code != Errc::out_of_memory) return allocated(id, number, std::move(room));
  pull.waiting = true;
  store_.create_when_possible(id, pull.whole.size, CopyKind::secondary, [this, id, number](Result<Allocation> later) {
    env_.post([this, id, number, later = std::move(later)] { allocated(id, number, later); });
  });
}

void Puller::allocated(ObjectId id, std::uint64_t number, Result<Allocation> room) {
  auto* pull = find(id, number);
  TRIREME_CHECK(pull != nullptr, "a pull ended before its memory came");
  pull->waiting = false;
  if (!room) {
    if (!pull->failure) pull->failure = room.error();
    end_failed(*pull);
    return;
  }
  pull->room = *room;
  pull->allocated = true;
  if (pull->failure) return end_failed(*pull);
  for (std::uint32_t s = 0; s < pull->stripes.count; ++s) enqueue(*pull, s);
  advance(*pull);  // an empty object is complete already
  pump();
}

/// From now on this stripe comes from `source`.
void Puller::follow(Pull& pull, std::uint32_t stripe, Rank source) {
  auto& s = pull.stripe[stripe];
  s.source = source;
  s.broken = false;
  const bool from_whole = source == pull.whole.rank;
  if (source == self_ || !env_.alive(source) || (from_whole && pull.whole_failed)) return source_failed(pull, stripe);
  if (from_whole) {
    s.unchecked = !pull.held;
    s.offset = pull.whole.offset;
    s.ready = s.end;
    enqueue(pull, stripe);
    return;
  }
  s.ready = s.prefix;
  s.subscribed = true;
  send(source, message_of(pull, Kind::subscribe, stripe));
}

void Puller::unfollow(Pull& pull, std::uint32_t stripe) {
  auto& s = pull.stripe[stripe];
  if (std::exchange(s.subscribed, false)) send(s.source, message_of(pull, Kind::unsubscribe, stripe));
}

void Puller::enqueue(Pull& pull, std::uint32_t stripe) {
  auto& s = pull.stripe[stripe];
  if (s.queued || s.next >= s.ready || s.broken || !pull.allocated || pull.failure) return;
  s.queued = true;
  turns_.push_back({pull.number, pull.id, stripe});
}

void Puller::pump() {
  if (pumping_) return;  // a get completed at once: the loop below goes on
  pumping_ = true;
  // A stripe whose window is full leaves the line and comes back with its next completion.
  while (!turns_.empty() && in_flight_gets_ < options_.in_flight_gets &&
         (in_flight_bytes_ == 0 || in_flight_bytes_ + options_.chunk_bytes <= options_.in_flight_bytes)) {
    const auto turn = turns_.front();
    turns_.pop_front();
    auto* pull = find(turn.id, turn.pull);
    if (pull == nullptr) continue;
    auto& s = pull->stripe[turn.stripe];
    s.queued = false;
    if (s.broken || pull->failure || s.next >= s.ready) continue;
    if (s.in_flight != 0 && s.in_flight + options_.chunk_bytes > options_.window_bytes) continue;
    read_chunk(*pull, turn.stripe);
    // The read may have completed, and even ended the pull.
    if ((pull = find(turn.id, turn.pull)) != nullptr) enqueue(*pull, turn.stripe);
  }
  pumping_ = false;
}

void Puller::read_chunk(Pull& pull, std::uint32_t stripe) {
  auto& s = pull.stripe[stripe];
  const auto at = s.next;
  const auto size = std::min(options_.chunk_bytes, s.ready - at);
  s.next += size;
  s.in_flight += size;
  in_flight_bytes_ += size;
  ++in_flight_gets_;
  stats_.bytes += size;
  env_.get(s.source, s.offset + at, pull.room.data.subspan(at, size),
           [this, id = pull.id, number = pull.number, stripe, at, size](const Status& status) {
             chunk_done(id, number, stripe, at, size, status.ok());
           });
}

void Puller::chunk_done(ObjectId id, std::uint64_t number, std::uint32_t stripe, std::uint64_t at, std::uint64_t size,
                        bool ok) {
  in_flight_bytes_ -= size;
  --in_flight_gets_;
  auto* pull = find(id, number);
  TRIREME_CHECK(pull != nullptr, "a pull ended before its reads");
  auto& s = pull->stripe[stripe];
  s.in_flight -= size;
  if (ok) {
    s.ahead.emplace(at, at + size);
    while (!s.ahead.empty() && s.ahead.begin()->first == s.prefix) {
      s.prefix = s.ahead.begin()->second;
      s.ahead.erase(s.ahead.begin());
    }
  } else {
    s.broken = true;
  }
  if (pull->failure) {
    end_failed(*pull);
  } else if (s.broken && s.prefix < s.end) {
    source_failed(*pull, stripe);
  } else {
    enqueue(*pull, stripe);
    advance(*pull);
  }
  pump();
}

/// Something arrived: tells followers, and ends the pull when all is here.
void Puller::advance(Pull& pull) {
  if (pull.failure || !pull.allocated) return;
  announce(pull);
  const auto id = pull.id;
  const auto number = pull.number;
  const auto count = pull.stripes.count;
  for (std::uint32_t i = 0; i < count; ++i) {
    auto& s = pull.stripe[i];
    const auto begin = pull.stripes.begin[i];
    if (count == 2 && pull.with_owner && !s.settled && s.prefix - begin > (s.end - begin) / kSettledShare) {
      s.settled = true;
      send(id.owner, message_of(pull, Kind::settled, i));
    }
    if (s.prefix < s.end) continue;
    unfollow(pull, i);
    if (!s.unchecked || s.checking) continue;
    check_generation(pull, i);
    if (find(id, number) == nullptr || pull.failure) return;  // answered at once
  }
  if (pull.complete()) complete(pull);
}

void Puller::source_failed(Pull& pull, std::uint32_t stripe) {
  auto& s = pull.stripe[stripe];
  if (pull.failure || s.prefix >= s.end) return;
  s.broken = true;
  if (s.in_flight == 0) replace_source(pull, stripe);
}

/// None of this stripe's reads is under way any more.
void Puller::replace_source(Pull& pull, std::uint32_t stripe) {
  auto& s = pull.stripe[stripe];
  unfollow(pull, stripe);
  const auto failed = std::exchange(s.source, kNoRank);
  s.next = s.ready = s.prefix;
  s.ahead.clear();
  if (s.move_to != kNoRank) {
    ++stats_.moves;
    return follow(pull, stripe, std::exchange(s.move_to, kNoRank));
  }
  if (failed == pull.whole.rank) pull.whole_failed = true;
  ++stats_.source_changes;
  if (!env_.alive(pull.id.owner))
    return fail(
        pull,
        make_error(Errc::owner_died,
                   fmt::format("object {}:{}: its source, rank {}, failed, and its owner, who knows of others, is dead",
                               pull.id.owner, pull.id.index, failed)),
        false);
  auto message = message_of(pull, pull.with_owner ? Kind::failed : Kind::want, stripe);
  if (pull.with_owner) message.rank = failed;
  pull.with_owner = true;
  send(pull.id.owner, message);
}

/// A stripe that was read from `whole` is here. Each is checked for itself: if the last chunk of one waited for the
/// other, the two trees could wait for each other.
void Puller::check_generation(Pull& pull, std::uint32_t stripe) {
  auto& s = pull.stripe[stripe];
  // A source that died meanwhile was alive, and held the object, while it was read.
  if (!env_.alive(pull.whole.rank)) {
    s.unchecked = false;
    return announce(pull);
  }
  s.checking = true;
  ++in_flight_gets_;
  env_.get(pull.whole.rank, pull.whole.offset - sizeof(BlockHeader) + offsetof(BlockHeader, generation),
           std::as_writable_bytes(std::span(&s.generation_seen, 1)),
           [this, id = pull.id, number = pull.number, stripe](const Status& status) {
             --in_flight_gets_;
             auto* self = find(id, number);
             TRIREME_CHECK(self != nullptr, "a pull ended before its check");
             auto& checked = self->stripe[stripe];
             checked.checking = false;
             if (self->failure) {
               end_failed(*self);
             } else if (status.ok() && checked.generation_seen != self->whole.generation) {
               fail(*self, object_lost(id, "it was freed while it was read"), true);
             } else {
               checked.unchecked = false;
               advance(*self);
             }
             pump();
           });
}

void Puller::complete(Pull& pull) {
  const auto id = pull.id;
  auto sealed = store_.seal_and_pin(id);
  TRIREME_CHECK(sealed.ok(), "somebody else sealed or aborted a pull's memory");
  ++stats_.completed;
  if (pull.with_owner) send(id.owner, message_of(pull, Kind::done));
  const auto ended = std::move(pulls_.extract(id).mapped());
  if (!ended->followers.empty()) {
    auto& serving = serving_[id];
    serving.buffer = *sealed;
    serving.followers = std::move(ended->followers);
    serve(id, serving);
  }
  for (auto& done : ended->dones) done(*sealed);
}

void Puller::fail(Pull& pull, Error error, bool tainted) {
  if (pull.failure) return;
  pull.failure = std::move(error);
  pull.tainted = tainted;
  end_failed(pull);
}

/// Reports a pull that failed, once nothing writes to its memory any more.
void Puller::end_failed(Pull& pull) {
  if (pull.ended || !pull.quiet()) return;
  if (pull.waiting && !store_.cancel(pull.id)) return;  // the memory is on its way: allocated() comes back here
  pull.waiting = false;
  pull.ended = true;
  ++stats_.failed;
  for (std::uint32_t i = 0; i < pull.stripes.count; ++i) unfollow(pull, i);
  if (pull.with_owner) send(pull.id.owner, message_of(pull, Kind::gave_up));
  for (const auto& follower : pull.followers) {
    TransferMessage gone;
    gone.kind = Kind::gone;
    gone.id = pull.id;
    gone.pull = follower.pull;
    gone.tainted = pull.tainted;
    send(follower.rank, gone);
  }
  const auto dones = std::move(pull.dones);
  const auto failure = *pull.failure;
  erase_failed(pull);
  for (const auto& done : dones) done(failure);
}

/// Followers may be reading still: the memory goes when the last of them has said that it does not.
void Puller::erase_failed(Pull& pull) {
  if (!pull.ended || !pull.followers.empty()) return;
  if (pull.allocated) TRIREME_CHECK(store_.abort(pull.id).ok(), "a pull's memory is gone");
  pulls_.erase(pull.id);
}

void Puller::on_message(Rank from, const TransferMessage& message) {
  if (message.kind == Kind::subscribe) return on_subscribe(from, message);
  if (message.kind == Kind::unsubscribe) return on_unsubscribe(from, message.id, message.stripe);
  const auto it = pulls_.find(message.id);
  if (it == pulls_.end() || it->second->failure || it->second->number != message.pull) return;  // late news
  auto& pull = *it->second;
  const auto number = pull.number;
  switch (message.kind) {
    case Kind::sources:
      if (from != message.id.owner) return;
      for (const auto& [stripe, rank] : message.sources) {
        if (find(message.id, number) == nullptr || pull.failure) return;
        if (stripe < pull.stripes.count && pull.stripe[stripe].source == kNoRank && pull.stripe[stripe].in_flight == 0)
          follow(pull, stripe, rank);
      }
      break;
    case Kind::move: {
      if (from != message.id.owner || message.stripe >= pull.stripes.count) return;
      auto& s = pull.stripe[message.stripe];
      // Always done, even if we settled meanwhile: the owner counts on it to keep the tree free of cycles.
      if (s.source == kNoRank || s.prefix >= s.end) return;
      s.move_to = message.rank;
      source_failed(pull, message.stripe);
      break;
    }
    case Kind::lost:
      if (from != message.id.owner) return;
      fail(pull, object_lost(message.id, "no rank that is left has a copy"), false);
      break;
    case Kind::ready: {
      if (message.stripe >= pull.stripes.count) return;
      auto& s = pull.stripe[message.stripe];
      if (s.source != from || !s.subscribed || message.position > s.end) return;
      s.offset = message.offset;
      s.ready = std::max(s.ready, message.position);
      enqueue(pull, message.stripe);
      break;
    }
    case Kind::gone:
      for (std::uint32_t i = 0; i < pull.stripes.count; ++i) {
        auto& s = pull.stripe[i];
        if (s.source != from || !s.subscribed) continue;
        if (message.tainted) return fail(pull, object_lost(message.id, "it was freed while it was read"), true);
        source_failed(pull, i);
        if (find(message.id, number) == nullptr) return;
      }
      break;
    default:
      break;
  }
  pump();
}

/// Tells followers of a pull under way what they may read.
void Puller::announce(Pull& pull) {
  for (auto& follower : pull.followers) {
    auto& s = pull.stripe[follower.stripe];
    auto position = s.prefix;
    // The last chunk of each stripe waits for the check of the generation.
    if (s.unchecked && position > pull.stripes.begin[follower.stripe])
      position = std::min(position, (s.end - 1) / options_.chunk_bytes * options_.chunk_bytes);
    if (position <= follower.told) continue;
    follower.told = position;
    TransferMessage message;
    message.kind = Kind::ready;
    message.id = pull.id;
    message.pull = follower.pull;
    message.stripe = follower.stripe;
    message.position = position;
    message.offset = pull.room.offset;
    message.generation = pull.room.generation;
    send(follower.rank, message);
  }
}

/// Tells followers of a whole copy that they may read all of it.
void Puller::serve(ObjectId id, Serving& serving) {
  const Stripes stripes(serving.buffer.size(), options_);
  for (auto& follower : serving.followers) {
    if (follower.stripe >= stripes.count || follower.told >= stripes.end[follower.stripe]) continue;
    follower.told = stripes.end[follower.stripe];
    TransferMessage message;
    message.kind = Kind::ready;
    message.id = id;
    message.pull = follower.pull;
    message.stripe = follower.stripe;
    message.position = follower.told;
    message.offset = serving.buffer.offset();
    message.generation = serving.buffer.generation();
    send(follower.rank, message);
  }
}

void Puller::on_subscribe(Rank from, const TransferMessage& message) {
  on_unsubscribe(from, message.id, message.stripe);  // asked again: forget what it was told
  const Follower follower{from, message.stripe, message.position, message.pull};
  if (const auto it = pulls_.find(message.id); it != pulls_.end() && !it->second->failure) {
    if (message.stripe >= it->second->stripes.count) return;
    it->second->followers.push_back(follower);
    if (it->second->allocated) announce(*it->second);
    return;
  }
  auto it = serving_.find(message.id);
  if (it == serving_.end()) {
    auto buffer = store_.pin(message.id);
    if (!buffer) {
      TransferMessage gone;
      gone.kind = Kind::gone;
      gone.id = message.id;
      gone.pull = message.pull;
      return send(from, gone);
    }
    it = serving_.emplace(message.id, Serving{std::move(buffer), {}}).first;
  }
  it->second.followers.push_back(follower);
  serve(message.id, it->second);
}

void Puller::on_unsubscribe(Rank from, ObjectId id, std::uint32_t stripe) {
  const auto is_it = [&](const Follower& f) { return f.rank == from && f.stripe == stripe; };
  if (const auto it = pulls_.find(id); it != pulls_.end()) {
    std::erase_if(it->second->followers, is_it);
    erase_failed(*it->second);
  }
  if (const auto it = serving_.find(id); it != serving_.end()) {
    std::erase_if(it->second.followers, is_it);
    if (it->second.followers.empty()) serving_.erase(it);
  }
}

void Puller::on_lost(Rank dead) {
  const auto is_it = [&](const Follower& f) { return f.rank == dead; };
  for (auto it = serving_.begin(); it != serving_.end();) {
    std::erase_if(it->second.followers, is_it);
    it = it->second.followers.empty() ? serving_.erase(it) : std::next(it);
  }
  std::vector<std::pair<ObjectId, std::uint64_t>> affected;
  for (const auto& [id, pull] : pulls_) affected.emplace_back(id, pull->number);
  std::sort(affected.begin(), affected.end());  // the order of a hash table must not decide what happens
  for (const auto& [id, number] : affected) {
    auto* pull = find(id, number);
    if (pull == nullptr) continue;
    std::erase_if(pull->followers, is_it);
    if (pull->ended) {
      erase_failed(*pull);
      continue;
    }
    const auto count = pull->stripes.count;
    for (std::uint32_t i = 0; i < count; ++i) {
      if (pull = find(id, number); pull == nullptr || pull->failure) break;
      auto& s = pull->stripe[i];
      if (s.source == dead) {
        s.subscribed = false;
        source_failed(*pull, i);
      } else if (s.source == kNoRank && id.owner == dead && s.prefix < s.end) {
        fail(*pull,
             make_error(Errc::owner_died,
                        fmt::format("object {}:{}: its owner died before it named a source", id.owner, id.index)),
             false);
      }
    }
  }
  pump();
}

}  // namespace trireme::objstore
