#pragma once

#include <cstdint>
#include <string>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/wire.hpp"
#include "transport/shm/os.hpp"

namespace trireme::transport {

/// Records over a connected Unix-domain stream socket, for the local bootstrap.
///
/// Threading: one owner.
/// Errors:    timeout at the deadline; peer_lost when the other side has closed; malformed for a record over
///            kRecordBytesMax; io for what the system refuses. The texts name no rank: the caller knows which.
/// Units:     deadlines are points on SystemClock.
class Channel {
 public:
  /// What one rank tells all others at the start; far above any address, far below memory.
  static constexpr std::uint64_t kRecordBytesMax = 64ULL << 20U;

  Channel() = default;
  explicit Channel(Fd socket) : socket_(std::move(socket)) {}

  Status send(BytesView record, Nanos deadline);
  Result<Bytes> receive(Nanos deadline);
  /// Whether a process of this user is at the other end: an abstract name is open to all.
  bool same_user() const;
  int fd() const { return socket_.get(); }
  void close() { socket_.reset(); }

 private:
  Status wait(short events, Nanos deadline);
  Status read_exactly(std::span<std::byte> into, Nanos deadline);

  Fd socket_;
};

/// A stream socket that listens at, or is connected to, `path`; a path that starts with '@' is an abstract name.
/// Errors as errno's text; connect_unix: not_found while nobody listens there.
Result<Fd> listen_unix(const std::string& path);
Result<Fd> connect_unix(const std::string& path);

}  // namespace trireme::transport
