#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/ids.hpp"
#include "base/wire.hpp"
#include "transport/transport.hpp"

namespace trireme::transport {

/// Where the router delivers messages. Called from Router::poll() only.
class MessageHandler {
 public:
  virtual ~MessageHandler() = default;
  /// `message` is valid during the call only and comes from a peer: decode it with Reader.
  /// An error means the bytes make no sense: the router then closes that peer's connection and reports it lost.
  virtual Status on_message(Rank from, BytesView message) = 0;
  virtual void on_lost(Rank peer, std::string_view why) = 0;
  /// The peer closed in an orderly way; nothing follows from it and nothing reaches it.
  virtual void on_left(Rank peer) { (void)peer; }
};

struct PeerStats {
  std::uint64_t messages_sent = 0, messages_received = 0;
  std::uint64_t frames_sent = 0, frames_received = 0;
  std::uint64_t bytes_sent = 0, bytes_received = 0;  ///< frame bytes
  std::uint64_t get_bytes = 0;
};

/// Messages of any size, in order per pair of ranks, over whatever backend reaches the peer.
///
/// Small messages to one peer share a frame until flush(); a message larger than a frame travels in fragments;
/// frames are numbered, so that order holds over backends that reorder. A message to oneself is delivered by the next
/// poll().
///
/// Threading: only the holder of the rank's progress token.
/// Errors:    never throws; a message to a lost peer is dropped (its loss was or will be reported).
/// Limits:    a message is at most kMessageBytesMax; what exceeds the peer's credit waits here, see backlog().
class Router {
 public:
  /// Larger data travels as objects by get(). 64 MiB holds a task with a million reference arguments.
  static constexpr std::size_t kMessageBytesMax = 64U << 20U;

  Router(Rank self, std::uint32_t size);
  ~Router();
  Router(const Router&) = delete;
  Router& operator=(const Router&) = delete;

  /// Takes the backend; `peers` are reached through it from now on.
  void add_backend(std::unique_ptr<Backend> backend, const std::vector<Rank>& peers);
  /// Takes the backend for every rank that no other backend reaches; costs nothing per rank.
  void add_default_backend(std::unique_ptr<Backend> backend);
  Rank self() const;
  std::uint32_t size() const;

  /// A message over kMessageBytesMax or to a rank outside the job is a broken invariant: callers check sizes.
  void send(Rank to, BytesView message);
  /// Hands all begun frames to the backends. Call when no further message is about to follow.
  void flush();
  /// See Backend::get(). From a lost peer, `done` runs at once with peer_lost.
  void get(Rank from, std::uint64_t offset, std::span<std::byte> into, GetDone done);
  /// Polls all backends, delivers messages, retries what had no credit, flushes. Number of events.
  int poll(MessageHandler& handler);

  std::vector<int> event_fds() const;
  bool arm();  ///< all backends; false when something waits already
  void disarm();
  /// Bytes that wait for credit towards `to`: producers slow down when this grows.
  std::size_t backlog(Rank to) const;
  bool alive(Rank peer) const;
  /// The peer was declared dead elsewhere: drops what waits for it. MessageHandler::on_lost does not follow.
  void forget(Rank peer);
  /// A rank that was forgotten before anything was exchanged with it (an empty seat) is there, reached through
  /// `backend`, which is one of this router's and knows it. Once per rank.
  void admit(Rank peer, const Backend& backend);
  /// Sends what waits for credit and closes the backends; all within `grace_ns`. Messages that arrive are dropped.
  void close(std::int64_t grace_ns);
  std::string describe(Rank peer) const;  ///< backend name and its own line
  const PeerStats& stats(Rank peer) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::transport
