#include <cstring>

#include <fmt/format.h>

#include "base/log.hpp"
#include "transport/ucx/core.hpp"

namespace trireme::transport::ucx {
namespace {

// A frame that UCX could not hand to the device at once waits in a slot. A peer that takes nothing holds this many, so
// that it cannot use up all; 64 of 8 KiB cover the delay of a connection that is being opened.
constexpr std::uint32_t kFramesPerPeerMax = 64;

}  // namespace

Status Core::listen() {
  for (const auto& [id, callback] :
       {std::pair{kFrameMessage, &Core::on_frame_message}, std::pair{kControlMessage, &Core::on_control_message},
        std::pair{kReadMessage, &Core::on_read_message}, std::pair{kPieceMessage, &Core::on_piece_message}}) {
    ucp_am_handler_param_t param{};
    param.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                       UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
    param.id = id;
    param.flags = UCP_AM_FLAG_WHOLE_MSG;
    param.cb = callback;
    param.arg = this;
    if (auto status = ucp_worker_set_am_recv_handler(worker_->handle(), &param); status != UCS_OK)
      return ucx_error(Errc::unavailable, "registering a message handler", status);
  }
  return {};
}

SendStatus Core::send(Peer& peer, BytesView frame) {
  if (peer.state != Peer::State::alive || !connect(peer)) return SendStatus::peer_lost;
  TRIREME_CHECK(frame.size() + sizeof(Header) <= worker_->fragment_bytes_max(), "a frame over frame_bytes_max()");
  if (peer.sends_in_flight >= kFramesPerPeerMax) return SendStatus::would_block;
  auto* slot = fill(peer, kFrameMessage, frame);
  if (slot == nullptr) return SendStatus::would_block;
  if (!transmit(slot)) return SendStatus::peer_lost;
  ++peer.frames_sent;
  return SendStatus::sent;
}

Slot* Core::fill(Peer& peer, unsigned id, BytesView payload) {
  auto* slot = slots_.take();
  if (slot == nullptr) return nullptr;
  const Header header{peer.address.token, self_, 0};
  std::memcpy(slot->data.get(), &header, sizeof header);
  if (!payload.empty()) std::memcpy(slot->data.get() + sizeof header, payload.data(), payload.size());
  slot->peer = &peer;
  slot->id = id;
  slot->bytes = sizeof header + payload.size();
  return slot;
}

Slot* Core::control(Peer& peer, ControlKind kind) {
  const Control control{kind, 0, peer.frames_sent};
  return fill(peer, kControlMessage, std::as_bytes(std::span(&control, 1)));
}

void Core::send_control(Peer& peer, ControlKind kind) {
  if (!connect(peer)) return;
  // Without a slot thousands of frames wait already: the peer will see the connection close instead.
  if (auto* slot = control(peer, kind); slot != nullptr) transmit(slot);
}

bool Core::transmit(Slot* slot) {
  Peer& peer = *slot->peer;
  if (peer.open) return start(*slot);
  peer.held.push_back(slot);
  ++peer.sends_in_flight;
  return true;
}

bool Core::start(Slot& slot) {
  Peer& peer = *slot.peer;
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  if (&slot == peer.ready_message) param.op_attr_mask |= UCP_OP_ATTR_FLAG_NO_IMM_CMPL;
  // Eager: a rendezvous would keep the slot until the receiver takes its turn, and costs a round trip.
  param.flags = UCP_AM_SEND_FLAG_EAGER;
  param.cb.send = &Core::on_sent;
  param.user_data = &slot;
  void* request = ucp_am_send_nbx(peer.endpoint, slot.id, nullptr, 0, slot.data.get(), slot.bytes, &param);
  if (UCS_PTR_IS_PTR(request)) {
    ++peer.sends_in_flight;
    return true;
  }
  given_back(slot);
  if (request == nullptr) return true;
  fail(peer, fmt::format("UCX cannot send to it: {}", ucs_status_string(UCS_PTR_STATUS(request))));
  return false;
}

void Core::given_back(Slot& slot) {
  if (&slot == slot.peer->ready_message) {
    slot.peer->ready_message = nullptr;
    slot.peer->ready_sent = true;
  }
  slots_.give(&slot);
}

void Core::on_sent(void* request, ucs_status_t, void* argument) {
  // A failed send needs no treatment of its own: the endpoint's error callback follows.
  auto& slot = *static_cast<Slot*>(argument);
  --slot.peer->sends_in_flight;
  slot.peer->owner.given_back(slot);
  ucp_request_free(request);
}

Peer* Core::sender_of(const void* data, std::size_t bytes) {
  Header header;
  if (bytes >= sizeof header) {
    std::memcpy(&header, data, sizeof header);
    if (header.token == token_ && header.from < size_ && present_[header.from] != nullptr) return present_[header.from];
  }
  if (!std::exchange(stranger_reported_, true))
    TRIREME_LOG(warning, "UCX: dropped a message of {} bytes that does not come from a rank of this job", bytes);
  return nullptr;
}

ucs_status_t Core::on_frame_message(void* argument, const void*, std::size_t, void* data, std::size_t bytes,
                                    const ucp_am_recv_param_t* param) {
  auto& core = *static_cast<Core*>(argument);
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) return UCS_OK;  // no rank of this build sends one
  Peer* peer = core.sender_of(data, bytes);
  if (peer == nullptr || peer->state != Peer::State::alive) return UCS_OK;
  core.hear(*peer);
  ++peer->frames_received;
  if (core.sink_ != nullptr) {
    ++core.frames_delivered_;
    const auto frame = std::span(static_cast<const std::byte*>(data), bytes).subspan(sizeof(Header));
    core.sink_->on_frame(peer->rank, frame);
  }
  core.note_if_complete(*peer);
  return UCS_OK;
}

ucs_status_t Core::on_control_message(void* argument, const void*, std::size_t, void* data, std::size_t bytes,
                                      const ucp_am_recv_param_t* param) {
  auto& core = *static_cast<Core*>(argument);
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) return UCS_OK;
  Peer* peer = core.sender_of(data, bytes);
  if (peer == nullptr || bytes != sizeof(Header) + sizeof(Control)) return UCS_OK;
  Control control;
  std::memcpy(&control, static_cast<const std::byte*>(data) + sizeof(Header), sizeof control);
  core.hear(*peer);
  core.on_control(*peer, control);
  return UCS_OK;
}

void Core::hear(Peer& peer) {
  if (!std::exchange(peer.heard, true)) greeted_.push_back(&peer);
}

void Core::on_control(Peer& peer, const Control& control) {
  switch (control.kind) {
    case ControlKind::leave:
      if (peer.state == Peer::State::alive) peer.frames_announced = control.frames;
      note_if_complete(peer);
      break;
    case ControlKind::leave_seen:
      peer.settled = true;
      break;
    case ControlKind::hello:
      peer.hello_received = true;
      break;
    case ControlKind::ready:
      peer.ready_received = true;
      break;
  }
}

void Core::note_if_complete(Peer& peer) {
  if (peer.frames_announced && peer.frames_received >= *peer.frames_announced) leaving_.push_back(&peer);
}

}  // namespace trireme::transport::ucx
