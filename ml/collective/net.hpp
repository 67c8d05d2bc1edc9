#pragma once

#include <ucp/api/ucp.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "ml/collective/coroutine.hpp"
#include "ml/collective/message.hpp"
#include "ml/collective/segment.hpp"
#include "transport/ucx/worker.hpp"

namespace trireme::ml {

/// Messages between members on different nodes, over UCX endpoints of the group's own.
///
/// An endpoint is opened by the first send to a member, or receive from it, with peer error handling, so that the death
/// of a member that anybody waits for is noticed. UCX chooses between eager and rendezvous; a rendezvous that nobody
/// asked for yet stays with its sender. Callbacks of UCX only take notes, progress() acts on them.
///
/// Threading: the group's driver. Errors: on_lost. Lifetime: within the mailbox's.
class Net {
 public:
  /// To a member that may not have joined yet, no more than the sockets hold: behind what is stuck it could not be told
  /// that the group is broken.
  static constexpr std::size_t kUnaskedBytes = 32U << 10U;
  /// Up to here head and data travel as one piece, copied before the send.
  static constexpr std::size_t kShortBytes = 1024;

  static Result<std::unique_ptr<Net>> create(std::uint32_t self, std::uint32_t size, Mailbox& mailbox);
  ~Net();
  Net(const Net&) = delete;
  Net& operator=(const Net&) = delete;

  Bytes address() const;
  Status add(std::uint32_t member, BytesView address);

  /// Connects to members that do the same at the same time. Between two that will talk often: UCX 1.13 stops a process
  /// whose peer closes a connection that is half made (wireup_ep.c, "pending_count == 0"), as one does that gives up
  /// waiting.
  Status greet(std::span<const std::uint32_t> members, Nanos timeout);

  void send(const MessagePtr& message);
  /// Up to kShortBytes, done with `data` when it returns.
  void send_short(std::uint32_t member, Key key, const void* data, std::size_t bytes);
  /// A receive from that member is posted: its death must be noticed.
  void expect(std::uint32_t member);
  bool progress();

  int event_fd() const { return worker_->event_fd(); }
  bool arm();

  /// Tells all members on other nodes that the group is broken, and waits until they have said so too, for at most
  /// `grace`: a connection that closes before would be taken for another death.
  void spread(Breakage breakage, Nanos grace);
  /// Gives back everything that UCX holds of ours. Nothing can be sent afterwards.
  void abort();
  /// Tells connected members that this one leaves and waits until they leave too, for at most `grace`.
  void leave(Nanos grace);

  std::function<void(std::uint32_t member, std::string why)> on_lost;
  std::function<void(Breakage)> on_broken;
  bool over_tcp(std::uint32_t member) const { return peers_[member] && peers_[member]->over_tcp; }
  bool left(std::uint32_t member) const { return peers_[member] && peers_[member]->left; }

 private:
  enum class Kind : std::uint32_t { data, hello, broken, leave };
  struct Head {
    std::uint64_t token;  ///< of the receiver
    std::uint32_t from;
    Kind kind;
    Key key;
    std::uint64_t bytes;
  };
  struct Peer {
    Net* net = nullptr;
    std::uint32_t member = 0;
    std::uint64_t token = 0;
    Bytes address;
    ucp_ep_h endpoint = nullptr;
    bool over_tcp = false;
    bool failed = false;
    bool greeted = false;
    bool left = false;
    bool knows = false;  ///< has said that the group is broken
    std::string why;
  };
  /// A send that UCX holds: header and message stay in place.
  struct Sending {
    Net* net;
    Head head;
    MessagePtr message;
  };
  struct Packed {
    Net* net;
    std::byte bytes[sizeof(Head) + kShortBytes];
  };
  /// A rendezvous being read.
  struct Fetching {
    Net* net;
    MessagePtr message;
    ucs_status_t status = UCS_OK;
  };
  struct Rendezvous {
    std::uint32_t from;
    Key key;
    std::size_t bytes;
    void* descriptor;
  };

  Net(std::uint32_t self, std::uint32_t size, Mailbox& mailbox, std::unique_ptr<transport::ucx::Worker> worker);
  Status listen();
  bool connect(Peer& peer);
  void fail(Peer& peer, std::string why);
  void close(Peer& peer, bool force);
  void transmit(Peer& peer, Kind kind, MessagePtr message, Key key);
  bool transmit_short(Peer& peer, const Head& head, const void* data);
  void fetch(void* descriptor, MessagePtr message);
  void settle();
  /// Progress until `reached` or `until`, asleep between events.
  bool progress_until(Condition reached, Nanos until);
  static void on_endpoint_error(void* argument, ucp_ep_h endpoint, ucs_status_t status);
  static void on_sent(void* request, ucs_status_t status, void* argument);
  static void on_fetched(void* request, ucs_status_t status, std::size_t bytes, void* argument);
  Peer* sender(const Head& head) const;
  void arrived(Peer& peer, const Head& head, const std::byte* data);
  static void on_short_sent(void* request, ucs_status_t status, void* argument);
  static ucs_status_t on_short(void* argument, const void* header, std::size_t header_bytes, void* data,
                               std::size_t bytes, const ucp_am_recv_param_t* param);
  static ucs_status_t on_message(void* argument, const void* header, std::size_t header_bytes, void* data,
                                 std::size_t bytes, const ucp_am_recv_param_t* param);

  const std::uint32_t self_;
  const std::uint64_t token_;
  Mailbox& mailbox_;
  std::unique_ptr<transport::ucx::Worker> worker_;
  std::vector<std::unique_ptr<Peer>> peers_;  // by member; null for those of this node
  std::vector<Peer*> failed_;
  std::vector<Rendezvous> rendezvous_;
  std::vector<MessagePtr> finished_, finishing_;
  std::vector<void*> closing_;
  std::unique_ptr<Packed> spare_;
  std::size_t in_flight_ = 0;  // sends and fetches that UCX holds
  bool delivered_ = false;     // a message came during the progress under way
  bool aborted_ = false;
};

}  // namespace trireme::ml
