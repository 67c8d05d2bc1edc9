#include "transport/bootstrap/channel.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include <fmt/format.h>

namespace trireme::transport {
namespace {

Error io_error(std::string_view what) {
  return make_error(Errc::io, fmt::format("{} failed: {}", what, std::strerror(errno)));
}

Error closed_error() { return make_error(Errc::peer_lost, "the other side has closed the connection"); }

struct UnixAddress {
  sockaddr_un address{};
  socklen_t bytes = 0;
};

Result<UnixAddress> unix_address(const std::string& path) {
  UnixAddress at;
  at.address.sun_family = AF_UNIX;
  const bool abstract = path.starts_with('@');
  // A path ends with a zero byte; an abstract name begins with one instead of its '@' and ends where the length says.
  if (path.size() < (abstract ? 2U : 1U) || path.size() + (abstract ? 0 : 1) > sizeof at.address.sun_path)
    return make_error(Errc::invalid_argument, fmt::format("a socket path has 1 to {} bytes; found {} in \"{}\"",
                                                          sizeof at.address.sun_path - 1, path.size(), path));
  std::memcpy(at.address.sun_path, path.data(), path.size());
  if (abstract) at.address.sun_path[0] = '\0';
  at.bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1));
  return at;
}

}  // namespace

Status Channel::wait(short events, Nanos deadline) {
  for (;;) {
    const Nanos left = deadline - SystemClock::read();
    if (left <= 0) return make_error(Errc::timeout, "no answer in time");
    pollfd event{socket_.get(), events, 0};
    const int ready = ::poll(&event, 1, static_cast<int>(std::min<Nanos>(left / kMillisecond + 1, 60'000)));
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return io_error("poll");
  }
}

Status Channel::send(BytesView record, Nanos deadline) {
  if (record.size() > kRecordBytesMax)
    return make_error(Errc::too_large,
                      fmt::format("a record of {} bytes; {} are the most", record.size(), kRecordBytesMax));
  const std::uint64_t size = record.size();
  for (auto rest : {std::as_bytes(std::span(&size, 1)), record}) {
    while (!rest.empty()) {
      const auto sent = ::send(socket_.get(), rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent >= 0) {
        rest = rest.subspan(static_cast<std::size_t>(sent));
      } else if (errno == EAGAIN) {
        if (auto status = wait(POLLOUT, deadline); !status.ok()) return status;
      } else if (errno == EPIPE || errno == ECONNRESET) {
        return closed_error();
      } else if (errno != EINTR) {
        return io_error("send");
      }
    }
  }
  return {};
}

Status Channel::read_exactly(std::span<std::byte> into, Nanos deadline) {
  while (!into.empty()) {
    const auto got = ::recv(socket_.get(), into.data(), into.size(), MSG_DONTWAIT);
    if (got > 0) {
      into = into.subspan(static_cast<std::size_t>(got));
    } else if (got == 0 || errno == ECONNRESET) {
      return closed_error();
    } else if (errno == EAGAIN) {
      if (auto status = wait(POLLIN, deadline); !status.ok()) return status;
    } else if (errno != EINTR) {
      return io_error("recv");
    }
  }
  return {};
}

bool Channel::same_user() const {
  ucred peer{};
  socklen_t bytes = sizeof peer;
  return ::getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 && peer.uid == ::geteuid();
}

Result<Bytes> Channel::receive(Nanos deadline) {
  std::uint64_t size = 0;
  if (auto status = read_exactly(std::as_writable_bytes(std::span(&size, 1)), deadline); !status.ok())
    return status.error();
  if (size > kRecordBytesMax)
    return make_error(Errc::malformed,
                      fmt::format("a record that claims {} bytes; {} are the most", size, kRecordBytesMax));
  Bytes record(size);
  if (auto status = read_exactly(record, deadline); !status.ok()) return status.error();
  return record;
}

Result<Fd> listen_unix(const std::string& path) {
  auto at = unix_address(path);
  if (!at) return at.error();
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return io_error("socket");
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&at->address), at->bytes) != 0)
    return io_error(fmt::format("binding {}", path));
  if (::listen(socket.get(), SOMAXCONN) != 0) return io_error(fmt::format("listening at {}", path));
  return socket;
}

Result<Fd> connect_unix(const std::string& path) {
  auto at = unix_address(path);
  if (!at) return at.error();
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return io_error("socket");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&at->address), at->bytes) == 0) return socket;
  if (errno == ENOENT || errno == ECONNREFUSED)
    return make_error(Errc::not_found, fmt::format("nobody listens at {}", path));
  return io_error(fmt::format("connecting to {}", path));
}

}  // namespace trireme::transport
