#include "transport/ucx/core.hpp"

#include <poll.h>

#include <algorithm>
#include <random>

#include "base/clock.hpp"
#include "transport/ucx/devices.hpp"

namespace trireme::transport::ucx {
namespace {

// How long UCX may take to give back what it holds once all endpoints are closed by force. It does so at once; the
// limit only keeps a fault in a driver from hanging the end of the job.
constexpr Nanos kReleaseMax = kSecond;

std::uint64_t draw_token() {
  std::random_device random;
  return (std::uint64_t{random()} << 32U) | random();
}

}  // namespace

Core::Core(Rank self, std::uint32_t size, std::unique_ptr<Worker> worker)
    : self_(self),
      size_(size),
      token_(draw_token()),
      worker_(std::move(worker)),
      rdma_(rdma_devices()),
      present_(size),
      slots_(worker_->fragment_bytes_max()) {}

Core::~Core() { close(0); }

int Core::poll(Sink& sink) {
  if (closing_) return 0;
  sink_ = &sink;
  frames_delivered_ = 0;
  int events = static_cast<int>(worker_->progress());
  events = std::max(events, frames_delivered_);
  events += settle(&sink);
  sink_ = nullptr;
  return events;
}

int Core::settle(Sink* sink) {
  int events = 0;
  for (Peer* peer : std::exchange(greeted_, {})) {
    if (peer->state != Peer::State::alive || !connect(*peer)) continue;
    if (peer->hello_received) answer_hello(*peer);
    check_lanes(*peer);
  }
  std::erase_if(shaking_, [this](Peer* peer) { return advance_handshake(*peer); });
  for (Peer* peer : std::exchange(leaving_, {})) {
    if (peer->state != Peer::State::alive) continue;
    ++events;
    send_control(*peer, ControlKind::leave_seen);
    peer->state = Peer::State::left;
    peer->settled = true;
    end_pulls(*peer);
    if (sink != nullptr) sink->on_left(peer->rank);
  }
  for (Peer* peer : std::exchange(failed_, {})) {
    const bool news = peer->state == Peer::State::alive;
    if (news) peer->state = Peer::State::lost;
    peer->settled = true;
    close_endpoint(*peer);
    end_pulls(*peer);
    if (!news) continue;
    ++events;
    if (sink != nullptr) sink->on_lost(peer->rank, peer->failure);
  }
  for (Peer* peer : std::exchange(active_, {})) {
    peer->active = false;
    if (peer->state == Peer::State::alive)
      issue(*peer);
    else if (peer->chunks_in_flight == 0)
      release_key(*peer);
  }
  for (Peer* peer : std::exchange(serving_, {})) {
    peer->serving = serve(*peer);
    if (peer->serving) serving_.push_back(peer);
  }
  return events + run_finished();
}

bool Core::arm() {
  if (closing_) return true;
  const bool quiet = failed_.empty() && leaving_.empty() && greeted_.empty() && active_.empty() && serving_.empty() &&
                     finished_.empty();
  return quiet && worker_->arm();
}

bool Core::flushed() const {
  return std::all_of(peers_.begin(), peers_.end(), [](const auto& peer) {
    return peer->endpoint == nullptr || (peer->settled && peer->sends_in_flight == 0);
  });
}

void Core::wait_for_events(Nanos until) {
  if (!worker_->arm()) return;
  const auto left = until - SystemClock::read();
  if (left <= 0) return;
  pollfd event{worker_->event_fd(), POLLIN, 0};
  ::poll(&event, 1, static_cast<int>(std::min<Nanos>(left / kMillisecond + 1, kSecond / kMillisecond)));
}

void Core::announce_leave() {
  for (const auto& peer : peers_)
    if (peer->state == Peer::State::alive && peer->endpoint != nullptr && !std::exchange(peer->leave_sent, true))
      send_control(*peer, ControlKind::leave);
}

void Core::close(std::int64_t grace_ns) {
  if (std::exchange(closing_, true)) return;
  const auto start = SystemClock::read();
  const auto deadline = grace_ns > kForever - start ? kForever : start + grace_ns;
  // A rank that never talked to this one has no connection to wait for.
  announce_leave();
  // Closing a TCP connection with unread data in it throws away what is still under way to the peer, so wait until
  // each has said that it has everything (or leaves, or is gone).
  while (!flushed() && SystemClock::read() < deadline) {
    if (worker_->progress() == 0) wait_for_events(deadline);
    settle(nullptr);
    announce_leave();  // to those that have made contact meanwhile
  }

  for (const auto& peer : peers_) {
    close_endpoint(*peer);
    if (peer->state == Peer::State::alive) peer->state = Peer::State::lost;
    end_pulls(*peer);
  }
  const auto held = [this] {
    for (auto& request : closing_requests_)
      if (request != nullptr && ucp_request_check_status(request) != UCS_INPROGRESS)
        ucp_request_free(std::exchange(request, nullptr));
    std::erase(closing_requests_, nullptr);
    return !closing_requests_.empty() || std::any_of(peers_.begin(), peers_.end(), [](const auto& peer) {
      return peer->sends_in_flight != 0 || peer->chunks_in_flight != 0 || peer->pieces_in_flight != 0;
    });
  };
  const auto release_deadline = SystemClock::read() + kReleaseMax;
  while (held() && SystemClock::read() < release_deadline) worker_->progress();
  settle(nullptr);
  for (const auto& peer : peers_) release_key(*peer);
  exposed_.reset();
  worker_.reset();
}

}  // namespace trireme::transport::ucx
