#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "objstore/buffer.hpp"
#include "objstore/store.hpp"
#include "objstore/transfer_message.hpp"

namespace trireme::objstore {

struct PullStats {
  std::uint64_t pulls = 0, joined = 0, completed = 0, failed = 0;
  std::uint64_t bytes = 0;           ///< read from other ranks, repeats included
  std::uint64_t source_changes = 0;  ///< a source failed and another took over
  std::uint64_t moves = 0;           ///< the owner made place for an inner rank
};

/// Brings copies of objects here, and tells those who follow us how far they may read.
///
/// A small object is read from the source that the caller names, then the generation in its header is checked. For a
/// large one the owner's Planner says whom to read from; a source that is itself still pulling announces how far it is
/// (`ready`), and keeps its copy in place while it has followers, even when its own pull failed. Reads are cut into
/// chunks, several under way at once, one chunk of each pull in turn.
///
/// A follower learns of the last chunk only after the generation was checked: nobody can finish with bytes of an object
/// that was freed under the first reader.
///
/// A state machine: no thread, no clock. Everything that happens comes in through a call.
///
/// Threading: under the token.
/// Errors:    of a pull: object_lost (no source is left), owner_died (its owner is needed and dead), what the store
/// says
///            (too_large, would_block, ...).
/// Lifetime:  `env` and `store` outlive it; it must not be destroyed while gets are under way (see idle()).
class Puller {
 public:
  using Done = std::function<void(Result<Buffer>)>;

  Puller(Rank self, Store& store, TransferEnv& env, TransferOptions options);
  ~Puller();
  Puller(const Puller&) = delete;
  Puller& operator=(const Puller&) = delete;

  /// `done` runs once, maybe at once. Joins a pull of the same object that is under way. `held`: the caller knows that
  /// the source's copy cannot be freed meanwhile, so its generation need not be checked.
  void pull(ObjectId id, const Source& source, bool held, Done done);

  /// sources, move, lost, subscribe, ready, gone, unsubscribe.
  void on_message(Rank from, const TransferMessage& message);
  void on_lost(Rank dead);

  bool idle() const { return in_flight_gets_ == 0; }
  std::size_t pulling() const { return pulls_.size(); }
  std::size_t serving() const { return serving_.size(); }
  const PullStats& stats() const { return stats_; }

 private:
  struct Stripe;
  struct Pull;
  struct Follower {
    Rank rank = kNoRank;
    std::uint32_t stripe = 0;
    std::uint64_t told = 0;
    std::uint64_t pull = 0;  // its number there
  };
  struct Serving {
    Buffer buffer;
    std::vector<Follower> followers;
  };
  struct Turn {
    std::uint64_t pull = 0;
    ObjectId id;
    std::uint32_t stripe = 0;
  };

  Pull* find(ObjectId id, std::uint64_t number);
  void allocate(Pull& pull);
  void allocated(ObjectId id, std::uint64_t number, Result<Allocation> room);
  void send(Rank to, const TransferMessage& message);
  static TransferMessage message_of(const Pull& pull, TransferMessage::Kind kind, std::uint32_t stripe = 0);
  void unfollow(Pull& pull, std::uint32_t stripe);
  void follow(Pull& pull, std::uint32_t stripe, Rank source);
  void enqueue(Pull& pull, std::uint32_t stripe);
  void pump();
  void read_chunk(Pull& pull, std::uint32_t stripe);
  void chunk_done(ObjectId id, std::uint64_t number, std::uint32_t stripe, std::uint64_t at, std::uint64_t size,
                  bool ok);
  void advance(Pull& pull);
  void source_failed(Pull& pull, std::uint32_t stripe);
  void replace_source(Pull& pull, std::uint32_t stripe);
  void check_generation(Pull& pull, std::uint32_t stripe);
  void complete(Pull& pull);
  void fail(Pull& pull, Error error, bool tainted);
  void end_failed(Pull& pull);
  void erase_failed(Pull& pull);
  void announce(Pull& pull);
  void serve(ObjectId id, Serving& serving);
  void on_subscribe(Rank from, const TransferMessage& message);
  void on_unsubscribe(Rank from, ObjectId id, std::uint32_t stripe);

  const Rank self_;
  Store& store_;
  TransferEnv& env_;
  const TransferOptions options_;
  std::unordered_map<ObjectId, std::unique_ptr<Pull>> pulls_;
  std::unordered_map<ObjectId, Serving> serving_;
  std::deque<Turn> turns_;  // stripes that may have something to read, one chunk each in turn
  bool pumping_ = false;
  std::uint64_t pulls_started_ = 0;
  std::uint64_t in_flight_bytes_ = 0;
  std::uint32_t in_flight_gets_ = 0;
  PullStats stats_;
};

}  // namespace trireme::objstore
