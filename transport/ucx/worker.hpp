#pragma once

#include <ucp/api/ucp.h>

#include <cstdint>
#include <memory>
#include <string_view>

#include "base/result.hpp"
#include "base/wire.hpp"

namespace trireme::transport::ucx {

Error ucx_error(Errc code, std::string_view what, ucs_status_t status);

/// A UCX context and its one worker.
///
/// Threading: one holder at a time (UCS_THREAD_MODE_SERIALIZED, which takes no locks).
/// Lifetime:  endpoints and memory of the worker are gone before it is.
class Worker {
 public:
  /// `peers` is how many ranks this one may come to talk to; UCX chooses transports that scale to it.
  static Result<std::unique_ptr<Worker>> create(std::uint32_t peers);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  ucp_context_h context() const { return context_; }
  ucp_worker_h handle() const { return worker_; }
  int event_fd() const { return event_fd_; }
  const Bytes& address() const { return address_; }
  /// The largest message that travels as one fragment on every device, so that the receiver need not assemble it.
  std::size_t fragment_bytes_max() const { return fragment_bytes_max_; }

  unsigned progress() { return ucp_worker_progress(worker_); }
  /// True when event_fd() will show the next event, false when one waits already.
  bool arm();

 private:
  Worker() = default;
  Status open(std::uint32_t peers);

  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  int event_fd_ = -1;
  Bytes address_;
  std::size_t fragment_bytes_max_ = 0;
};

}  // namespace trireme::transport::ucx
