#include <fmt/format.h>

#include "base/log.hpp"
#include "transport/ucx/core.hpp"
#include "transport/ucx/devices.hpp"

namespace trireme::transport::ucx {

Status Core::add(Rank rank, BytesView bytes) {
  if (rank >= size_ || rank == self_)
    return make_error(Errc::invalid_argument,
                      fmt::format("rank {} of a job of {} cannot be a peer of rank {}", rank, size_, self_));
  auto address = Address::decode(bytes);
  if (!address) return make_error(address.error().code, fmt::format("rank {}: {}", rank, address.error().message));
  if (const Peer* known = present_[rank]; known != nullptr && known->state == Peer::State::alive)
    return make_error(Errc::already_exists, fmt::format("rank {} is a peer already", rank));
  peers_.push_back(std::make_unique<Peer>(*this, rank, std::move(*address)));
  present_[rank] = peers_.back().get();
  return {};
}

Peer& Core::peer(Rank rank) const {
  TRIREME_CHECK(rank < size_ && present_[rank] != nullptr, "the rank was not added as a peer");
  return *present_[rank];
}

bool Core::connect(Peer& peer) {
  if (peer.state == Peer::State::lost || peer.failed) return false;
  if (peer.endpoint != nullptr) return true;
  ucp_ep_params_t params{};
  params.field_mask =
      UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(peer.address.worker.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = &Core::on_endpoint_error;
  params.err_handler.arg = &peer;
  if (auto status = ucp_ep_create(worker_->handle(), &params, &peer.endpoint); status != UCS_OK) {
    peer.endpoint = nullptr;
    fail(peer, ucx_error(Errc::unavailable, "connecting", status).message);
    return false;
  }
  begin_handshake(peer);
  return !peer.failed;
}

void Core::on_endpoint_error(void* argument, ucp_ep_h endpoint, ucs_status_t status) {
  auto& peer = *static_cast<Peer*>(argument);
  if (peer.endpoint != endpoint) return;  // closed by us before
  peer.owner.fail(peer, fmt::format("its UCX connection broke: {}", ucs_status_string(status)));
}

void Core::fail(Peer& peer, std::string why) {
  if (peer.failed) return;
  peer.failed = true;
  peer.failure = std::move(why);
  failed_.push_back(&peer);
}

void Core::close_endpoint(Peer& peer) {
  drop_held(peer);
  if (peer.endpoint == nullptr) return;
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_EP_CLOSE_FLAG_FORCE;
  const auto endpoint = std::exchange(peer.endpoint, nullptr);
  void* request = ucp_ep_close_nbx(endpoint, &param);
  if (UCS_PTR_IS_PTR(request)) closing_requests_.push_back(request);
}

void Core::forget(Peer& peer) {
  if (peer.state == Peer::State::lost) return;
  peer.state = Peer::State::lost;
  peer.settled = true;
  close_endpoint(peer);
  end_pulls(peer);
}

std::string Core::describe(const Peer& peer) const {
  if (peer.state == Peer::State::left) return "left";
  if (peer.state == Peer::State::lost || peer.failed)
    return peer.failure.empty() ? std::string("given up") : fmt::format("lost: {}", peer.failure);
  if (peer.endpoint == nullptr) return "not connected yet: the first message opens the connection";
  const auto lanes = lanes_of(peer.endpoint);
  auto line = lanes.empty() ? std::string("connected, UCX names no device") : fmt::format("{}", fmt::join(lanes, ", "));
  if (const auto warning = tcp_warning(lanes, rdma_); !warning.empty()) line += " (WARNING: " + warning + ")";
  return line;
}

void Core::check_lanes(Peer& peer) {
  if (rdma_.empty() || rdma_reported_ || peer.endpoint == nullptr) return;
  const auto warning = tcp_warning(lanes_of(peer.endpoint), rdma_);
  if (warning.empty()) return;
  TRIREME_LOG(warning, "slow transport towards rank {}: {}", peer.rank, warning);
  rdma_reported_ = true;
}

}  // namespace trireme::transport::ucx
