#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ml/collective/coroutine.hpp"
#include "ml/collective/message.hpp"
#include "ml/collective/net.hpp"
#include "ml/collective/node_links.hpp"
#include "ml/collective/segment.hpp"
#include "trireme/ml/communicator.hpp"

namespace trireme::ml {

/// Where a member runs.
struct Place {
  std::string host;
  int pid = 0;
  std::uint32_t node = 0;   ///< index into Fabric::nodes
  std::uint32_t local = 0;  ///< index into that node's members
};

/// What the algorithms of a group see: who is where, the node's shared memory, and messages to anybody.
///
/// Threading: the group's driver, but for `segment`. Lifetime: as the group.
class Fabric {
 public:
  std::uint32_t rank = 0;
  std::uint32_t size = 1;
  std::vector<Place> places;                      ///< by member
  std::vector<std::vector<std::uint32_t>> nodes;  ///< members of each node, ascending; the first is its leader
  std::uint32_t node = 0;
  std::uint32_t local = 0;
  std::uint32_t locals = 1;
  std::uint32_t cores = 1;  ///< that the members of the node may run on
  Thresholds thresholds;    ///< as member 0 has them

  transport::Fd bell_read, bell_write;  ///< this member's doorbell, where the group spans nodes
  std::unique_ptr<Segment> segment;
  Mailbox mailbox;
  std::unique_ptr<NodeLinks> links;
  std::unique_ptr<Net> net;  ///< null when all members share one node

  Suspended suspended;          ///< what the collective under way waits for
  std::uint64_t phase = 0;      ///< of the node's shared memory, see PhaseLine
  std::uint64_t operation = 0;  ///< number of the collective under way
  std::uint64_t signature = 0;  ///< of it
  std::uint32_t awaited = 0;    ///< local number of the member that a phase waits for

  bool one_node() const { return nodes.size() == 1; }
  /// Whether what goes to that member takes TCP; false until it is connected.
  bool over_tcp(std::uint32_t member) const { return places[member].node != node && net->over_tcp(member); }
  bool is_leader() const { return local == 0; }
  std::uint32_t member_of(std::uint32_t local_number) const { return nodes[node][local_number]; }

  /// Messages of the collective under way; `step` is unique among its messages to that peer.
  /// `joined`: the receiver is known to take part in it already.
  MessagePtr send(std::uint32_t to, std::uint32_t step, const void* data, std::size_t bytes, bool joined = false) {
    return post_send(to, collective_key(operation, step), data, bytes, {}, joined);
  }
  MessagePtr receive(std::uint32_t from, std::uint32_t step, void* data, std::size_t bytes) {
    return post_receive(from, collective_key(operation, step), data, bytes);
  }
  /// Combines what comes into `into`, what came first. `room` is for what does not come in one piece.
  MessagePtr receive_into(std::uint32_t from, std::uint32_t step, std::byte* room, std::size_t bytes, Combine combine) {
    return post_receive(from, collective_key(operation, step), room, bytes, {}, combine);
  }
  MessagePtr post_send(std::uint32_t to, Key key, const void* data, std::size_t bytes, std::function<void()> done = {},
                       bool joined = false);
  MessagePtr post_receive(std::uint32_t from, Key key, void* data, std::size_t bytes, std::function<void()> done = {},
                          std::optional<Combine> combine = {});

  auto until_done(const MessagePtr& message) {
    return Until(suspended, [message = message.get()] { return message->done; });
  }
  auto until_all_done(const std::vector<MessagePtr>& messages) {
    return Until(suspended, [&messages, next = std::size_t{0}]() mutable {
      while (next < messages.size() && messages[next]->done) ++next;
      return next == messages.size();
    });
  }

  /// Publishes what this member has written for the next phase.
  void publish() {
    publish_quietly();
    announce();
  }
  /// The two halves of that, for who looks for the others in between: a fence waits until the line has come from the
  /// others' caches, and their lines can come meanwhile. announce() must follow before the driver does anything else.
  void publish_quietly() {
    PhaseLine& line = segment->line(++phase, local);
    line.signature = signature;
    line.phase.store(phase, std::memory_order_release);  // pairs with arrived()
    awaited = 0;
  }
  void announce() const {
    std::atomic_thread_fence(std::memory_order_seq_cst);  // between the phase and sleepers(): see Engine::sleep()
    segment->wake_all();
  }
  /// True once every member of the node has published this phase. Whoever disagrees breaks the group.
  bool arrived() {
    for (; awaited < locals; ++awaited) {
      const PhaseLine& line = segment->line(phase, awaited);
      if (line.phase.load(std::memory_order_acquire) < phase) return false;  // pairs with publish()
      if (line.signature != signature) {
        segment->raise({Breakage::Cause::disagreement, member_of(awaited)});
        return false;
      }
    }
    return true;
  }
  auto until_arrived() {
    return Until(suspended, [this] { return arrived(); });
  }

  /// Memory for the collective under way; kept, because fresh pages cost more than the work on them.
  std::byte* scratch(std::size_t bytes);

 private:
  std::unique_ptr<std::byte[]> scratch_;
  std::size_t scratch_bytes_ = 0;
};

/// Finds the members and connects to them: three rounds of `exchange`. The error names the member that failed.
Status form(Fabric& fabric, const Exchange& exchange, const CommunicatorOptions& options);

}  // namespace trireme::ml
