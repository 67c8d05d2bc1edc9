#pragma once

#include <cstddef>
#include <span>
#include <utility>

namespace trireme::transport {

/// Owns a file descriptor. Threading: one owner.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() { reset(); }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  void reset();

 private:
  int fd_ = -1;
};

/// Owns a shared mapping of a file. Threading: one owner.
class Mapping {
 public:
  Mapping() = default;
  /// Empty on failure; errno says why.
  Mapping(int fd, std::size_t offset, std::size_t bytes, bool writable);
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping();
  std::span<std::byte> bytes() const { return bytes_; }
  explicit operator bool() const { return !bytes_.empty(); }

 private:
  std::span<std::byte> bytes_;
};

/// Opens what `pid` has open as `fd`, as a new open file; the process must be ours (same user, dumpable). Errno on
/// failure.
Fd open_of_process(int pid, int fd, int flags);
/// Readable once the process has ended. Errno on failure (ENOSYS before Linux 5.3).
Fd open_pidfd(int pid);

}  // namespace trireme::transport
