#pragma once

#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "ml/collective/message.hpp"
#include "ml/collective/segment.hpp"
#include "transport/shm/ring.hpp"

namespace trireme::ml {

/// Messages between members of one node, through a ring for each direction of each pair.
///
/// Small messages are pushed; larger ones are announced and pushed once the receiver has a place for them, so that a
/// receiver never stores a large message it did not ask for.
///
/// Threading: the group's driver. Lifetime: within the segment's and the mailbox's.
class NodeLinks {
 public:
  /// `members` of the node by local number, with their numbers in the group; `self` is a local number.
  NodeLinks(const Segment& segment, std::vector<std::uint32_t> members, std::uint32_t self, Mailbox& mailbox);

  /// `to` is a local number.
  void send(std::uint32_t to, MessagePtr message);
  /// True when anything moved.
  bool progress();
  /// A ring that holds what no member writes.
  std::function<void(std::uint32_t member)> on_corrupt;
  void clear();

 private:
  enum class Kind : std::uint32_t { whole, announce, ready, data };
  struct Head {
    Kind kind;
    std::uint32_t reserved;
    Key key;
    std::uint64_t bytes;
    std::uint64_t id;  ///< of an announced message, drawn by its sender
  };
  /// A header, and for `whole` and `data` the bytes behind it in frames of their own.
  struct Outgoing {
    Head head;
    MessagePtr message;
    bool head_sent = false;
    std::size_t sent = 0;
  };
  struct Peer {
    std::uint32_t member = 0;
    transport::RingProducer out;
    transport::RingConsumer in;
    std::deque<Outgoing> queue;
    std::unordered_map<std::uint64_t, MessagePtr> announced;  ///< sends that wait for `ready`
    std::unordered_map<std::uint64_t, MessagePtr> fetching;   ///< receives that were told `ready`
    // What the next frames of raw bytes belong to.
    std::byte* into = nullptr;
    std::size_t missing = 0;
    MessagePtr filling;
    std::shared_ptr<Arrival> storing;
    Key storing_key = 0;
  };

  bool push(Peer& peer);
  bool put(Peer& peer, std::span<const std::byte> frame);
  bool drain(Peer& peer);
  void on_head(Peer& peer, const Head& head);
  void on_whole(Peer& peer);
  std::uint32_t local_of(const Peer& peer) const { return static_cast<std::uint32_t>(&peer - peers_.data()); }

  const Segment& segment_;
  const std::uint32_t self_;
  Mailbox& mailbox_;
  std::vector<Peer> peers_;  // by local number; that of self is unused
  std::uint64_t last_id_ = 0;
};

}  // namespace trireme::ml
