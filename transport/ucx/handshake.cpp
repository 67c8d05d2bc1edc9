#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "transport/ucx/core.hpp"
#include "transport/ucx/devices.hpp"

// Before UCX 1.14 a connection that fails or closes while a message of UCX's own wire-up waits for the socket aborts
// the process ("got REP message", openucx/ucx#8175; "pending_count == 0"). Over TCP UCX begins that wire-up with the
// first message it cannot send at once, and answers over a socket that may not be connected yet. So a rank that died
// just after it had spoken to another for the first time could take that one with it, and so could one that was told
// to close at that moment.
//
// The way around is to have the wire-up done while both sockets stand and are idle:
//   1. Each side says hello by a message that UCX may only send at once, never queue: it needs no wire-up. A rank
//      that hears the other's hello knows that the socket towards itself stands.
//   2. A rank that has said and heard hello says ready by a message that UCX must queue, and so wires up first.
//   3. Once its own ready is sent and the other's has come, wire-up is over for good; frames and gets go.

namespace trireme::transport::ucx {

bool defers_wire_up() {
  unsigned major = 0, minor = 0, release = 0;
  ucp_get_version(&major, &minor, &release);
  return major == 1 && minor < 14;
}

void Core::begin_handshake(Peer& peer) {
  peer.reads_by_message = all_tcp(lanes_of(peer.endpoint));
  peer.open = !handshakes_ || !peer.reads_by_message;
  if (!peer.open && !advance_handshake(peer)) shaking_.push_back(&peer);
}

/// True when there is nothing left to do for it: the connection is open, or gone.
bool Core::advance_handshake(Peer& peer) {
  if (peer.endpoint == nullptr || peer.failed) return true;
  if (!peer.hello_sent) {
    const struct {
      Header header;
      Control control;
    } hello{{peer.address.token, self_, 0}, {ControlKind::hello, 0, 0}};
    ucp_request_param_t param{};
    param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FLAG_FORCE_IMM_CMPL;
    param.flags = UCP_AM_SEND_FLAG_EAGER;
    void* request = ucp_am_send_nbx(peer.endpoint, kControlMessage, nullptr, 0, &hello, sizeof hello, &param);
    const auto status = UCS_PTR_STATUS(request);
    if (status == UCS_ERR_NO_RESOURCE) return false;  // the socket is not connected yet
    if (status != UCS_OK) {
      fail(peer, fmt::format("UCX cannot send to it: {}", ucs_status_string(status)));
      return true;
    }
    peer.hello_sent = true;
  }
  if (!peer.hello_received) return false;
  if (!peer.ready_sent && peer.ready_message == nullptr) {
    peer.ready_message = control(peer, ControlKind::ready);
    if (peer.ready_message == nullptr || !start(*peer.ready_message)) return peer.failed;
  }
  if (!peer.ready_sent || !peer.ready_received) return false;
  peer.open = true;
  for (Slot* slot : std::exchange(peer.held, {})) {
    --peer.sends_in_flight;
    if (peer.failed)
      slots_.give(slot);
    else
      start(*slot);
  }
  if (!peer.pulls.empty() && !std::exchange(peer.active, true)) active_.push_back(&peer);
  return true;
}

void Core::answer_hello(Peer& peer) {
  // This side may reach the peer over a device that needs no handshake, and the peer this one over one that does.
  if (!peer.open || peer.hello_sent) return;
  peer.hello_sent = true;
  send_control(peer, ControlKind::hello);
  send_control(peer, ControlKind::ready);
}

void Core::drop_held(Peer& peer) {
  for (Slot* slot : std::exchange(peer.held, {})) {
    --peer.sends_in_flight;
    slots_.give(slot);
  }
}

}  // namespace trireme::transport::ucx
