#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string_view>
#include <vector>

#include "core/context.hpp"
#include "scheduler/placement.hpp"

namespace trireme::core {

using scheduler::Seat;

/// What a rank that joins late is told of the job: rank 0 gives it, and everything that rank 0 declares later reaches
/// the rank as a message.
struct World {
  std::uint64_t epoch = 0;
  std::vector<Seat> seats;  ///< by rank; the new rank itself is taken
  /// What the others want it to know before it begins (Membership::note); complete when it may begin.
  std::vector<Bytes> notes;
  Bytes encode() const;
  static World decode(Reader& in);
};

/// Who is alive, as everybody agrees: rank 0 decides.
///
/// A rank that loses a peer reports it to rank 0, which declares the death once, under a growing epoch, to all. Only
/// the declaration has consequences, so every rank drops the same peers, and a rank that is cut off but alive learns
/// that it was given up and stops. Without rank 0, which runs the program, there is no job: the others end.
///
/// A job may have empty seats, which late ranks take, one at a time (docs/decisions/010). Rank 0 says that a rank comes
/// (`seat`), everybody makes it reachable and answers (`seat_known`), and when all living ranks have, rank 0 lets the
/// late rank begin and says that it is there (`joined`). So whoever hears of a rank from anybody can reach it: it does
/// nothing, and nothing is placed on it, before all know it. Deaths and joins reach every rank in rank 0's order.
///
/// Threading: under the token.
class Membership {
 public:
  /// `seats`: empty for a job without empty seats.
  Membership(Context& context, World world);
  /// Runs once per dead rank, after the router dropped it.
  std::function<void(Rank)> on_dead;
  /// Makes a late rank reachable; `member` is what it told rank 0. An error: this rank cannot reach it.
  std::function<Status(Rank, BytesView member)> on_coming;
  /// What a rank must know that was not there when the others were told: a few kilobytes. May be unset.
  std::function<Bytes()> note;
  /// Everybody knows the rank. Not run in the rank itself.
  std::function<void(Rank)> on_joined;

  void on_lost(Rank peer, std::string_view why);
  void on_report(Rank from, Reader& in);
  void on_death(Rank from, Reader& in);

  /// Rank 0: a late rank wants the seat. One at a time: the next once `done` has run, which it does when all know the
  /// rank, or with an error when it cannot be taken in or died meanwhile. Errors: already_exists, invalid_argument,
  /// shutdown, and what on_coming() says.
  void admit(Rank rank, BytesView member, std::function<void(Status)> done);
  void on_seat(Rank from, Reader& in);
  void on_seat_known(Rank from, Reader& in);
  void on_joined_message(Rank from, Reader& in);
  /// Rank 0: nobody is admitted any more; who is not in yet is dead.
  void close();
  /// For the rank that is being admitted.
  World world() const;

  std::uint64_t epoch() const { return world_.epoch; }
  std::uint32_t alive_count() const { return alive_; }
  bool has_seats() const { return has_seats_; }
  /// Nobody has come there yet.
  bool empty(Rank rank) const { return world_.seats[rank] == Seat::empty; }
  /// Those that are there, late ones from when all know them.
  std::vector<Rank> present() const;
  /// Losses no longer matter: everybody leaves. Nobody comes any more.
  void stop();

 private:
  bool is(Rank rank, Seat seat) const { return world_.seats[rank] == seat; }
  void declare(Rank dead, std::string_view why);
  void bury(Rank dead);
  Status take_in(Rank rank, BytesView member);
  void all_know();
  void end_join(Status status);

  Context& context_;
  bool has_seats_;
  World world_;
  std::uint32_t alive_ = 0;
  bool stopping_ = false;
  bool closed_ = false;

  // Rank 0, while a rank joins.
  Rank joining_ = kNoRank;
  std::set<Rank> awaited_;  // have not said that they know it
  std::function<void(Status)> join_done_;
};

}  // namespace trireme::core
