#include "objstore/planner.hpp"

#include <utility>

namespace trireme::objstore {

namespace {

using Kind = TransferMessage::Kind;

constexpr std::uint32_t kChildrenMax = 2;
/// A whole copy serves three half streams, not two: the first puller takes both halves from it, and the second begins
/// the other tree.
constexpr std::uint32_t kChildrenOfWhole[2] = {2, 1};

}  // namespace

Planner::Planner(TransferOptions options, Send send) : options_(options), send_(std::move(send)) {}
Planner::~Planner() = default;

std::size_t Planner::objects() const { return objects_.size(); }

std::uint32_t Planner::places(const Object& object, const Peer& peer, std::uint32_t stripe) {
  if (peer.bad) return 0;
  if (object.stripes.count == 1) return kChildrenMax;
  if (peer.complete) return kChildrenOfWhole[stripe];
  return peer.order % 2 == stripe ? kChildrenMax : 0;
}

bool Planner::movable(const Object& object, const Peer& peer, std::uint32_t stripe) {
  return peer.pulling && !peer.settled[stripe] && peer.parent[stripe] != kNoRank && peer.children[stripe] == 0 &&
         places(object, peer, stripe) == 0;
}

void Planner::list(Object& object, Rank rank, const Peer& peer) {
  for (std::uint32_t s = 0; s < object.stripes.count; ++s) {
    if (peer.children[s] < places(object, peer, s))
      object.free[s].emplace(peer.depth[s], peer.children[s], peer.order, rank);
    if (movable(object, peer, s)) object.leaves[s].emplace(peer.depth[s], peer.children[s], peer.order, rank);
  }
}

void Planner::unlist(Object& object, Rank rank, const Peer& peer) {
  for (std::uint32_t s = 0; s < object.stripes.count; ++s) {
    object.free[s].erase({peer.depth[s], peer.children[s], peer.order, rank});
    object.leaves[s].erase({peer.depth[s], peer.children[s], peer.order, rank});
  }
}

void Planner::leave_parent(Object& object, Peer& peer, std::uint32_t stripe) {
  // `peer` is not listed as a leaf: the caller took it off.
  const auto parent = object.peers.find(std::exchange(peer.parent[stripe], kNoRank));
  if (parent == object.peers.end()) return;
  unlist(object, parent->first, parent->second);
  --parent->second.children[stripe];
  list(object, parent->first, parent->second);
}

/// Whether `rank` is `top` or gets this stripe through it.
bool Planner::below(const Object& object, Rank rank, Rank top, std::uint32_t stripe) {
  while (rank != top) {
    const auto peer = object.peers.find(rank);
    if (peer == object.peers.end() || peer->second.complete) return false;
    rank = peer->second.parent[stripe];
  }
  return true;
}

Rank Planner::choose(const Object& object, Rank puller, std::uint32_t stripe) {
  for (const auto& [depth, children, order, rank] : object.free[stripe])
    if (!below(object, rank, puller, stripe)) return rank;
  // No place is free: the least loaded, whole copies first.
  Rank best = kNoRank;
  std::tuple<bool, std::uint32_t, std::uint32_t, std::uint32_t> best_key{};
  for (const auto& [rank, peer] : object.peers) {
    if (peer.bad || below(object, rank, puller, stripe)) continue;
    const std::tuple key{!peer.complete, peer.children[stripe], peer.depth[stripe], peer.order};
    if (best != kNoRank && key >= best_key) continue;
    best = rank;
    best_key = key;
  }
  return best;
}

/// A new inner rank takes the place of a leaf where that is higher than any free place.
bool Planner::push_down(const TransferMessage& request, Object& object, Rank puller, std::uint32_t stripe) {
  auto& peer = object.peers.at(puller);
  if (object.leaves[stripe].empty() || places(object, peer, stripe) == 0) return false;
  const auto [depth, children, order, rank] = *object.leaves[stripe].begin();
  if (!object.free[stripe].empty() && std::get<0>(*object.free[stripe].begin()) + 1 <= depth) return false;
  // Only who pulled before, and lost the copy since, has anybody below it already.
  if (below(object, rank, puller, stripe)) return false;
  auto& leaf = object.peers.at(rank);
  unlist(object, rank, leaf);
  unlist(object, puller, peer);
  peer.parent[stripe] = std::exchange(leaf.parent[stripe], puller);
  peer.depth[stripe] = depth;
  ++peer.children[stripe];
  leaf.depth[stripe] = depth + 1;
  list(object, puller, peer);
  list(object, rank, leaf);
  TransferMessage move;
  move.kind = Kind::move;
  move.id = request.id;
  move.pull = leaf.pull;
  move.stripe = stripe;
  move.rank = puller;
  send_(rank, move);
  return true;
}

void Planner::assign(const TransferMessage& request, Object& object, Rank puller, std::uint32_t first,
                     std::uint32_t last) {
  TransferMessage answer;
  answer.kind = Kind::sources;
  answer.id = request.id;
  answer.pull = request.pull;
  for (auto s = first; s < last; ++s) {
    auto& peer = object.peers.at(puller);
    unlist(object, puller, peer);
    leave_parent(object, peer, s);
    if (request.kind == Kind::want && push_down(request, object, puller, s)) {
      answer.sources.emplace_back(s, peer.parent[s]);
      continue;
    }
    list(object, puller, peer);
    const auto source = choose(object, puller, s);
    if (source == kNoRank) {
      answer.kind = Kind::lost;
      answer.sources.clear();
      break;
    }
    auto& above = object.peers.at(source);
    unlist(object, source, above);
    ++above.children[s];
    list(object, source, above);
    unlist(object, puller, peer);
    peer.parent[s] = source;
    peer.depth[s] = above.complete ? 1 : above.depth[s] + 1;
    list(object, puller, peer);
    answer.sources.emplace_back(s, source);
  }
  send_(puller, answer);
}

/// Unlisted and without parents. Its children ask again when they notice; until then they have no parent.
void Planner::forget(Object& object, Peers::iterator gone) {
  if (gone->second.children[0] + gone->second.children[1] > 0)
    for (auto& [rank, peer] : object.peers) {
      if (peer.parent[0] != gone->first && peer.parent[1] != gone->first) continue;
      unlist(object, rank, peer);
      for (auto& parent : peer.parent)
        if (parent == gone->first) parent = kNoRank;
      list(object, rank, peer);
    }
  object.peers.erase(gone);
}

void Planner::finish(ObjectId id, Rank puller, bool complete) {
  const auto it = objects_.find(id);
  if (it == objects_.end()) return;
  auto& object = it->second;
  const auto entry = object.peers.find(puller);
  if (entry == object.peers.end() || !entry->second.pulling) return;
  auto& peer = entry->second;
  unlist(object, puller, peer);
  for (std::uint32_t s = 0; s < object.stripes.count; ++s) leave_parent(object, peer, s);
  peer.pulling = false;
  if (complete) {
    peer.complete = true;
    peer.depth[0] = peer.depth[1] = 0;
    list(object, puller, peer);
  } else {
    forget(object, entry);
  }
  if (--object.pulling == 0) objects_.erase(it);
}

void Planner::on_message(Rank from, const TransferMessage& message) {
  switch (message.kind) {
    case Kind::want: {
      auto& object = objects_.try_emplace(message.id, message.size, options_).first->second;
      if (const auto [whole, added] = object.peers.try_emplace(message.rank); added) {
        whole->second.order = object.arrivals++;
        whole->second.complete = true;
        list(object, message.rank, whole->second);
      }
      auto& peer = object.peers[from];
      if (peer.pulling) return;  // asked twice: the answer is on its way
      unlist(object, from, peer);
      // It may have pulled this before, and lost the copy since.
      peer.complete = peer.bad = false;
      peer.settled[0] = peer.settled[1] = false;
      peer.pulling = true;
      peer.pull = message.pull;
      peer.order = object.arrivals++;
      ++object.pulling;
      assign(message, object, from, 0, object.stripes.count);
      break;
    }
    case Kind::failed: {
      const auto it = objects_.find(message.id);
      if (it == objects_.end()) return;
      auto& object = it->second;
      const auto peer = object.peers.find(from);
      if (peer == object.peers.end() || !peer->second.pulling || message.stripe >= object.stripes.count) return;
      if (const auto source = object.peers.find(message.rank); source != object.peers.end()) {
        unlist(object, source->first, source->second);
        source->second.bad = true;
      }
      assign(message, object, from, message.stripe, message.stripe + 1);
      break;
    }
    case Kind::settled: {
      const auto it = objects_.find(message.id);
      if (it == objects_.end()) return;
      const auto peer = it->second.peers.find(from);
      if (peer == it->second.peers.end() || message.stripe >= it->second.stripes.count) return;
      unlist(it->second, from, peer->second);
      peer->second.settled[message.stripe] = true;
      list(it->second, from, peer->second);
      break;
    }
    case Kind::done:
      finish(message.id, from, true);
      break;
    case Kind::gave_up:
      finish(message.id, from, false);
      break;
    default:
      break;
  }
}

void Planner::on_lost(Rank dead) {
  for (auto next = objects_.begin(); next != objects_.end();) {
    const auto it = next++;
    auto& object = it->second;
    const auto peer = object.peers.find(dead);
    if (peer == object.peers.end()) continue;
    if (peer->second.pulling) {
      finish(it->first, dead, false);  // may end the object
    } else {
      unlist(object, dead, peer->second);
      forget(object, peer);
    }
  }
  // Its children notice themselves and report it as failed.
}

}  // namespace trireme::objstore
