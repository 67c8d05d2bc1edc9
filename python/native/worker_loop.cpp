#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "python/native/worker_api.hpp"

/// The part of a worker's link that is for a thread with an event loop: it sleeps on descriptors and the ring at once.
namespace trireme::python {

namespace {

/// How long it sleeps before it looks whether the rank lives.
constexpr Nanos kSlice = 500 * kMillisecond;

}  // namespace

void WorkerApi::open_bell(const Check& interrupted) {
  const auto request = link_.open(Late::nothing);
  Bytes frame;
  auto out = begin(frame, Frame::bell);
  out.varint(request);
  out.varint(static_cast<std::uint64_t>(::getpid()));
  out.varint(static_cast<std::uint64_t>(link_.make_bell()));
  ask(request, frame, interrupted);
}

int WorkerLink::make_bell() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
    detail::ErrorInfo info;
    info.code = Errc::io;
    info.message = fmt::format("a pipe that wakes the event loop of an actor: {}", std::strerror(errno));
    throw Exception(std::move(info));
  }
  const Lock lock(mutex_);
  loop_bell_[0] = transport::Fd(ends[0]);
  loop_bell_[1] = transport::Fd(ends[1]);
  return ends[1];
}

void WorkerLink::ring_loop() {
  const char one = 1;
  [[maybe_unused]] const auto written = ::write(loop_bell_[1].get(), &one, 1);
}

bool WorkerLink::has_work() {
  const Lock lock(mutex_);
  while (!loop_has_work() && !reading_) {
    const auto frame = end_.receive();
    if (frame.empty()) break;
    dispatch(frame);
  }
  return loop_has_work();
}

bool WorkerLink::told_to_leave() {
  const Lock lock(mutex_);
  leave_is_new_ = false;
  return leaving_;
}

bool WorkerLink::wait_in_loop(int descriptor, Nanos deadline) {
  Lock lock(mutex_);
  bool ready = false;
  for (auto now = SystemClock::read(); !ready && !loop_has_work() && now < deadline; now = SystemClock::read()) {
    const auto until = std::min(deadline, now + kSlice);
    // Else another thread brings what comes and rings, or passes the reading on.
    const bool reads = !std::exchange(reading_, true);
    BytesView frame;
    if (reads) {
      lock.unlock();
      frame = receive_soon(until);
      lock.lock();
    }
    if (frame.empty() && !loop_has_work()) {
      loop_sleeps_ = true;
      lock.unlock();
      ready = end_.sleep_on(loop_bell_[0].get(), descriptor, reads, until);
      if (reads) frame = end_.receive();
      if (frame.empty() && !ready) {
        if (end_.corrupt()) broken("ring");
        check_rank();
      }
      lock.lock();
      loop_sleeps_ = false;
    }
    if (!reads) continue;
    for (; !frame.empty(); frame = end_.receive()) {
      dispatch(frame);
      if (loop_has_work()) break;
    }
    reading_ = false;
    pass_on();
    if (!late_.empty()) drop_late(lock);
  }
  return ready;
}

}  // namespace trireme::python
