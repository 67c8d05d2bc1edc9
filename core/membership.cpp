#include "core/membership.hpp"

#include <fmt/format.h>

#include <utility>

#include "base/log.hpp"

namespace trireme::core {

Bytes World::encode() const {
  Bytes bytes;
  Writer out(bytes);
  out.varint(epoch);
  out.varint(seats.size());
  for (const auto seat : seats) out.put(seat);
  out.varint(notes.size());
  for (const auto& note : notes) out.blob(note);
  return bytes;
}

World World::decode(Reader& in) {
  World world;
  world.epoch = in.varint();
  const auto count = in.count(1);
  for (std::uint64_t i = 0; i < count && in.ok(); ++i) {
    world.seats.push_back(in.get<Seat>());
    if (world.seats.back() > Seat::dead) in.fail();
  }
  const auto notes = in.count(1);
  for (std::uint64_t i = 0; i < notes && in.ok(); ++i) {
    const auto note = in.blob();
    world.notes.emplace_back(note.begin(), note.end());
  }
  return in.ok() ? world : World{};
}

Membership::Membership(Context& context, World world)
    : context_(context), has_seats_(!world.seats.empty()), world_(std::move(world)) {
  if (!has_seats_) world_.seats.assign(context_.size, Seat::taken);
  TRIREME_CHECK(world_.seats.size() == context_.size, "a seat for every rank");
  for (Rank rank = 0; rank < context_.size; ++rank) {
    if (is(rank, Seat::taken))
      ++alive_;
    else
      context_.router->forget(rank);
  }
}

void Membership::on_lost(Rank peer, std::string_view why) {
  if (stopping_ || is(peer, Seat::dead) || is(peer, Seat::empty)) return;
  TRIREME_LOG(info, "lost rank {}: {}", peer, why);
  if (peer == 0)
    return context_.host->fatal(fmt::format("rank 0, which runs the program, is lost ({}): the job ends", why));
  if (context_.self == 0) return declare(peer, why);
  auto out = context_.begin(MessageType::death_report);
  out.varint(peer);
  out.text(why);
  context_.send(0);
}

void Membership::on_report(Rank from, Reader& in) {
  const auto dead = static_cast<Rank>(in.varint());
  const auto why = in.text();
  if (!in.done() || dead >= context_.size || dead == 0 || context_.self != 0 || is(dead, Seat::empty)) return in.fail();
  if (stopping_ || is(dead, Seat::dead) || is(from, Seat::dead)) return;
  declare(dead, fmt::format("{} (seen by rank {})", why, from));
}

void Membership::declare(Rank dead, std::string_view why) {
  ++world_.epoch;
  TRIREME_LOG(warning, "rank {} is dead: {}", dead, why);
  for (Rank rank = 1; rank < context_.size; ++rank) {
    // The dead rank is told as well: should it live behind a broken link, it stops.
    if (is(rank, Seat::dead) || is(rank, Seat::empty)) continue;
    auto out = context_.begin(MessageType::death);
    out.varint(world_.epoch);
    out.varint(dead);
    context_.send(rank);
  }
  bury(dead);
}

void Membership::on_death(Rank from, Reader& in) {
  const auto epoch = in.varint();
  const auto dead = static_cast<Rank>(in.varint());
  if (!in.done() || from != 0 || dead >= context_.size || is(dead, Seat::empty)) return in.fail();
  world_.epoch = epoch;
  if (dead == context_.self) return context_.host->fatal("rank 0 declared this rank dead: its connection was lost");
  if (!is(dead, Seat::dead)) bury(dead);
}

void Membership::bury(Rank dead) {
  world_.seats[dead] = Seat::dead;
  --alive_;
  context_.router->forget(dead);
  if (on_dead) on_dead(dead);
  if (joining_ == kNoRank) return;
  if (dead == joining_) return end_join(make_error(Errc::peer_lost, "the rank died while it joined"));
  if (awaited_.erase(dead) != 0 && awaited_.empty()) all_know();
}

/// The rank is reachable from here, and its messages count.
Status Membership::take_in(Rank rank, BytesView member) {
  auto status = on_coming ? on_coming(rank, member) : Status{};
  if (!status.ok()) return status;
  world_.seats[rank] = Seat::coming;
  ++alive_;
  return {};
}

void Membership::admit(Rank rank, BytesView member, std::function<void(Status)> done) {
  TRIREME_CHECK(context_.self == 0 && joining_ == kNoRank, "rank 0 admits one rank at a time");
  if (stopping_ || closed_) return done(make_error(Errc::shutdown, "the job ends"));
  if (rank >= context_.size)
    return done(make_error(Errc::invalid_argument,
                           fmt::format("rank {} is none of this job, which has {} seats", rank, context_.size)));
  if (!is(rank, Seat::empty))
    return done(make_error(Errc::already_exists, fmt::format("the seat of rank {} was taken before: seats are used "
                                                             "once",
                                                             rank)));
  if (auto status = take_in(rank, member); !status.ok()) return done(status);
  ++world_.epoch;
  world_.notes.clear();
  if (note) world_.notes.push_back(note());
  joining_ = rank;
  join_done_ = std::move(done);
  for (Rank other = 1; other < context_.size; ++other) {
    if (other == rank || !is(other, Seat::taken)) continue;
    awaited_.insert(other);
    auto out = context_.begin(MessageType::seat);
    out.varint(world_.epoch);
    out.varint(rank);
    out.blob(member);
    context_.send(other);
  }
  if (awaited_.empty()) all_know();
}

World Membership::world() const {
  auto world = world_;
  for (auto& seat : world.seats)
    if (seat == Seat::coming) seat = Seat::taken;
  return world;
}

void Membership::on_seat(Rank from, Reader& in) {
  const auto epoch = in.varint();
  const auto rank = static_cast<Rank>(in.varint());
  const auto member = in.blob();
  if (!in.done() || from != 0 || rank >= context_.size || !is(rank, Seat::empty)) return in.fail();
  world_.epoch = epoch;
  const auto status = take_in(rank, member);
  if (!status.ok()) {
    world_.seats[rank] = Seat::coming;
    ++alive_;
  }
  auto out = context_.begin(MessageType::seat_known);
  out.varint(rank);
  out.blob(note ? note() : Bytes{});
  context_.send(0);
  if (!status.ok()) on_lost(rank, fmt::format("it cannot be reached: {}", status.error().message));
}

void Membership::on_seat_known(Rank from, Reader& in) {
  const auto rank = static_cast<Rank>(in.varint());
  const auto said = in.blob();
  if (!in.done() || context_.self != 0) return in.fail();
  // Of a rank that died while it joined, the answers may be late.
  if (rank != joining_ || awaited_.erase(from) == 0) return;
  if (!said.empty()) world_.notes.emplace_back(said.begin(), said.end());
  if (awaited_.empty()) all_know();
}

void Membership::all_know() {
  const auto rank = joining_;
  for (Rank other = 1; other < context_.size; ++other) {
    // The rank itself as well: who has had a message of it is told when it dies.
    if (!is(other, Seat::taken) && other != rank) continue;
    auto out = context_.begin(MessageType::joined);
    out.varint(rank);
    context_.send(other);
  }
  world_.seats[rank] = Seat::taken;
  end_join({});
  if (on_joined) on_joined(rank);
}

void Membership::end_join(Status status) {
  joining_ = kNoRank;
  awaited_.clear();
  std::exchange(join_done_, nullptr)(std::move(status));
}

void Membership::on_joined_message(Rank from, Reader& in) {
  const auto rank = static_cast<Rank>(in.varint());
  if (!in.done() || from != 0 || rank >= context_.size) return in.fail();
  if (rank == context_.self) return;
  if (!is(rank, Seat::coming)) return in.fail();
  world_.seats[rank] = Seat::taken;
  if (on_joined) on_joined(rank);
}

void Membership::close() {
  closed_ = true;
  if (joining_ != kNoRank) declare(joining_, "the job ends while it joins");
}

std::vector<Rank> Membership::present() const {
  std::vector<Rank> ranks;
  for (Rank rank = 0; rank < context_.size; ++rank)
    if (is(rank, Seat::taken)) ranks.push_back(rank);
  return ranks;
}

void Membership::stop() {
  stopping_ = true;
  if (joining_ != kNoRank) end_join(make_error(Errc::shutdown, "the job ends"));
}

}  // namespace trireme::core
