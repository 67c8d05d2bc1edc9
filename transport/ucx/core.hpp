#pragma once

#include <ucp/api/ucp.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "transport/ucx/address.hpp"
#include "transport/ucx/peer.hpp"
#include "transport/ucx/slots.hpp"
#include "transport/ucx/wire.hpp"
#include "transport/ucx/worker.hpp"

namespace trireme::transport::ucx {

/// Whether this UCX aborts the process when a connection ends while its own wire-up waits (handshake.cpp).
bool defers_wire_up();

/// The backend's state and its parts: connection.cpp, handshake.cpp, frames.cpp, pulls.cpp, reads.cpp,
/// core.cpp.
///
/// UCX callbacks only take notes or deliver a frame. What they find (a failed connection, a finished get, a peer that
/// leaves) is dealt with by settle() after ucp_worker_progress() has returned, so that no endpoint is opened or closed
/// and no GetDone runs inside UCX.
///
/// Threading: as Backend.
class Core {
 public:
  Core(Rank self, std::uint32_t size, std::unique_ptr<Worker> worker);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // connection.cpp
  Status add(Rank rank, BytesView address);
  Peer& peer(Rank rank) const;  ///< must have been added
  std::string describe(const Peer& peer) const;
  void forget(Peer& peer);

  // frames.cpp
  Status listen();
  SendStatus send(Peer& peer, BytesView frame);

  // pulls.cpp
  void pull(Peer& peer, std::uint64_t offset, std::span<std::byte> into, GetDone done);

  // core.cpp
  int poll(Sink& sink);
  bool arm();
  void close(std::int64_t grace_ns);
  Worker& worker() { return *worker_; }
  ExposedMemory& exposed() { return exposed_; }
  std::uint64_t token() const { return token_; }

 private:
  // connection.cpp
  bool connect(Peer& peer);  ///< opens the endpoint if need be; false: there is none and will be none
  void fail(Peer& peer, std::string why);
  void close_endpoint(Peer& peer);
  void check_lanes(Peer& peer);
  static void on_endpoint_error(void* argument, ucp_ep_h endpoint, ucs_status_t status);

  // handshake.cpp
  void begin_handshake(Peer& peer);
  bool advance_handshake(Peer& peer);
  void answer_hello(Peer& peer);
  void drop_held(Peer& peer);

  // frames.cpp
  bool start(Slot& slot);
  bool transmit(Slot* slot);
  Slot* fill(Peer& peer, unsigned id, BytesView payload);
  Slot* control(Peer& peer, ControlKind kind);
  void given_back(Slot& slot);
  void send_control(Peer& peer, ControlKind kind);
  void announce_leave();
  Peer* sender_of(const void* data, std::size_t bytes);
  void hear(Peer& peer);
  void on_control(Peer& peer, const Control& control);
  void note_if_complete(Peer& peer);
  static void on_sent(void* request, ucs_status_t status, void* argument);
  static ucs_status_t on_frame_message(void* argument, const void* header, std::size_t header_bytes, void* data,
                                       std::size_t bytes, const ucp_am_recv_param_t* param);
  static ucs_status_t on_control_message(void* argument, const void* header, std::size_t header_bytes, void* data,
                                         std::size_t bytes, const ucp_am_recv_param_t* param);

  // pulls.cpp
  bool unpack_key(Peer& peer);
  void issue(Peer& peer);
  bool issue_chunk(Peer& peer, Pull& pull);
  void end_pulls(Peer& peer);
  void release_key(Peer& peer);
  int run_finished();
  static void on_chunk(void* request, ucs_status_t status, void* argument);
  void chunk_done(Pull& pull, ucs_status_t status);

  // reads.cpp
  bool ask_chunk(Peer& peer, Pull& pull, std::span<std::byte> chunk);
  void end_reads(Peer& peer);
  bool serve(Peer& peer);
  static ucs_status_t on_read_message(void* argument, const void* header, std::size_t header_bytes, void* data,
                                      std::size_t bytes, const ucp_am_recv_param_t* param);
  static ucs_status_t on_piece_message(void* argument, const void* header, std::size_t header_bytes, void* data,
                                       std::size_t bytes, const ucp_am_recv_param_t* param);
  static void on_piece_sent(void* request, ucs_status_t status, void* argument);

  // core.cpp
  int settle(Sink* sink);
  bool flushed() const;
  void wait_for_events(std::int64_t until);

  const Rank self_;
  const std::uint32_t size_;
  const std::uint64_t token_;
  std::unique_ptr<Worker> worker_;
  ExposedMemory exposed_;
  std::vector<std::string> rdma_;
  const bool handshakes_ = defers_wire_up();
  bool rdma_reported_ = false;
  bool stranger_reported_ = false;
  bool closing_ = false;
  Sink* sink_ = nullptr;  // during poll() only
  int frames_delivered_ = 0;

  std::vector<Peer*> present_;  // by rank; nullptr where none was added
  std::vector<std::unique_ptr<Peer>> peers_;
  SlotPool slots_;
  PiecePool pieces_;

  // Notes of callbacks, worked off by settle().
  std::vector<Peer*> failed_;
  std::vector<Peer*> leaving_;
  std::vector<Peer*> greeted_;  // sent a first message: connect back, so that their death is noticed
  std::vector<Peer*> shaking_;  // connected, not open yet
  std::vector<Peer*> active_;
  std::vector<Peer*> serving_;  // with reads to answer
  std::vector<std::unique_ptr<Pull>> finished_;
  std::vector<void*> closing_requests_;
};

}  // namespace trireme::transport::ucx
