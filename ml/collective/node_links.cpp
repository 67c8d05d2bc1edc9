#include "ml/collective/node_links.hpp"

#include <algorithm>
#include <cstring>

namespace trireme::ml {
namespace {

constexpr std::size_t kPushedMax = 16U << 10U;   // pushed without asking: may have to be stored by the receiver
constexpr std::size_t kFrameBytes = 32U << 10U;  // several fit into a ring, so that both sides copy at the same time
constexpr int kBurst = 64;                       // frames from one peer before the others get their turn

}  // namespace

NodeLinks::NodeLinks(const Segment& segment, std::vector<std::uint32_t> members, std::uint32_t self, Mailbox& mailbox)
    : segment_(segment), self_(self), mailbox_(mailbox), peers_(members.size()) {
  for (std::uint32_t local = 0; local < members.size(); ++local) {
    peers_[local].member = members[local];
    if (local == self) continue;
    peers_[local].out = transport::RingProducer(segment.ring(self, local));
    peers_[local].in = transport::RingConsumer(segment.ring(local, self));
  }
}

void NodeLinks::send(std::uint32_t to, MessagePtr message) {
  Peer& peer = peers_[to];
  if (message->bytes <= kPushedMax) {
    peer.queue.push_back({{Kind::whole, 0, message->key, message->bytes, 0}, message});
  } else {
    const auto id = ++last_id_;
    peer.queue.push_back({{Kind::announce, 0, message->key, message->bytes, id}, nullptr});
    peer.announced.emplace(id, std::move(message));
  }
  push(peer);
}

bool NodeLinks::put(Peer& peer, std::span<const std::byte> frame) {
  auto state = peer.out.put(frame);
  if (state == transport::RingState::full && !peer.out.ask_for_room()) state = peer.out.put(frame);
  if (state == transport::RingState::corrupt) on_corrupt(peer.member);
  if (state != transport::RingState::ready) return false;
  segment_.wake(local_of(peer));
  return true;
}

bool NodeLinks::push(Peer& peer) {
  bool moved = false;
  while (!peer.queue.empty()) {
    Outgoing& front = peer.queue.front();
    if (!front.head_sent) {
      if (!put(peer, std::as_bytes(std::span(&front.head, 1)))) return moved;
      front.head_sent = moved = true;
    }
    const bool carries = front.head.kind == Kind::whole || front.head.kind == Kind::data;
    while (carries && front.sent < front.message->bytes) {
      const std::size_t bytes = std::min(kFrameBytes, front.message->bytes - front.sent);
      if (!put(peer, {front.message->data + front.sent, bytes})) return moved;
      front.sent += bytes;
      moved = true;
    }
    const auto message = std::move(front.message);
    peer.queue.pop_front();
    if (message) message->finish();
  }
  return moved;
}

bool NodeLinks::progress() {
  bool moved = false;
  for (std::uint32_t local = 0; local < peers_.size(); ++local) {
    if (local == self_) continue;
    Peer& peer = peers_[local];
    moved |= drain(peer);
    if (!peer.queue.empty()) moved |= push(peer);
  }
  return moved;
}

bool NodeLinks::drain(Peer& peer) {
  int frames = 0;
  while (frames < kBurst) {
    BytesView frame;
    const auto state = peer.in.look(frame);
    if (state == transport::RingState::empty) break;
    if (state == transport::RingState::corrupt) {
      on_corrupt(peer.member);
      break;
    }
    ++frames;
    if (peer.missing != 0) {
      if (frame.size() > peer.missing) return on_corrupt(peer.member), true;
      std::memcpy(peer.into, frame.data(), frame.size());
      peer.into += frame.size();
      peer.missing -= frame.size();
      peer.in.pop();
      if (peer.missing == 0) on_whole(peer);
      continue;
    }
    Head head;
    if (frame.size() != sizeof head) return on_corrupt(peer.member), true;
    std::memcpy(&head, frame.data(), sizeof head);
    peer.in.pop();
    on_head(peer, head);
  }
  if (frames != 0 && peer.in.room_wanted()) segment_.wake(local_of(peer));
  return frames != 0;
}

void NodeLinks::on_head(Peer& peer, const Head& head) {
  switch (head.kind) {
    case Kind::whole:
      if (head.bytes > kPushedMax) return on_corrupt(peer.member);
      peer.filling = mailbox_.take_posted(peer.member, head.key, head.bytes);
      if (peer.filling) {
        peer.into = peer.filling->data;
      } else {
        Arrival arrival;
        arrival.bytes = head.bytes;
        arrival.copy.resize(head.bytes);
        peer.storing = mailbox_.keep(peer.member, head.key, std::move(arrival));
        peer.storing_key = head.key;
        peer.into = peer.storing->copy.data();
      }
      peer.missing = head.bytes;
      if (peer.missing == 0) on_whole(peer);
      return;
    case Kind::announce: {
      const std::uint32_t local = local_of(peer);
      auto fetch = [this, local, id = head.id, key = head.key](MessagePtr message) {
        if (!message) return;
        Peer& from = peers_[local];
        from.queue.push_back({{Kind::ready, 0, key, message->bytes, id}, nullptr});
        from.fetching.emplace(id, std::move(message));
        push(from);
      };
      if (auto posted = mailbox_.take_posted(peer.member, head.key, head.bytes)) return fetch(std::move(posted));
      Arrival arrival;
      arrival.bytes = head.bytes;
      arrival.fetch = std::move(fetch);
      mailbox_.keep(peer.member, head.key, std::move(arrival));
      return;
    }
    case Kind::ready: {
      const auto found = peer.announced.find(head.id);
      if (found == peer.announced.end()) return on_corrupt(peer.member);
      peer.queue.push_back({{Kind::data, 0, head.key, head.bytes, head.id}, std::move(found->second)});
      peer.announced.erase(found);
      push(peer);
      return;
    }
    case Kind::data: {
      const auto found = peer.fetching.find(head.id);
      if (found == peer.fetching.end() || found->second->bytes != head.bytes) return on_corrupt(peer.member);
      peer.filling = std::move(found->second);
      peer.fetching.erase(found);
      peer.into = peer.filling->data;
      peer.missing = head.bytes;
      return;
    }
  }
  on_corrupt(peer.member);
}

/// The message that was being filled is there.
void NodeLinks::on_whole(Peer& peer) {
  if (peer.filling) {
    std::exchange(peer.filling, nullptr)->finish();
  } else {
    peer.storing = nullptr;
    mailbox_.completed(peer.member, peer.storing_key);
  }
}

void NodeLinks::clear() {
  for (Peer& peer : peers_) {
    peer.queue.clear();
    peer.announced.clear();
    peer.fetching.clear();
    peer.filling = nullptr;
    peer.storing = nullptr;
    peer.missing = 0;
  }
}

}  // namespace trireme::ml
