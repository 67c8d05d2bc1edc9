#include "python/native/pool.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>

#include "base/log.hpp"
#include "python/native/give_way.hpp"
#include "python/native/requests.hpp"

namespace trireme::python {

namespace {

/// While somebody polls all the time, output and deaths are looked for this often.
constexpr Nanos kDescriptorsEvery = kMillisecond;
/// How long workers have to leave by themselves when the job ends.
constexpr auto kLeaveMax = std::chrono::milliseconds(500);

}  // namespace

Pool::Pool(core::Session& session, Options options)
    : session_(session),
      context_(session.core().context()),
      options_(options),
      zygote_(options.zygote_fd),
      requests_(std::make_unique<Requests>(*this)),
      gpu_free_(options.gpus, 1.0) {}

Pool::~Pool() = default;

Status Pool::open() {
  const auto failed = [](const char* what) {
    return make_error(Errc::io, fmt::format("worker processes: {}: {}", what, std::strerror(errno)));
  };
  auto board = MemoryFile::create("trireme-board", (sizeof(Board) + kPageBytes - 1) / kPageBytes * kPageBytes);
  if (!board) return board.error();
  board_file_ = std::move(*board);
  board_ = reinterpret_cast<Board*>(board_file_.memory.bytes().data());
  epoll_ = transport::Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return failed("epoll_create1");
  int bell[2];
  if (::pipe2(bell, O_CLOEXEC | O_NONBLOCK) != 0) return failed("pipe2");
  bell_read_ = transport::Fd(bell[0]);
  bell_write_ = transport::Fd(bell[1]);
  if (!watch(bell_read_.get(), 0)) return failed("epoll_ctl");
  if (zygote_) {
    if (::fcntl(zygote_.get(), F_SETFL, O_NONBLOCK) != 0) return failed("fcntl");
    if (!watch(zygote_.get(), 3)) return failed("epoll_ctl of the template process");
  }
  Lock lock(mutex_);
  for (unsigned i = 0; i < options_.prestart; ++i) start_worker({}, {}, nullptr);
  unlock_and_run(lock);
  return {};
}

bool Pool::watch(int fd, std::uint64_t tag) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = tag;
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

int Pool::poll() {
  int events = 0;
  Lock lock(mutex_);
  const auto words = (workers_.size() + 63) / 64;
  for (std::size_t w = 0; w < words; ++w) {
    if (board_->pending[w].load(std::memory_order_relaxed) == 0) continue;
    // seq_cst: before the rings are looked at, see Board.
    auto bits = board_->pending[w].exchange(0, std::memory_order_seq_cst);
    while (bits != 0) {
      const auto index = w * 64 + static_cast<std::size_t>(__builtin_ctzll(bits));
      bits &= bits - 1;
      if (index < workers_.size() && workers_[index] && !workers_[index]->gone)
        events += look_at(lock, *workers_[index]);
    }
  }
  const auto now = SystemClock::read();
  if (now - descriptors_seen_ >= kDescriptorsEvery) {
    descriptors_seen_ = now;
    events += look_at_descriptors(lock);
  }
  check_long_tasks();
  unlock_and_run(lock);
  return events;
}

bool Pool::any_pending() const {
  const auto words = (workers_seen_.load(std::memory_order_acquire) + 63) / 64;
  for (std::size_t w = 0; w < words; ++w) {
    if (board_->pending[w].load(std::memory_order_seq_cst) != 0) return true;
  }
  return false;
}

bool Pool::wait_for_workers(const std::atomic<bool>& fired, Nanos deadline) {
  if (has_waiter_.exchange(true, std::memory_order_acq_rel)) return false;
  auto& engine = *session_.host().engine;
  constexpr Nanos kSpin = 50 * kMicrosecond;
  const auto done = [&fired] { return fired.load(std::memory_order_seq_cst); };
  thread_local GiveWay give_way;
  const auto spin = [&] {
    auto until = SystemClock::read() + kSpin;
    for (unsigned round = 1; !done() && core_free(); ++round) {
      const int events = engine.try_poll();
      const auto now = SystemClock::read();
      if (events > 0) until = now + kSpin;
      if (now >= until || now >= deadline) break;
      if (round % 16 == 0) give_way(now);
    }
    if (!done()) engine.leave_to_thread();  // for the network, deaths and output
  };
  spin();
  while (!done()) {
    // seq_cst: either the worker sees it, or its bit is seen here; and so with `fired`.
    board_->waiter.store(1, std::memory_order_seq_cst);
    if (!any_pending() && !done()) {
      if (SystemClock::read() >= deadline) break;
      sleep_as_waiter(*board_, deadline);
    }
    board_->waiter.store(0, std::memory_order_seq_cst);
    if (done()) break;
    // Somebody else's call, perhaps the first of many: between workers each has two steps here.
    if (engine.try_poll() < 0)
      ::sched_yield();
    else if (core_free())
      spin();
  }
  board_->waiter.store(0, std::memory_order_seq_cst);
  // Workers that woke this thread count on it.
  if (any_pending()) engine.leave_to_thread();
  has_waiter_.store(false, std::memory_order_release);
  return true;
}

void Pool::flush() {}

bool Pool::arm() {
  // seq_cst: either the worker sees it, or its bit is seen here.
  board_->sleeping.store(1, std::memory_order_seq_cst);
  const Lock lock(mutex_);
  const auto words = (workers_.size() + 63) / 64;
  for (std::size_t w = 0; w < words; ++w) {
    if (board_->pending[w].load(std::memory_order_seq_cst) == 0) continue;
    board_->sleeping.store(0, std::memory_order_relaxed);
    return false;
  }
  descriptors_seen_ = 0;  // whoever wakes up looks at them first
  return true;
}

void Pool::disarm() { board_->sleeping.store(0, std::memory_order_relaxed); }

Nanos Pool::next_deadline() const { return look_again_.load(std::memory_order_relaxed); }

Located Pool::arena_of(Rank rank) const {
  Located at;
  at.rank = rank;
  if (rank == context_.self) {
    at.pid = ::getpid();
    at.fd = session_.arena().fd();
    at.arena_bytes = session_.arena().bytes();
  } else if (auto* shm = session_.host().shm) {
    const auto file = shm->peer_file(rank);
    at.pid = file.pid;
    at.fd = file.fd;
    at.arena_bytes = file.bytes;
  }
  return at;
}

void Pool::close() {
  {
    Lock lock(mutex_);
    if (closed_ || closing_) return;
    closing_ = true;
    for (auto& queued : std::exchange(pending_, {})) {
      fail_later(queued.call, core::runtime_error(context_, Errc::shutdown, "the runtime is shutting down"),
                 queued.exportable);
    }
    queued_.store(0);
    const Bytes leave{static_cast<std::byte>(Frame::leave)};
    for (const auto& worker : workers_) {
      if (!worker || worker->gone) continue;
      if (worker->tasks.empty() && worker->calls.empty())
        worker->end.send(leave);
      else
        kill_process(*worker, SIGKILL);
    }
    unlock_and_run(lock);
  }
  {
    Lock lock(mutex_);
    all_gone_.wait_for(lock, kLeaveMax, [this] { return by_id_.empty(); });
    // Those that are left are killed by the template process, which sees the end of this file.
    closed_ = true;
    ::shutdown(zygote_.get(), SHUT_RDWR);
    for (const auto& worker : workers_) {
      if (!worker) continue;
      kill_process(*worker, SIGKILL);
      for (const int stream : {0, 1}) add_output(*worker, stream, {}, true);
      for (const auto token : worker->tasks)
        fail_later(flights_.at(token)->call, core::runtime_error(context_, Errc::shutdown, "the job ends"));
      for (const auto token : worker->calls)
        fail_later(flights_.at(token)->call, core::runtime_error(context_, Errc::shutdown, "the job ends"));
    }
    unlock_and_run(lock);
  }
  const std::lock_guard lock(log_mutex_);
  log_closed_ = true;
  log_ready_.notify_all();
}

void Pool::close_descriptors() {
  const Lock lock(mutex_);
  for (auto* fd : {&epoll_, &zygote_, &bell_read_, &bell_write_, &board_file_.fd}) fd->reset();
  for (const auto& worker : workers_) {
    if (!worker) continue;
    worker->file.fd.reset();
    for (int stream = 0; stream < 2; ++stream) {
      worker->output[stream].reset();
      worker->output_in[stream].reset();
    }
  }
}

std::vector<LogLine> Pool::next_logs() {
  std::unique_lock lock(log_mutex_);
  log_ready_.wait(lock, [this] { return log_closed_ || !log_lines_.empty(); });
  std::vector<LogLine> lines(std::make_move_iterator(log_lines_.begin()), std::make_move_iterator(log_lines_.end()));
  log_lines_.clear();
  return lines;
}

}  // namespace trireme::python
