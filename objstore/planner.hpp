#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "objstore/transfer_message.hpp"

namespace trireme::objstore {

/// Owner's side of a broadcast: tells each puller whom to read from.
///
/// A small object travels down one tree in which each rank has up to two children. A large one is cut into two halves,
/// each with a tree of its own over the same ranks: a rank is inner in one tree and a leaf in the other (P. Sanders,
/// J. Speck, J. Traeff, 2009), by the parity of its arrival. So everybody sends about as much as it receives, and the
/// time is that of reading the object once and a half (the source serves three half streams) plus a chunk per level.
/// With a binary tree of the whole object it would be twice and more.
///
/// Ranks arrive one by one and begin at once, inner ranks and leaves in turn. An inner rank that arrives takes the
/// place of the highest leaf that has read little yet (it says so when it has more), and this leaf moves below it.
/// Without that every inner rank would have one inner child: a chain.
///
/// A rank that holds all of it serves both halves. Sources are chosen by least depth, then least load. When a source
/// fails, its children ask again and go on from where they are, with anybody who is not below them. When no such rank
/// has a place free, one takes more children: nobody ever waits for a place, so the trees cannot block each other.
///
/// State lives while somebody pulls; it begins with the first `want`, which names a rank that has the object.
///
/// Threading: under the token. Errors: none; `lost` is an answer.
class Planner {
 public:
  using Send = std::function<void(Rank to, const TransferMessage&)>;
  Planner(TransferOptions options, Send send);
  ~Planner();

  /// want, failed, settled, done, gave_up.
  void on_message(Rank from, const TransferMessage& message);
  void on_lost(Rank dead);
  std::size_t objects() const;

 private:
  struct Peer {
    std::uint32_t order = 0;  // of arrival, picks the tree in which it is inner
    bool pulling = false;
    bool complete = false;
    bool bad = false;  // somebody could not read from it
    bool settled[2] = {false, false};
    std::uint64_t pull = 0;  // its own number of the pull
    Rank parent[2] = {kNoRank, kNoRank};
    std::uint32_t depth[2] = {0, 0};
    std::uint32_t children[2] = {0, 0};
  };
  // (depth, children, order, rank): the best source first.
  using Candidates = std::set<std::tuple<std::uint32_t, std::uint32_t, std::uint32_t, Rank>>;
  using Peers = std::unordered_map<Rank, Peer>;
  struct Object {
    Object(std::uint64_t size, const TransferOptions& options) : stripes(size, options) {}
    Stripes stripes;
    Peers peers;
    Candidates free[2];    // those with a place free
    Candidates leaves[2];  // those that may be moved down
    std::uint32_t arrivals = 0;
    std::uint32_t pulling = 0;
  };

  static std::uint32_t places(const Object& object, const Peer& peer, std::uint32_t stripe);
  static void list(Object& object, Rank rank, const Peer& peer);
  static void unlist(Object& object, Rank rank, const Peer& peer);
  static void leave_parent(Object& object, Peer& peer, std::uint32_t stripe);
  static void forget(Object& object, Peers::iterator gone);
  static bool below(const Object& object, Rank rank, Rank top, std::uint32_t stripe);
  static bool movable(const Object& object, const Peer& peer, std::uint32_t stripe);
  bool push_down(const TransferMessage& request, Object& object, Rank puller, std::uint32_t stripe);
  static Rank choose(const Object& object, Rank puller, std::uint32_t stripe);
  void assign(const TransferMessage& request, Object& object, Rank puller, std::uint32_t first, std::uint32_t last);
  void finish(ObjectId id, Rank puller, bool complete);

  const TransferOptions options_;
  const Send send_;
  std::map<ObjectId, Object>
      objects_;  // ordered: on_lost() walks it, and the order of messages is part of a seeded run
};

}  // namespace trireme::objstore
