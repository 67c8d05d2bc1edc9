#include "ml/collective/net.hpp"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "base/log.hpp"
#include "transport/ucx/devices.hpp"

namespace trireme::ml {
namespace {

constexpr unsigned kMessageId = 1;
constexpr unsigned kShortId = 2;
/// Over TCP a rendezvous costs a round trip: up to here the data go at once. An all-reduce of 1 MiB, whose pieces are
/// of 512 KiB, took 587 us with a limit of 512 KiB and 411 with this one; one of 512 KiB 238 and 201
/// (trireme_collectives of the benchmarks, medians of five, 2 cores of an Intel Xeon that others used too).
constexpr std::size_t kEagerTcpBytes = 256U << 10U;
constexpr Nanos kReleaseMax = kSecond;  // for UCX to give back what it holds once its endpoints are closed by force

std::uint64_t draw_token() {
  std::random_device random;
  return std::uint64_t{random()} << 32U | random();
}

}  // namespace

Net::Net(std::uint32_t self, std::uint32_t size, Mailbox& mailbox, std::unique_ptr<transport::ucx::Worker> worker)
    : self_(self), token_(draw_token()), mailbox_(mailbox), worker_(std::move(worker)), peers_(size) {}

Result<std::unique_ptr<Net>> Net::create(std::uint32_t self, std::uint32_t size, Mailbox& mailbox) {
  auto worker = transport::ucx::Worker::create(size);
  if (!worker) return worker.error();
  std::unique_ptr<Net> made(new Net(self, size, mailbox, std::move(*worker)));
  if (auto status = made->listen(); !status.ok()) return status.error();
  return made;
}

Net::~Net() {
  abort();
  for (auto* request : closing_)
    if (request != nullptr) ucp_request_free(request);
}

Status Net::listen() {
  ucp_am_handler_param_t param{};
  param.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS | UCP_AM_HANDLER_PARAM_FIELD_CB |
                     UCP_AM_HANDLER_PARAM_FIELD_ARG;
  param.id = kMessageId;
  param.flags = UCP_AM_FLAG_WHOLE_MSG;
  param.cb = &Net::on_message;
  param.arg = this;
  auto status = ucp_worker_set_am_recv_handler(worker_->handle(), &param);
  param.id = kShortId;
  param.cb = &Net::on_short;
  if (status == UCS_OK) status = ucp_worker_set_am_recv_handler(worker_->handle(), &param);
  if (status != UCS_OK) return transport::ucx::ucx_error(Errc::unavailable, "registering a message handler", status);
  return {};
}

Bytes Net::address() const {
  Bytes out;
  Writer writer(out);
  writer.put(token_);
  writer.blob(worker_->address());
  return out;
}

Status Net::add(std::uint32_t member, BytesView bytes) {
  Reader reader(bytes);
  auto peer = std::make_unique<Peer>();
  peer->net = this;
  peer->member = member;
  peer->token = reader.get<std::uint64_t>();
  const auto address = reader.blob();
  if (!reader.done() || address.empty())
    return make_error(Errc::malformed, fmt::format("member {} gave no UCX address of this build", member));
  peer->address.assign(address.begin(), address.end());
  peers_[member] = std::move(peer);
  return {};
}

bool Net::connect(Peer& peer) {
  if (peer.failed || aborted_) return false;
  if (peer.endpoint != nullptr) return true;
  ucp_ep_params_t params{};
  params.field_mask =
      UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE | UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(peer.address.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = &Net::on_endpoint_error;
  params.err_handler.arg = &peer;
  const auto status = ucp_ep_create(worker_->handle(), &params, &peer.endpoint);
  if (status == UCS_OK) {
    peer.over_tcp = transport::ucx::all_tcp(transport::ucx::lanes_of(peer.endpoint));
    return true;
  }
  peer.endpoint = nullptr;
  fail(peer, fmt::format("UCX cannot connect: {}", ucs_status_string(status)));
  return false;
}

void Net::on_endpoint_error(void* argument, ucp_ep_h endpoint, ucs_status_t status) {
  auto& peer = *static_cast<Peer*>(argument);
  if (peer.endpoint == endpoint)
    peer.net->fail(peer, fmt::format("its UCX connection broke ({})", ucs_status_string(status)));
}

void Net::fail(Peer& peer, std::string why) {
  if (std::exchange(peer.failed, true)) return;
  peer.why = std::move(why);
  failed_.push_back(&peer);
}

void Net::close(Peer& peer, bool force) {
  if (peer.endpoint == nullptr) return;
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  if (force) param.flags = UCP_EP_CLOSE_FLAG_FORCE;
  void* request = ucp_ep_close_nbx(std::exchange(peer.endpoint, nullptr), &param);
  if (UCS_PTR_IS_PTR(request)) closing_.push_back(request);
}

void Net::send(const MessagePtr& message) { transmit(*peers_[message->peer], Kind::data, message, message->key); }

void Net::expect(std::uint32_t member) { connect(*peers_[member]); }

void Net::send_short(std::uint32_t member, Key key, const void* data, std::size_t bytes) {
  Peer& peer = *peers_[member];
  if (connect(peer)) transmit_short(peer, Head{peer.token, self_, Kind::data, key, bytes}, data);
}

/// False when it cannot be sent: the peer has failed then.
bool Net::transmit_short(Peer& peer, const Head& head, const void* data) {
  auto packed = spare_ ? std::move(spare_) : std::make_unique<Packed>();
  packed->net = this;
  std::memcpy(packed->bytes, &head, sizeof head);
  if (head.bytes != 0) std::memcpy(packed->bytes + sizeof head, data, head.bytes);
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  param.cb.send = &Net::on_short_sent;
  param.user_data = packed.get();
  void* request = ucp_am_send_nbx(peer.endpoint, kShortId, nullptr, 0, packed->bytes, sizeof head + head.bytes, &param);
  if (UCS_PTR_IS_ERR(request)) {
    fail(peer, fmt::format("UCX cannot send to it: {}", ucs_status_string(UCS_PTR_STATUS(request))));
    return false;
  }
  if (request == nullptr) {
    spare_ = std::move(packed);
  } else {
    ++in_flight_;
    packed.release();  // on_short_sent() deletes it
  }
  return true;
}

void Net::transmit(Peer& peer, Kind kind, MessagePtr message, Key key) {
  if (!connect(peer)) return;
  const void* data = message ? message->data : nullptr;
  const std::size_t bytes = message ? message->bytes : 0;
  const Head head{peer.token, self_, kind, key, bytes};
  if (bytes <= kShortBytes) {
    // Done with what it was given, whether UCX is or not; an endpoint's error ends the group.
    if (transmit_short(peer, head, data) && message) finished_.push_back(std::move(message));
    return;
  }
  auto sending = std::make_unique<Sending>(Sending{this, head, std::move(message)});
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  param.cb.send = &Net::on_sent;
  param.user_data = sending.get();
  if (peer.over_tcp && bytes <= (sending->message->joined ? kEagerTcpBytes : Net::kUnaskedBytes)) {
    param.op_attr_mask |= UCP_OP_ATTR_FIELD_FLAGS;
    param.flags = UCP_AM_SEND_FLAG_EAGER;
  }
  void* request = ucp_am_send_nbx(peer.endpoint, kMessageId, &sending->head, sizeof sending->head, data, bytes, &param);
  if (UCS_PTR_IS_PTR(request)) {
    ++in_flight_;
    sending.release();  // on_sent() deletes it
  } else if (request != nullptr) {
    fail(peer, fmt::format("UCX cannot send to it: {}", ucs_status_string(UCS_PTR_STATUS(request))));
  } else if (sending->message) {
    finished_.push_back(std::move(sending->message));
  }
}

void Net::on_short_sent(void* request, ucs_status_t, void* argument) {
  std::unique_ptr<Packed> packed(static_cast<Packed*>(argument));
  ucp_request_free(request);
  --packed->net->in_flight_;
}

void Net::on_sent(void* request, ucs_status_t status, void* argument) {
  std::unique_ptr<Sending> sending(static_cast<Sending*>(argument));
  ucp_request_free(request);
  --sending->net->in_flight_;
  // A failed one is not finished: the endpoint's error follows and ends the group.
  if (status == UCS_OK && sending->message) sending->net->finished_.push_back(std::move(sending->message));
}

ucs_status_t Net::on_short(void* argument, const void*, std::size_t header_bytes, void* data, std::size_t bytes,
                           const ucp_am_recv_param_t* param) {
  Net& net = *static_cast<Net*>(argument);
  Head head;
  if (header_bytes != 0 || bytes < sizeof head || (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) return UCS_OK;
  std::memcpy(&head, data, sizeof head);
  if (Peer* peer = net.sender(head); peer != nullptr && head.bytes == bytes - sizeof head)
    net.arrived(*peer, head, static_cast<std::byte*>(data) + sizeof head);
  return UCS_OK;
}

ucs_status_t Net::on_message(void* argument, const void* header, std::size_t header_bytes, void* data,
                             std::size_t bytes, const ucp_am_recv_param_t* param) {
  Net& net = *static_cast<Net*>(argument);
  Head head;
  if (header_bytes != sizeof head) return UCS_OK;
  std::memcpy(&head, header, sizeof head);
  Peer* peer = net.sender(head);
  if (peer == nullptr || head.kind != Kind::data || head.bytes != bytes) return UCS_OK;
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) {
    net.delivered_ = true;
    net.rendezvous_.push_back({head.from, head.key, bytes, data});
    return UCS_INPROGRESS;
  }
  net.arrived(*peer, head, static_cast<std::byte*>(data));
  return UCS_OK;
}

/// Null when the message is not of this group, or comes too late.
Net::Peer* Net::sender(const Head& head) const {
  if (head.token != token_ || head.from >= peers_.size() || aborted_) return nullptr;
  return peers_[head.from].get();
}

void Net::arrived(Peer& peer, const Head& head, const std::byte* data) {
  delivered_ = true;
  switch (head.kind) {
    case Kind::broken:
      peer.knows = true;
      return on_broken(Breakage::unpack(static_cast<std::uint32_t>(head.key)));
    case Kind::leave:
      peer.left = true;
      return;
    case Kind::hello:
      peer.greeted = true;
      return;
    case Kind::data:
      break;
    default:
      return;
  }
  if (mailbox_.give(head.from, head.key, data, head.bytes)) return;
  if (auto message = mailbox_.take_posted(head.from, head.key, head.bytes)) {
    message->take(data);
    finished_.push_back(std::move(message));
    return;
  }
  Arrival arrival;
  arrival.bytes = head.bytes;
  arrival.copy.assign(data, data + head.bytes);
  arrival.complete = true;
  mailbox_.keep(head.from, head.key, std::move(arrival));
}

void Net::fetch(void* descriptor, MessagePtr message) {
  if (!message) {
    ucp_am_data_release(worker_->handle(), descriptor);
    return;
  }
  auto fetching = std::make_unique<Fetching>(Fetching{this, std::move(message), UCS_OK});
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  param.cb.recv_am = &Net::on_fetched;
  param.user_data = fetching.get();
  void* request =
      ucp_am_recv_data_nbx(worker_->handle(), descriptor, fetching->message->data, fetching->message->bytes, &param);
  if (UCS_PTR_IS_PTR(request)) {
    ++in_flight_;
    fetching.release();  // on_fetched() deletes it
  } else if (request == nullptr) {
    finished_.push_back(std::move(fetching->message));
  }
}

void Net::on_fetched(void* request, ucs_status_t status, std::size_t, void* argument) {
  std::unique_ptr<Fetching> fetching(static_cast<Fetching*>(argument));
  ucp_request_free(request);
  --fetching->net->in_flight_;
  if (status == UCS_OK) fetching->net->finished_.push_back(std::move(fetching->message));
}

bool Net::progress() {
  if (aborted_) return false;
  delivered_ = false;
  bool moved = worker_->progress() != 0;
  moved |= delivered_ || !finished_.empty();
  settle();
  return moved;
}

void Net::settle() {
  if (rendezvous_.empty() && finished_.empty() && failed_.empty()) return;
  for (const auto& arrived : std::exchange(rendezvous_, {})) {
    if (auto message = mailbox_.take_posted(arrived.from, arrived.key, arrived.bytes)) {
      fetch(arrived.descriptor, std::move(message));
      continue;
    }
    Arrival arrival;
    arrival.bytes = arrived.bytes;
    arrival.fetch = [this, descriptor = arrived.descriptor](MessagePtr message) {
      fetch(descriptor, std::move(message));
    };
    mailbox_.keep(arrived.from, arrived.key, std::move(arrival));
  }
  while (!finished_.empty()) {
    finishing_.swap(finished_);  // finish() may send; both keep their memory
    for (const auto& message : finishing_) message->finish();
    finishing_.clear();
  }
  for (Peer* peer : std::exchange(failed_, {})) {
    close(*peer, true);
    if (on_lost) on_lost(peer->member, peer->why);
  }
}

bool Net::arm() {
  if (aborted_) return true;
  return finished_.empty() && failed_.empty() && rendezvous_.empty() && worker_->arm();
}

void Net::spread(Breakage breakage, Nanos grace) {
  if (aborted_) return;
  const bool dead = breakage.cause == Breakage::Cause::died || breakage.cause == Breakage::Cause::unreachable;
  const auto listens = [&](const std::unique_ptr<Peer>& peer) {
    return peer && !peer->failed && !peer->left && !(dead && peer->member == breakage.member);
  };
  for (const auto& peer : peers_)
    if (listens(peer)) transmit(*peer, Kind::broken, nullptr, breakage.pack());
  const auto waits = [&] {
    return std::any_of(peers_.begin(), peers_.end(), [&](const auto& peer) { return listens(peer) && !peer->knows; });
  };
  progress_until([&] { return !waits(); }, SystemClock::read() + grace);
}

bool Net::progress_until(Condition reached, Nanos until) {
  while (!reached()) {
    const Nanos left = until - SystemClock::read();
    if (left <= 0) return false;
    if (progress() || !arm()) continue;
    pollfd event{worker_->event_fd(), POLLIN, 0};
    ::poll(&event, 1, static_cast<int>(std::min<Nanos>(left, kSecond) / kMillisecond + 1));
  }
  return true;
}

Status Net::greet(std::span<const std::uint32_t> members, Nanos timeout) {
  for (const auto member : members) transmit(*peers_[member], Kind::hello, nullptr, 0);
  const Peer* waited = nullptr;
  const auto met = [&] {
    for (const auto member : members) {
      waited = peers_[member].get();
      if (waited->failed || !waited->greeted) return waited->failed;
    }
    return in_flight_ == 0;
  };
  const Nanos now = SystemClock::read();
  const bool ended = progress_until(met, timeout > kForever - now ? kForever : now + timeout);
  if (!ended || (waited != nullptr && waited->failed))
    return make_error(ended ? Errc::peer_lost : Errc::timeout,
                      fmt::format("no UCX connection with member {}: {}", waited->member,
                                  ended ? waited->why : "it did not answer in time"));
  return {};
}

void Net::abort() {
  if (std::exchange(aborted_, true)) return;
  on_lost = nullptr;
  for (const auto& arrived : std::exchange(rendezvous_, {})) ucp_am_data_release(worker_->handle(), arrived.descriptor);
  for (const auto& peer : peers_)
    if (peer) close(*peer, true);
  const auto held = [this] {
    for (auto*& request : closing_)
      if (request != nullptr && ucp_request_check_status(request) != UCS_INPROGRESS)
        ucp_request_free(std::exchange(request, nullptr));
    std::erase(closing_, nullptr);
    return !closing_.empty() || in_flight_ != 0;
  };
  const Nanos until = SystemClock::read() + kReleaseMax;
  while (held() && SystemClock::read() < until) worker_->progress();
  if (held()) TRIREME_LOG(warning, "UCX did not give back {} transfers of a broken group", in_flight_);
  finished_.clear();
  failed_.clear();
}

void Net::leave(Nanos grace) {
  if (aborted_) return;
  for (const auto& peer : peers_)
    if (peer && peer->endpoint != nullptr && !peer->failed) transmit(*peer, Kind::leave, nullptr, 0);
  const auto waits = [this] {
    return std::any_of(peers_.begin(), peers_.end(), [](const auto& peer) {
      return peer && peer->endpoint != nullptr && !peer->failed && !peer->left;
    });
  };
  on_lost = nullptr;
  progress_until([&] { return !waits() && in_flight_ == 0; }, SystemClock::read() + grace);
}

}  // namespace trireme::ml
