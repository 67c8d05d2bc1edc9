#pragma once

#include <memory>

#include "transport/transport.hpp"

namespace trireme::transport {

struct ShmOptions {
  std::uint32_t slots = 512;           ///< senders of the node, at most 512
  std::size_t ring_bytes = 64U << 10;  ///< per sender, in whole pages; used memory only once frames flow
};

/// Ranks of one node, through memory that they share.
///
/// Every rank owns a memfd with a ring per sender. Peers open it, its doorbell and its exposed memory through
/// /proc/<pid>/fd: no names in a file system, nothing to clean up, and it fails cleanly (add_peer) where the
/// processes cannot see each other. A sender writes the frame into the receiver's memory, so a frame that was sent
/// survives its sender.
///
/// The doorbell is a pipe: of what can be opened through /proc it is the only thing that epoll understands (an eventfd
/// cannot be opened that way, taking it by pidfd_getfd needs the right to trace, and an abstract socket is open to
/// every user of the host). Peers open it for reading and writing, so that ringing at a dead rank raises no SIGPIPE.
///
/// Death is seen through a pidfd at once, after the dead rank's last frames; an orderly close() through the segment.
///
/// Threading: as Backend. Errors: as Backend. Lifetime: peer_memory() until this backend ends, also after the peer did.
class ShmBackend : public Backend {
 public:
  static Result<std::unique_ptr<ShmBackend>> create(Rank self, ShmOptions options = {});

  /// The peer's exposed memory, mapped read-only; empty when the peer exposes none or cannot be opened any more.
  virtual std::span<const std::byte> peer_memory(Rank peer) = 0;

  /// The same as a file, for other processes of this rank: what `pid` has open as `fd`; -1 when there is none.
  struct PeerFile {
    std::int32_t pid = 0;
    std::int32_t fd = -1;
    std::uint64_t bytes = 0;
  };
  virtual PeerFile peer_file(Rank peer) = 0;
};

}  // namespace trireme::transport
