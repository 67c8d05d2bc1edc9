#include "transport/shm/backend.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "transport/shm/peer.hpp"
#include "transport/shm/ring.hpp"
#include "transport/shm/segment.hpp"

namespace trireme::transport {
namespace {

/// Smaller than a ring allows, so that several are under way while one is copied out.
constexpr std::size_t kFrameBytesMax = 16U << 10;
/// Frames taken from one ring before the others get their turn.
constexpr int kBurst = 64;
/// A ring that had frames is looked at directly for this many polls more; meanwhile its sender need not touch the
/// bitmap.
constexpr std::uint32_t kIdlePollsMax = 2'000;
/// While polls follow each other, deaths are looked for (a system call) this often only.
constexpr Nanos kDeathsEvery = 1 * kMillisecond;
constexpr std::uint64_t kBell = UINT64_MAX;

class Node final : public ShmBackend {
 public:
  Node(Rank self, Segment segment, std::size_t frame_max)
      : self_(self), segment_(std::move(segment)), frame_max_(frame_max) {}
  ~Node() override { close(0); }

  Status open() {
    int ends[2];
    if (::pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return failed("pipe2 for the doorbell");
    bell_read_ = Fd(ends[0]);
    bell_write_ = Fd(ends[1]);
    epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll_) return failed("epoll_create1");
    return watch(bell_read_.get(), kBell);
  }

  std::string_view name() const override { return "shm"; }
  std::size_t frame_bytes_max() const override { return frame_max_; }
  int event_fd() const override { return epoll_.get(); }

  std::string describe(Rank rank) const override {
    const ShmPeer* peer = find(rank);
    if (peer == nullptr) return "not a rank of this node";
    return fmt::format("shared memory of process {}, ring of {} KiB{}", peer->address.pid,
                       peer->out.ring().size() >> 10, peer->gone ? ", gone" : "");
  }

  Bytes address() const override {
    return ShmAddress{::getpid(), segment_.fd(), bell_read_.get(), exposed_fd_, exposed_bytes_, segment_.head().nonce}
        .encode();
  }

  Status expose(std::span<std::byte> memory, int memory_fd) override {
    TRIREME_CHECK(exposed_bytes_ == 0, "memory is exposed once");
    exposed_fd_ = memory_fd;
    exposed_bytes_ = memory.size();
    return {};
  }

  Status add_peer(Rank rank, BytesView address) override;
  SendStatus send(Rank to, BytesView frame) override;
  void get(Rank from, std::uint64_t offset, std::span<std::byte> into, GetDone done) override;
  std::span<const std::byte> peer_memory(Rank rank) override;
  PeerFile peer_file(Rank rank) override {
    const ShmPeer* peer = find(rank);
    if (peer == nullptr) return {};
    return {peer->address.pid, peer->address.memory_fd, peer->address.memory_bytes};
  }
  int poll(Sink& sink) override;
  bool arm() override;
  void disarm() override;
  void forget(Rank rank) override;
  void close(std::int64_t grace_ns) override;

 private:
  static Error failed(std::string_view what) {
    return make_error(Errc::io, fmt::format("shm: {}: {}", what, std::strerror(errno)));
  }
  Status watch(int fd, std::uint64_t tag) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = tag;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return failed("epoll_ctl");
    return {};
  }

  ShmPeer* find(Rank rank) const { return rank < index_.size() ? index_[rank] : nullptr; }
  std::atomic<std::uint64_t>& pending(std::uint32_t slot) { return segment_.head().pending[slot / 64]; }
  static std::uint64_t bit(std::uint32_t slot) { return std::uint64_t{1} << (slot % 64); }

  void signal(ShmPeer& peer);
  bool attach(std::uint32_t slot);
  void heat(ShmPeer& peer);
  int drain(ShmPeer& peer, Sink& sink);
  bool cool(ShmPeer& peer);
  int visit(ShmPeer& peer, Sink& sink);
  // Before the last look into its ring: what it sent before it left is then seen. Pairs with the store in close().
  static bool left(const ShmPeer& peer) { return peer.out.head().closed.load(std::memory_order_seq_cst) != 0; }
  int slot_of(Rank sender) const;
  int look_for_deaths(Sink& sink);
  int end(ShmPeer& peer, Sink& sink, std::string_view why);
  void free_slot(ShmPeer& peer);

  const Rank self_;
  Segment segment_;
  const std::size_t frame_max_;
  Fd bell_read_, bell_write_, epoll_;
  int exposed_fd_ = -1;
  std::uint64_t exposed_bytes_ = 0;

  std::vector<std::unique_ptr<ShmPeer>> peers_;
  std::vector<ShmPeer*> index_;                // by rank
  std::vector<ShmPeer*> hot_;                  // rings looked at by every poll; their bits stay set
  std::vector<ShmPeer*> broken_;               // a send found their ring corrupt: reported by the next poll
  std::uint64_t masked_[kSlotsMax / 64] = {};  // bits that poll() passes over: hot, of strangers, of the forgotten

  std::uint32_t polls_ = 0;
  Nanos deaths_seen_ = 0;
  bool armed_ = false;
  bool woken_ = false;
  int bells_owed_ = 0;  // taken by a sender, byte not read yet
  bool closed_ = false;
};

Status Node::add_peer(Rank rank, BytesView bytes) {
  TRIREME_CHECK(find(rank) == nullptr, "a peer is added once");
  auto address = ShmAddress::decode(bytes);
  if (!address.ok()) return address.error();
  auto peer = std::make_unique<ShmPeer>();
  peer->rank = rank;
  peer->address = address.value();
  // The pidfd first: if the segment is the right one afterwards, the process is.
  peer->pidfd = open_pidfd(peer->address.pid);
  if (!peer->pidfd)
    return failed(
        fmt::format("watching process {} of rank {} by pidfd_open (needs Linux 5.3, and a free file descriptor)",
                    peer->address.pid, rank));
  auto out = PeerSegment::open(self_, rank, peer->address.pid, peer->address.segment_fd, peer->address.nonce);
  if (!out.ok()) return out.error();
  peer->out = std::move(out).value();
  peer->bell = open_of_process(peer->address.pid, peer->address.bell_fd, O_RDWR | O_NONBLOCK);
  if (!peer->bell) return failed(fmt::format("opening the doorbell of rank {}", rank));
  peer->producer = RingProducer(peer->out.ring());
  peer->out_pending = &peer->out.head().pending[peer->out.slot() / 64];
  peer->out_bit = bit(peer->out.slot());
  if (Status watched = watch(peer->pidfd.get(), rank); !watched.ok()) return watched;

  if (rank >= index_.size()) index_.resize(rank + 1, nullptr);
  index_[rank] = peer.get();
  peers_.push_back(std::move(peer));
  // It may have sent already: then its bit was passed over as a stranger's.
  if (const int slot = slot_of(rank); slot >= 0) attach(static_cast<std::uint32_t>(slot));
  return {};
}

/// Tells the peer that something waits in its ring from this rank, and wakes it when it sleeps.
void Node::signal(ShmPeer& peer) {
  // All sequentially consistent, see SegmentHead: partners are cool() and arm() of the peer.
  if ((peer.out_pending->load(std::memory_order_seq_cst) & peer.out_bit) != 0) [[likely]]
    return;
  peer.out_pending->fetch_or(peer.out_bit, std::memory_order_seq_cst);
  auto& sleeping = peer.out.head().sleeping;
  if (sleeping.load(std::memory_order_seq_cst) == 0 || sleeping.exchange(0, std::memory_order_seq_cst) == 0) return;
  const char one = 1;
  // Cannot fail: this rank holds both ends of the pipe, and a pipe holds more bytes than there are senders.
  [[maybe_unused]] const auto written = ::write(peer.bell.get(), &one, 1);
}

SendStatus Node::send(Rank to, BytesView frame) {
  TRIREME_CHECK(frame.size() <= frame_max_, "a frame is at most frame_bytes_max() bytes");
  ShmPeer* peer = find(to);
  if (peer == nullptr || peer->gone || closed_) [[unlikely]]
    return SendStatus::peer_lost;
  // Pairs with the store in the peer's close(); its on_left comes from poll().
  if (peer->out.head().closed.load(std::memory_order_acquire) != 0) [[unlikely]]
    return SendStatus::peer_lost;
  RingState state = peer->producer.put(frame);
  if (state == RingState::full && !peer->producer.ask_for_room()) state = peer->producer.put(frame);
  if (state == RingState::ready) [[likely]] {
    signal(*peer);
    return SendStatus::sent;
  }
  if (state == RingState::full) return SendStatus::would_block;
  if (!std::exchange(peer->broken, true)) broken_.push_back(peer);
  return SendStatus::peer_lost;
}

void Node::get(Rank from, std::uint64_t offset, std::span<std::byte> into, GetDone done) {
  ShmPeer* peer = find(from);
  if (peer == nullptr || peer->gone)
    return done(make_error(Errc::peer_lost, fmt::format("shm: get from rank {}: it is gone", from)));
  const auto memory = peer_memory(from);
  if (memory.empty() && !into.empty())
    return done(
        make_error(Errc::unavailable,
                   fmt::format("shm: get from rank {}: it exposes no memory, or its memory cannot be mapped", from)));
  if (offset > memory.size() || into.size() > memory.size() - offset)
    return done(make_error(Errc::invalid_argument,
                           fmt::format("shm: get of {} bytes at {} from rank {}, which exposes {} bytes", into.size(),
                                       offset, from, memory.size())));
  if (!into.empty()) std::memcpy(into.data(), memory.data() + offset, into.size());
  done({});
}

std::span<const std::byte> Node::peer_memory(Rank rank) {
  ShmPeer* peer = find(rank);
  if (peer == nullptr) return {};
  if (!peer->memory && !peer->memory_tried) {
    peer->memory_tried = true;
    peer->map_memory();
  }
  return peer->memory.bytes();
}

/// A bit was set: from now on its ring is looked at by every poll. False when nobody known owns it.
bool Node::attach(std::uint32_t slot) {
  masked_[slot / 64] |= bit(slot);
  // Pairs with the claim in PeerSegment::open().
  const std::uint32_t owner = segment_.head().owner[slot].load(std::memory_order_acquire);
  ShmPeer* peer = owner != 0 ? find(owner - 1) : nullptr;
  if (peer == nullptr || peer->gone) return false;
  if (!peer->in.attached()) {
    peer->in = RingConsumer(segment_.ring(slot));
    peer->in_slot = slot;
  }
  if (peer->in_slot != slot) return false;  // a second ring under one name: not looked at
  heat(*peer);
  return true;
}

void Node::heat(ShmPeer& peer) {
  if (std::exchange(peer.hot, true)) return;
  peer.idle_polls = 0;
  hot_.push_back(&peer);
}

int Node::drain(ShmPeer& peer, Sink& sink) {
  int frames = 0;
  while (frames < kBurst) {
    BytesView frame;
    const RingState state = peer.in.look(frame);
    if (state == RingState::empty) break;
    if (state == RingState::corrupt) {
      return frames +
             end(peer, sink, fmt::format("the shared-memory ring of rank {} holds what no sender writes", peer.rank));
    }
    sink.on_frame(peer.rank, frame);
    peer.in.pop();
    ++frames;
  }
  if (frames != 0 && peer.in.room_wanted()) signal(peer);
  return frames;
}

/// Hands the duty to tell back to the sender. False when something came meanwhile: the ring stays hot.
bool Node::cool(ShmPeer& peer) {
  const std::uint32_t slot = peer.in_slot;
  // Clear, then look: partner of the sender's publish or close, then read of the bit.
  pending(slot).fetch_and(~bit(slot), std::memory_order_seq_cst);
  BytesView frame;
  if (left(peer) || peer.in.look(frame) != RingState::empty) {
    pending(slot).fetch_or(bit(slot), std::memory_order_seq_cst);
    return false;
  }
  masked_[slot / 64] &= ~bit(slot);
  peer.hot = false;
  return true;
}

int Node::poll(Sink& sink) {
  if (closed_) return 0;
  int events = 0;
  if (!broken_.empty()) [[unlikely]] {
    for (ShmPeer* peer : std::exchange(broken_, {}))
      if (!peer->gone)
        events += end(*peer, sink, fmt::format("rank {} wrote a read position that cannot be", peer->rank));
  }
  for (std::uint32_t word = 0; word * 64 < segment_.head().slots; ++word) {
    // Acquire: a claim of the slot comes before its first bit; partner is signal().
    std::uint64_t bits = segment_.head().pending[word].load(std::memory_order_acquire) & ~masked_[word];
    for (; bits != 0; bits &= bits - 1) attach(word * 64 + static_cast<std::uint32_t>(__builtin_ctzll(bits)));
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < hot_.size(); ++i) {
    ShmPeer& peer = *hot_[i];
    if (!peer.gone) events += visit(peer, sink);
    if (peer.gone) peer.hot = false;
    if (peer.hot) hot_[kept++] = &peer;
  }
  hot_.resize(kept);
  if (woken_ || ++polls_ % 32 == 0) [[unlikely]] {
    const Nanos now = SystemClock::read();
    if (woken_ || now - deaths_seen_ > kDeathsEvery) {
      deaths_seen_ = now;
      woken_ = false;
      events += look_for_deaths(sink);
    }
  }
  return events;
}

/// One look at a hot ring.
int Node::visit(ShmPeer& peer, Sink& sink) {
  const int frames = drain(peer, sink);
  if (frames != 0) {
    peer.idle_polls = 0;
    return frames;
  }
  BytesView frame;
  if (left(peer) && peer.in.look(frame) == RingState::empty) return end(peer, sink, {});
  if (++peer.idle_polls * hot_.size() > kIdlePollsMax) cool(peer);
  return 0;
}

int Node::look_for_deaths(Sink& sink) {
  epoll_event ready[16];
  const int count = ::epoll_wait(epoll_.get(), ready, 16, 0);
  int events = 0;
  for (int i = 0; i < count; ++i) {
    ShmPeer* peer = ready[i].data.u64 != kBell ? find(static_cast<Rank>(ready[i].data.u64)) : nullptr;
    if (peer == nullptr || !peer->pidfd) continue;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, peer->pidfd.get(), nullptr);
    peer->pidfd.reset();
    if (!peer->gone) {
      // What it sent before it died lies in this rank's memory.
      if (const int slot = slot_of(peer->rank); slot >= 0) attach(static_cast<std::uint32_t>(slot));
      for (int frames = 1; frames != 0 && !peer->gone && peer->in.attached(); events += frames)
        frames = drain(*peer, sink);
      if (!peer->gone)
        events += end(*peer, sink,
                      left(*peer)
                          ? std::string()
                          : fmt::format("process {} of rank {} ended without leaving", peer->address.pid, peer->rank));
    }
    free_slot(*peer);
  }
  return events;
}

/// The peer is reported once and not looked at any more. An empty `why`: it left.
int Node::end(ShmPeer& peer, Sink& sink, std::string_view why) {
  peer.gone = true;
  if (peer.in.attached()) masked_[peer.in_slot / 64] |= bit(peer.in_slot);
  if (why.empty()) {
    sink.on_left(peer.rank);
  } else {
    sink.on_lost(peer.rank, why);
  }
  return 1;
}

/// Its process is dead: nobody writes there any more, the slot can serve another.
void Node::free_slot(ShmPeer& peer) {
  const int found = slot_of(peer.rank);
  if (found < 0) return;
  const auto slot = static_cast<std::uint32_t>(found);
  peer.in = {};
  segment_.wipe_ring(slot);
  pending(slot).fetch_and(~bit(slot), std::memory_order_seq_cst);
  masked_[slot / 64] &= ~bit(slot);
  segment_.head().owner[slot].store(0, std::memory_order_release);  // pairs with the claim in PeerSegment::open()
}

int Node::slot_of(Rank sender) const {
  const SegmentHead& head = segment_.head();
  for (std::uint32_t slot = 0; slot < head.slots; ++slot)
    if (head.owner[slot].load(std::memory_order_acquire) == sender + 1) return static_cast<int>(slot);
  return -1;
}

bool Node::arm() {
  if (closed_) return true;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < hot_.size(); ++i) {
    ShmPeer& peer = *hot_[i];
    if (peer.gone) {
      peer.hot = false;
    } else if (!cool(peer)) {
      hot_[kept++] = &peer;
    }
  }
  hot_.resize(kept);
  if (kept != 0 || !broken_.empty()) return false;
  bool quiet = true;
  SegmentHead& head = segment_.head();
  // Set, then look: partner of the sender's set of its bit, then read of `sleeping`.
  head.sleeping.store(1, std::memory_order_seq_cst);
  armed_ = true;
  for (std::uint32_t word = 0; word * 64 < head.slots; ++word)
    if ((head.pending[word].load(std::memory_order_seq_cst) & ~masked_[word]) != 0) quiet = false;
  if (!quiet) disarm();
  return quiet;
}

void Node::disarm() {
  if (!std::exchange(armed_, false)) return;
  woken_ = true;
  if (segment_.head().sleeping.exchange(0, std::memory_order_seq_cst) == 0) ++bells_owed_;
  while (bells_owed_ > 0) {
    char rung[64];
    const auto bytes = ::read(bell_read_.get(), rung, sizeof rung);
    if (bytes <= 0) return;  // the sender is between taking `sleeping` and ringing: one idle wake-up later
    bells_owed_ -= static_cast<int>(bytes);
  }
}

void Node::forget(Rank rank) {
  ShmPeer* peer = find(rank);
  if (peer == nullptr || peer->gone) return;
  peer->gone = true;  // its pidfd stays watched: the slot is free once the process ended
  if (peer->in.attached()) masked_[peer->in_slot / 64] |= bit(peer->in_slot);
}

void Node::close(std::int64_t grace_ns) {
  if (std::exchange(closed_, true)) return;
  disarm();
  // What was sent lies in the receivers' memory already. Pairs with the loads in send() and left() of peers.
  segment_.head().closed.store(1, std::memory_order_seq_cst);
  for (const auto& peer : peers_)
    if (!peer->gone) signal(*peer);
}

}  // namespace

Result<std::unique_ptr<ShmBackend>> ShmBackend::create(Rank self, ShmOptions options) {
  auto segment = Segment::create(self, options.slots, options.ring_bytes);
  if (!segment.ok()) return segment.error();
  const std::size_t frame_max = std::min(kFrameBytesMax, ring_frame_bytes_max(options.ring_bytes));
  auto made = std::make_unique<Node>(self, std::move(segment).value(), frame_max);
  if (Status opened = made->open(); !opened.ok()) return opened.error();
  return std::unique_ptr<ShmBackend>(std::move(made));
}

}  // namespace trireme::transport
