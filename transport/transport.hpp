#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/ids.hpp"
#include "base/result.hpp"
#include "base/wire.hpp"

namespace trireme::transport {

/// Where a backend delivers. Called from poll() only.
class Sink {
 public:
  virtual ~Sink() = default;
  /// `frame` is valid during the call only. The bytes come from a peer: nothing in them is to be trusted.
  virtual void on_frame(Rank from, BytesView frame) = 0;
  /// The peer is dead or its connection broke for good. Called once per peer; no frame of it follows.
  virtual void on_lost(Rank peer, std::string_view why) = 0;
  /// The peer closed in an orderly way: all its frames were delivered, none follows, it cannot be reached any more.
  /// Called instead of on_lost.
  virtual void on_left(Rank peer) { (void)peer; }
};

enum class SendStatus : std::uint8_t { sent, would_block, peer_lost };

/// Runs exactly once, from poll() (or from get() itself when the answer is known at once).
using GetDone = std::function<void(Status)>;

/// Moves frames and memory between this rank and some of its peers.
///
/// A frame is up to frame_bytes_max() bytes; whole, at most once, and never lost while both ends live. Order is not
/// promised: Router numbers frames and restores order, so that every backend (and the simulation, which reorders
/// on purpose) stays simple.
///
/// Threading: every method only by the holder of the rank's progress token (one thread at a time, any thread),
///            except where it says otherwise.
/// Errors:    never throws. `would_block` = no credit: retry after the next poll(). `peer_lost` is final.
/// Units:     bytes; Nanos.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string_view name() const = 0;  ///< "shm", "ucx", "sim"
  /// One line for people: transport and device in use towards `peer`, and why.
  virtual std::string describe(Rank peer) const = 0;
  virtual std::size_t frame_bytes_max() const = 0;

  /// What other ranks need to reach this one; exchanged once through Bootstrap. Call after expose().
  virtual Bytes address() const = 0;
  /// Makes `memory` readable by peers through get(), offsets counted from its start. At most once, before address().
  /// `memory_fd` is the memfd that `memory` maps from its offset 0, or -1; peers on the node map it. The caller keeps
  /// both valid until the backend is gone.
  virtual Status expose(std::span<std::byte> memory, int memory_fd) = 0;
  /// Makes `peer` reachable. Cheap: real connections are opened by the first send() or get().
  /// An error here (say, a peer of the same node whose memory cannot be mapped) lets the caller try another backend.
  virtual Status add_peer(Rank peer, BytesView address) = 0;

  /// Copies the frame out before it returns `sent`.
  virtual SendStatus send(Rank to, BytesView frame) = 0;
  /// One-sided read of `into.size()` bytes at `offset` of the peer's exposed memory. `into` must lie in exposed
  /// memory of this rank or any other memory that stays valid until `done` has run. Any size; the backend splits.
  virtual void get(Rank from, std::uint64_t offset, std::span<std::byte> into, GetDone done) = 0;
  /// Delivers what has arrived and completes what has finished. Returns the number of events, 0 when idle.
  /// May be entered again from a Sink callback or a GetDone through send() and get(); never through poll() or forget().
  virtual int poll(Sink& sink) = 0;

  /// A descriptor for epoll, readable after an event happens while armed; -1 where there is none (sim).
  /// Events are arrivals, completions, losses, and new credit after send() answered would_block.
  virtual int event_fd() const = 0;
  /// Asks for event_fd() to become readable with the next event. False when events wait already: poll() first.
  virtual bool arm() = 0;
  /// Back to polling: peers need not ring any more. Cheap; also clears event_fd().
  virtual void disarm() = 0;

  /// Drops everything towards `peer`: it was declared dead elsewhere. Pending gets fail with peer_lost;
  /// on_lost is not called for it.
  virtual void forget(Rank peer) = 0;
  /// Tells peers that this rank leaves in an orderly way, flushes what was sent (for at most `grace`), and closes.
  virtual void close(std::int64_t grace_ns) = 0;
};

}  // namespace trireme::transport
