#include "transport/router.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.hpp"
#include "transport/router/frame.hpp"
#include "transport/router/inbound.hpp"
#include "transport/router/peer_table.hpp"

namespace trireme::transport {

struct Router::Impl {
  Impl(Rank self_rank, std::uint32_t ranks) : self(self_rank), size(ranks) {}
  ~Impl();

  Peer& peer(Rank rank) {
    TRIREME_CHECK(rank < size, "a message goes to a rank of the job");
    Peer* found = peers.find(rank);
    return found != nullptr ? *found : add_peer(rank);
  }
  Peer& add_peer(Rank rank) {
    Peer& peer = peers.add(rank);
    peer.backend = fallback;
    return peer;
  }

  void send(Peer& to, BytesView message);
  void send_fragments(Peer& to, BytesView message);
  Frame* open_frame(Peer& to);
  void seal(Peer& to);
  void flush();
  int retry();
  void drop_outgoing(Peer& peer);
  int deliver_own(MessageHandler& handler);
  void run_forgets();

  const Rank self;
  const std::uint32_t size;
  std::vector<std::unique_ptr<Backend>> backends;
  Backend* fallback = nullptr;
  PeerTable peers;
  FramePool pool;
  std::vector<Peer*> dirty;    // have an open frame and credit
  std::vector<Peer*> blocked;  // wait for credit
  std::vector<Peer*> to_forget;
  bool polling = false;
  Bytes own, own_delivered;  // messages to oneself: u32 size, bytes
};

namespace {

/// Turns frames into messages. Lives during one poll().
class Delivery final : public Sink {
 public:
  Delivery(PeerTable& peers, std::vector<Peer*>& to_forget, std::uint32_t size, Backend* fallback,
           MessageHandler& handler)
      : peers_(peers), to_forget_(to_forget), size_(size), fallback_(fallback), handler_(handler) {}

  void on_frame(Rank from, BytesView frame) override {
    Peer* peer = find(from);
    if (peer == nullptr || !peer->alive) return;
    ++peer->stats.frames_received;
    peer->stats.bytes_received += frame.size();
    if (frame.size() < kFrameHeaderBytes) return reject(*peer, fmt::format("it has {} bytes", frame.size()));
    std::uint32_t number = 0;
    std::memcpy(&number, frame.data(), sizeof number);
    const std::uint32_t ahead = number - peer->number_in;
    if (ahead == 0) [[likely]] {
      consume(*peer, frame.subspan(kFrameHeaderBytes));
      if (peer->inbound != nullptr) [[unlikely]]
        consume_kept(*peer);
      return;
    }
    if (peer->inbound == nullptr) peer->inbound = std::make_unique<Inbound>();
    if (auto wrong = peer->inbound->keep(number, ahead, frame); !wrong.empty()) reject(*peer, wrong);
  }

  void on_lost(Rank rank, std::string_view why) override {
    Peer* peer = find(rank);
    if (peer == nullptr || !peer->alive) return;
    end(*peer);
    handler_.on_lost(rank, why);
  }

  void on_left(Rank rank) override {
    Peer* peer = find(rank);
    if (peer == nullptr || !peer->alive) return;
    end(*peer);
    handler_.on_left(rank);
  }

 private:
  Peer* find(Rank rank) {
    if (Peer* peer = peers_.find(rank)) return peer;
    if (rank >= size_) return nullptr;
    Peer& peer = peers_.add(rank);
    peer.backend = fallback_;
    return &peer;
  }

  void consume_kept(Peer& peer) {
    while (peer.alive && peer.inbound->has(peer.number_in)) {
      const Bytes frame = peer.inbound->take(peer.number_in);
      consume(peer, BytesView(frame).subspan(kFrameHeaderBytes));
    }
  }

  void consume(Peer& peer, BytesView records) {
    ++peer.number_in;
    Reader in(records);
    while (in.left() != 0) {
      const auto head = in.varint();
      const auto kind = static_cast<RecordKind>(head & 3U);
      const auto total = kind == RecordKind::first ? in.varint() : 0;
      const BytesView bytes = in.raw(head >> 2U);
      if (!in.ok()) return reject(peer, "a record reaches over its end");
      if (kind == RecordKind::whole && (peer.inbound == nullptr || !peer.inbound->assembling())) [[likely]] {
        deliver(peer, bytes);
      } else {
        assemble(peer, kind, total, bytes);
      }
      if (!peer.alive) return;
    }
  }

  void assemble(Peer& peer, RecordKind kind, std::uint64_t total, BytesView bytes) {
    if (peer.inbound == nullptr) peer.inbound = std::make_unique<Inbound>();
    Inbound& inbound = *peer.inbound;
    std::string wrong;
    if (kind == RecordKind::first) {
      wrong = inbound.begin(total, bytes);
    } else if (kind == RecordKind::more) {
      wrong = inbound.append(bytes);
    } else if (kind == RecordKind::whole) {
      wrong = "a message stands between the fragments of another";
    } else {
      wrong = "a record is of no known kind";
    }
    if (!wrong.empty()) return reject(peer, wrong);
    if (!inbound.complete()) return;
    const Bytes message = inbound.take_message();
    deliver(peer, message);
  }

  void deliver(Peer& peer, BytesView message) {
    ++peer.stats.messages_received;
    if (const Status status = handler_.on_message(peer.rank, message); !status.ok() && peer.alive) [[unlikely]]
      lose(peer, fmt::format("message of {} bytes from rank {} makes no sense: {}", message.size(), peer.rank,
                             status.error().message));
  }

  void reject(Peer& peer, std::string_view wrong) {
    lose(peer, fmt::format("malformed frame {} from rank {}: {}; its connection was closed", peer.stats.frames_received,
                           peer.rank, wrong));
  }

  void lose(Peer& peer, const std::string& why) {
    TRIREME_LOG(error, "{}", why);
    end(peer);
    to_forget_.push_back(&peer);
    handler_.on_lost(peer.rank, why);
  }

  // What waits towards the peer is freed by the router after the poll: a send to it may be on the stack.
  void end(Peer& peer) {
    peer.alive = false;
    peer.inbound.reset();
    ended.push_back(&peer);
  }

  PeerTable& peers_;
  std::vector<Peer*>& to_forget_;
  std::uint32_t size_;
  Backend* fallback_;
  MessageHandler& handler_;

 public:
  std::vector<Peer*> ended;
};

/// After close() began: nobody is there to hear.
class Nobody final : public MessageHandler {
 public:
  Status on_message(Rank, BytesView) override { return {}; }
  void on_lost(Rank, std::string_view) override {}
};

}  // namespace

Router::Impl::~Impl() {
  for (const auto& peer : peers.all()) drop_outgoing(*peer);
}

Frame* Router::Impl::open_frame(Peer& to) {
  if (to.open != nullptr) return to.open;
  to.open = pool.take();
  const std::uint32_t number = to.number_out++;
  std::memcpy(to.open->data(), &number, sizeof number);
  to.open->size = kFrameHeaderBytes;
  if (!to.dirty) {
    to.dirty = true;
    dirty.push_back(&to);
  }
  return to.open;
}

void Router::Impl::send(Peer& to, BytesView message) {
  if (!to.alive) return;
  if (to.backend == nullptr) [[unlikely]] {
    TRIREME_LOG(error, "a message to rank {} was dropped: no transport reaches it", to.rank);
    return;
  }
  ++to.stats.messages_sent;
  const std::size_t frame_max = to.backend->frame_bytes_max();
  const std::size_t need = kRecordHeaderBytesMax + message.size();
  Frame* frame = open_frame(to);
  if (frame->size + need > frame_max) [[unlikely]] {
    if (frame->size > kFrameHeaderBytes) {
      seal(to);
      frame = open_frame(to);
    }
    if (frame->size + need > frame_max) return send_fragments(to, message);
  }
  frame = to.open = FramePool::reserve(frame, frame->size + need, frame_max);
  frame->put_varint(message.size() << 2U | static_cast<unsigned>(RecordKind::whole));
  frame->put(message);
}

void Router::Impl::send_fragments(Peer& to, BytesView message) {
  const std::size_t frame_max = to.backend->frame_bytes_max();
  const std::size_t total = message.size();
  auto kind = RecordKind::first;
  while (!message.empty()) {
    Frame* frame = open_frame(to);
    frame = to.open = FramePool::reserve(frame, frame_max, frame_max);
    const std::size_t piece = std::min(message.size(), frame_max - frame->size - kRecordHeaderBytesMax);
    frame->put_varint(piece << 2U | static_cast<unsigned>(kind));
    if (kind == RecordKind::first) frame->put_varint(total);
    frame->put(message.first(piece));
    message = message.subspan(piece);
    kind = RecordKind::more;
    if (!message.empty()) seal(to);
  }
}

/// Hands the open frame on, or puts it behind those that wait for credit.
void Router::Impl::seal(Peer& to) {
  Frame* frame = std::exchange(to.open, nullptr);
  if (frame == nullptr) return;
  if (!to.blocked) {
    const SendStatus status = to.backend->send(to.rank, frame->view());
    if (status != SendStatus::would_block) [[likely]] {
      if (status == SendStatus::sent) {
        ++to.stats.frames_sent;
        to.stats.bytes_sent += frame->size;
      }
      // peer_lost: dropped here, the backend reports the loss from its next poll.
      pool.give(frame);
      return;
    }
    to.blocked = true;
    blocked.push_back(&to);
  }
  to.waiting.push(frame);
}

void Router::Impl::flush() {
  // A send from inside a backend may add to the list.
  for (std::size_t i = 0; i < dirty.size(); ++i) {
    Peer& to = *dirty[i];
    to.dirty = false;
    // Without credit the open frame stays open: later messages share it.
    if (!to.blocked) seal(to);
  }
  dirty.clear();
}

int Router::Impl::retry() {
  int sent = 0;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < blocked.size(); ++i) {
    Peer& to = *blocked[i];
    while (!to.waiting.empty()) {
      Frame* frame = to.waiting.front();
      const SendStatus status = to.alive ? to.backend->send(to.rank, frame->view()) : SendStatus::peer_lost;
      if (status == SendStatus::would_block) break;
      if (status == SendStatus::sent) {
        ++sent;
        ++to.stats.frames_sent;
        to.stats.bytes_sent += frame->size;
      }
      pool.give(to.waiting.pop());
    }
    to.blocked = !to.waiting.empty();
    if (to.blocked) {
      blocked[kept++] = &to;
    } else if (to.open != nullptr && !to.dirty) {
      to.dirty = true;
      dirty.push_back(&to);
    }
  }
  blocked.resize(kept);
  return sent;
}

void Router::Impl::drop_outgoing(Peer& peer) {
  while (!peer.waiting.empty()) pool.give(peer.waiting.pop());
  if (peer.open != nullptr) pool.give(std::exchange(peer.open, nullptr));
}

int Router::Impl::deliver_own(MessageHandler& handler) {
  if (own.empty()) return 0;
  own.swap(own_delivered);  // what the handler sends to itself comes with the next poll
  Peer& me = peer(self);
  int count = 0;
  for (std::size_t at = 0; at < own_delivered.size();) {
    std::uint32_t bytes = 0;
    std::memcpy(&bytes, own_delivered.data() + at, sizeof bytes);
    at += sizeof bytes;
    ++me.stats.messages_received;
    ++count;
    const Status status = handler.on_message(self, BytesView(own_delivered).subspan(at, bytes));
    TRIREME_CHECK(status.ok(), status.error().message);
    at += bytes;
  }
  constexpr std::size_t kKeepMax = 64U << 10U;
  if (own_delivered.capacity() > kKeepMax) {
    Bytes().swap(own_delivered);
  } else {
    own_delivered.clear();
  }
  return count;
}

void Router::Impl::run_forgets() {
  while (!to_forget.empty()) {
    Peer& peer = *to_forget.back();
    to_forget.pop_back();
    drop_outgoing(peer);
    if (peer.backend != nullptr) peer.backend->forget(peer.rank);
  }
}

Router::Router(Rank self, std::uint32_t size) : impl_(std::make_unique<Impl>(self, size)) {
  TRIREME_CHECK(self < size, "a rank is below the number of ranks");
}
Router::~Router() = default;

void Router::add_backend(std::unique_ptr<Backend> backend, const std::vector<Rank>& peers) {
  TRIREME_CHECK(backend->frame_bytes_max() > kFrameHeaderBytes + 2 * kRecordHeaderBytesMax, "a frame holds a record");
  for (const Rank rank : peers) impl_->peer(rank).backend = backend.get();
  impl_->backends.push_back(std::move(backend));
}

void Router::add_default_backend(std::unique_ptr<Backend> backend) {
  impl_->fallback = backend.get();
  for (const auto& peer : impl_->peers.all())
    if (peer->backend == nullptr) peer->backend = impl_->fallback;
  add_backend(std::move(backend), {});
}

Rank Router::self() const { return impl_->self; }
std::uint32_t Router::size() const { return impl_->size; }

void Router::send(Rank to, BytesView message) {
  TRIREME_CHECK(message.size() <= kMessageBytesMax, "a message is at most Router::kMessageBytesMax bytes");
  Impl& r = *impl_;
  Peer& peer = r.peer(to);
  if (to != r.self) [[likely]]
    return r.send(peer, message);
  ++peer.stats.messages_sent;
  const auto bytes = static_cast<std::uint32_t>(message.size());
  const auto head = std::as_bytes(std::span(&bytes, 1));
  r.own.insert(r.own.end(), head.begin(), head.end());
  r.own.insert(r.own.end(), message.begin(), message.end());
}

void Router::flush() {
  if (!impl_->dirty.empty()) impl_->flush();
}

void Router::get(Rank from, std::uint64_t offset, std::span<std::byte> into, GetDone done) {
  Peer& peer = impl_->peer(from);
  if (!peer.alive) return done(make_error(Errc::peer_lost, fmt::format("get from rank {}: it is lost", from)));
  if (peer.backend == nullptr)
    return done(make_error(Errc::not_found, fmt::format("get from rank {}: no transport reaches it", from)));
  peer.stats.get_bytes += into.size();
  peer.backend->get(from, offset, into, std::move(done));
}

int Router::poll(MessageHandler& handler) {
  Impl& r = *impl_;
  TRIREME_DCHECK(!r.polling, "Router::poll() is not entered again from a handler");
  r.polling = true;
  int events = r.blocked.empty() ? 0 : r.retry();
  events += r.deliver_own(handler);
  Delivery delivery(r.peers, r.to_forget, r.size, r.fallback, handler);
  for (const auto& backend : r.backends) events += backend->poll(delivery);
  r.polling = false;
  for (Peer* peer : delivery.ended) r.drop_outgoing(*peer);
  if (!r.to_forget.empty()) r.run_forgets();
  flush();
  return events;
}

std::vector<int> Router::event_fds() const {
  std::vector<int> fds;
  for (const auto& backend : impl_->backends)
    if (const int fd = backend->event_fd(); fd >= 0) fds.push_back(fd);
  return fds;
}

bool Router::arm() {
  Impl& r = *impl_;
  flush();
  bool armed = r.own.empty();
  for (std::size_t i = 0; armed && i < r.backends.size(); ++i) armed = r.backends[i]->arm();
  // Credit may have come back before the backend was armed; later credit is an event.
  if (armed && !r.blocked.empty() && r.retry() > 0) armed = false;
  if (!armed) disarm();
  return armed;
}

void Router::disarm() {
  for (const auto& backend : impl_->backends) backend->disarm();
}

std::size_t Router::backlog(Rank to) const {
  const Peer* peer = impl_->peers.find(to);
  if (peer == nullptr || !peer->blocked) return 0;
  return peer->waiting.bytes() + (peer->open != nullptr ? peer->open->size : 0);
}

bool Router::alive(Rank peer) const {
  const Peer* found = impl_->peers.find(peer);
  return peer < impl_->size && (found == nullptr || found->alive);
}

void Router::forget(Rank rank) {
  Impl& r = *impl_;
  Peer& peer = r.peer(rank);
  if (!peer.alive || rank == r.self) return;
  peer.alive = false;
  peer.inbound.reset();
  r.to_forget.push_back(&peer);
  if (!r.polling) r.run_forgets();
}

void Router::admit(Rank rank, const Backend& backend) {
  Impl& r = *impl_;
  Peer& peer = r.peer(rank);
  TRIREME_CHECK(!peer.alive && peer.number_in == 0 && peer.number_out == 0, "a seat is taken once");
  const auto own = std::find_if(r.backends.begin(), r.backends.end(),
                                [&backend](const auto& candidate) { return candidate.get() == &backend; });
  TRIREME_CHECK(own != r.backends.end(), "the backend is one of this router's");
  peer.backend = own->get();
  peer.alive = true;
}

void Router::close(std::int64_t grace_ns) {
  Impl& r = *impl_;
  const Nanos deadline = SystemClock::read() + grace_ns;
  Nobody nobody;
  flush();
  while (!r.blocked.empty() && SystemClock::read() < deadline) poll(nobody);
  for (const auto& backend : r.backends) backend->close(std::max<Nanos>(0, deadline - SystemClock::read()));
}

std::string Router::describe(Rank peer) const {
  if (peer == impl_->self) return "self";
  const Peer* found = impl_->peers.find(peer);
  const Backend* backend = found != nullptr ? found->backend : impl_->fallback;
  if (backend == nullptr) return "none: no transport reaches it";
  return fmt::format("{}: {}", backend->name(), backend->describe(peer));
}

const PeerStats& Router::stats(Rank peer) const {
  static const PeerStats kNone;
  const Peer* found = impl_->peers.find(peer);
  return found != nullptr ? found->stats : kNone;
}

}  // namespace trireme::transport
