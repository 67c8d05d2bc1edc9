#include "python/native/worker_link.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/log.hpp"
#include "python/native/give_way.hpp"

namespace trireme::python {

namespace {

/// How long a thread sleeps before it looks whether the rank lives.
constexpr Nanos kSlice = 500 * kMillisecond;
/// And the main thread, which a signal wakes unless it came just before or another thread took it.
constexpr Nanos kMainSlice = 100 * kMillisecond;
constexpr Nanos kSpinDefault = 20 * kMicrosecond;
/// Of it, the time in which a rank answers that has nothing else to do; others that wait for the core come first then.
constexpr Nanos kSpinAlone = 2 * kMicrosecond;
/// A request that carries more leaves its frame behind rather than keep it as scratch space.
constexpr std::size_t kScratchMax = 1U << 20;

/// True in a process that was forked off one with a link: the ring is not its own.
std::atomic<bool> forked{false};

detail::ErrorInfo error_info(Errc code, std::string message) {
  detail::ErrorInfo info;
  info.code = code;
  info.message = std::move(message);
  return info;
}

[[noreturn]] void refuse(Errc code, std::string message) { throw Exception(error_info(code, std::move(message))); }

transport::Fd open_of_rank(int pid, int fd, int flags, const char* what) {
  auto opened = transport::open_of_process(pid, fd, flags);
  if (!opened)
    refuse(Errc::io, fmt::format("{} of rank process {} (its descriptor {}): {}", what, pid, fd, std::strerror(errno)));
  return opened;
}

transport::Mapping map(const transport::Fd& fd, std::size_t bytes, const char* what) {
  transport::Mapping mapping(fd.get(), 0, bytes, true);
  if (!mapping) refuse(Errc::io, fmt::format("mapping the {} bytes of {}: {}", bytes, what, std::strerror(errno)));
  return mapping;
}

Nanos spin_time() {
  if (const char* text = std::getenv("TRIREME_SPIN_US"); text != nullptr) {
    Nanos micros = 0;
    const auto end = text + std::strlen(text);
    if (std::from_chars(text, end, micros).ptr == end && micros >= 0) return micros * kMicrosecond;
    TRIREME_LOG(warning, "TRIREME_SPIN_US={} is no number of microseconds", text);
  }
  return ::sysconf(_SC_NPROCESSORS_ONLN) > 1 ? kSpinDefault : 0;
}

bool on_main_thread() {
  // The thread that forked is the main one; a process that is forked off has no link to use.
  thread_local const bool is = ::syscall(SYS_gettid) == ::getpid();
  return is;
}

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

WorkerCommand WorkerCommand::parse(std::string_view text) {
  try {
    const auto json = nlohmann::json::parse(text);
    WorkerCommand command;
    json.at("worker").get_to(command.worker);
    json.at("index").get_to(command.index);
    json.at("rank").get_to(command.rank);
    json.at("size").get_to(command.size);
    json.at("rank_pid").get_to(command.rank_pid);
    json.at("file_fd").get_to(command.file_fd);
    json.at("board_fd").get_to(command.board_fd);
    json.at("bell_fd").get_to(command.bell_fd);
    json.at("arena_fd").get_to(command.arena_fd);
    json.at("arena_bytes").get_to(command.arena_bytes);
    json.at("env").get_to(command.env);
    if (command.index >= kWorkersMax) refuse(Errc::invalid_argument, fmt::format("worker index {}", command.index));
    return command;
  } catch (const nlohmann::json::exception& wrong) {
    refuse(Errc::invalid_argument, fmt::format("a worker's command is what the rank sent to the template process; "
                                               "this is none: {}",
                                               wrong.what()));
  }
}

WorkerLink::WorkerLink(const WorkerCommand& command)
    : rank_pid_(command.rank_pid),
      file_fd_(open_of_rank(command.rank_pid, command.file_fd, O_RDWR, "the worker's rings")),
      board_fd_(open_of_rank(command.rank_pid, command.board_fd, O_RDWR, "the board")),
      bell_(open_of_rank(command.rank_pid, command.bell_fd, O_WRONLY | O_NONBLOCK, "the bell")),
      pidfd_(transport::open_pidfd(command.rank_pid)),
      file_(map(file_fd_, kWorkerBytes, "the worker's rings")),
      board_(map(board_fd_, sizeof(Board), "the board")),
      end_(file_.bytes(), reinterpret_cast<Board*>(board_.bytes().data()), command.index, bell_.get()),
      spin_(spin_time()) {
  forked.store(false, std::memory_order_relaxed);
  [[maybe_unused]] static const int registered =
      ::pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });
}

void WorkerLink::broken(const char* what) {
  TRIREME_LOG(error, "worker process {} ends: its rank sent what is no frame ({})", ::getpid(), what);
  ::_exit(1);
}

void WorkerLink::check_rank() const {
  pollfd at{pidfd_.get(), POLLIN, 0};
  // Quiet: the rank's own end has been told, or will be by the launcher.
  if (pidfd_ ? ::poll(&at, 1, 0) == 1 : ::kill(rank_pid_, 0) != 0 && errno == ESRCH) ::_exit(1);
}

// --- Sending

void WorkerLink::send(BytesView frame) {
  if (forked.load(std::memory_order_relaxed))
    refuse(Errc::unavailable,
           "this process was forked off a worker: only the worker itself can use trireme. Start tasks instead, or "
           "processes that do not fork (multiprocessing's spawn method)");
  {
    const std::lock_guard lock(send_mutex_);
    write_returned();
    end_.send(frame);
  }
  flush();
}

void WorkerLink::give_back(Returned* returned) noexcept {
  if (forked.load(std::memory_order_relaxed)) return;
  auto* head = returned_.load(std::memory_order_relaxed);
  do {
    returned->next = head;
  } while (!returned_.compare_exchange_weak(head, returned, std::memory_order_release, std::memory_order_relaxed));
  flush();
}

void WorkerLink::flush() noexcept {
  for (;;) {
    // Pairs with itself: who fails to get the lock pushed before, who had the lock looks after it gave it up.
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (returned_.load(std::memory_order_relaxed) == nullptr) return;
    const Lock lock(send_mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return;
    write_returned();
  }
}

void WorkerLink::write_returned() {
  if (returned_.load(std::memory_order_relaxed) == nullptr) return;
  auto* first = returned_.exchange(nullptr, std::memory_order_acquire);  // pairs with give_back()
  std::size_t handles = 0, pins = 0;
  for (auto* at = first; at != nullptr; at = at->next) ++(at->count != 0 ? handles : pins);
  if (handles != 0) {
    auto out = begin(scratch_, Frame::release);
    out.varint(handles);
    for (auto* at = first; at != nullptr; at = at->next) {
      if (at->count == 0) continue;
      out.varint(at->number);
      out.varint(at->count);
    }
    end_.send(scratch_);
  }
  if (pins != 0) {
    auto out = begin(scratch_, Frame::unpin);
    out.varint(pins);
    for (auto* at = first; at != nullptr; at = at->next) {
      if (at->count == 0) out.varint(at->number);
    }
    end_.send(scratch_);
  }
  if (scratch_.capacity() > kScratchMax) Bytes().swap(scratch_);
  while (first != nullptr) {
    const std::unique_ptr<Returned> done(std::exchange(first, first->next));
    if (on_return) on_return(*done);
  }
}

// --- Receiving

BytesView WorkerLink::receive_soon(Nanos deadline) {
  auto frame = end_.receive();
  if (!frame.empty()) return frame;
  flush();
  if (spin_ > 0) {
    // One for each thread that waits: an actor's, and now and then another.
    thread_local GiveWay give_way;
    const auto begin = SystemClock::read();
    const auto end = std::min(begin + spin_, deadline);
    for (auto now = begin; now < end; now = SystemClock::read()) {
      // What is waited for may need this core: the rank, or a worker that is to answer.
      if (now - begin > kSpinAlone) give_way(now);
      for (int i = 0; i < 32; ++i) {
        relax();
        frame = end_.receive();
        if (!frame.empty()) return frame;
      }
    }
  }
  if (end_.corrupt()) broken("ring");
  return frame;
}

BytesView WorkerLink::receive_until(Nanos deadline) {
  auto frame = receive_soon(deadline);
  if (!frame.empty()) return frame;
  end_.sleep(deadline);
  frame = end_.receive();
  if (frame.empty()) {
    if (end_.corrupt()) broken("ring");
    check_rank();
  }
  return frame;
}

void WorkerLink::dispatch(BytesView frame) {
  Reader in(frame);
  switch (in.get<Frame>()) {
    case Frame::work:
    case Frame::cancel:
      work_.push_back(std::make_shared<const Bytes>(frame.begin(), frame.end()));
      return wake(&work_);
    case Frame::reply: {
      const auto at = requests_.find(in.varint());
      if (!in.ok() || at == requests_.end()) broken("reply");
      auto message = std::make_shared<const Bytes>(frame.begin(), frame.end());
      if (!at->second.given_up) {
        at->second.answer = std::move(message);
        return wake(&at->second);
      }
      if (at->second.late != Late::nothing) late_.emplace_back(at->second.late, std::move(message));
      requests_.erase(at);
      return;
    }
    case Frame::event:
      events_.push_back(in.varint());
      if (!in.ok()) broken("event");
      return wake(&events_);
    case Frame::leave:
      leaving_ = leave_is_new_ = true;
      wake(&work_);
      return wake(&events_);
    default:
      broken("kind");
  }
}

void WorkerLink::wake(const void* on) {
  for (auto* sleeper : sleepers_) {
    if (sleeper->on == on) sleeper->woken.notify_one();
  }
  if (on == &work_ && loop_sleeps_) ring_loop();
}

void WorkerLink::pass_on() {
  if (reading_) return;
  if (!sleepers_.empty())
    sleepers_.front()->woken.notify_one();
  else if (loop_sleeps_)
    ring_loop();
}

void WorkerLink::drop_late(Lock& lock) {
  while (!late_.empty()) {
    auto late = std::exchange(late_, {});
    lock.unlock();
    for (auto& [kind, message] : late) {
      Reader in(*message);
      in.get<Frame>();
      in.varint();
      if (in.get<Answer>() == Answer::ok && on_late) on_late(kind, message, in);
    }
    lock.lock();
  }
}

/// True once `done` is, false at the deadline; with the lock held, and somebody else reading if anybody waits.
template <class Done>
bool WorkerLink::wait(Lock& lock, const void* on, Nanos deadline, const Api::Check& interrupted, Done done) {
  bool is_done = done();
  if (is_done) return true;
  const bool checks = interrupted && on_main_thread();
  auto now = SystemClock::read();
  auto checked = now;
  while (!is_done && now < deadline) {
    // Without work there is nothing to interrupt: an idle process sleeps long.
    const auto until = std::min(deadline, now + (checks && on != &work_ ? kMainSlice : kSlice));
    bool quiet = false;  // time passed, or a signal came
    if (!reading_) {
      reading_ = true;
      lock.unlock();
      auto frame = receive_until(until);
      lock.lock();
      quiet = frame.empty();
      while (!frame.empty()) {
        dispatch(frame);
        if ((is_done = done())) break;
        frame = end_.receive();
      }
      reading_ = false;
    } else {
      Sleeper self;
      self.on = on;
      sleepers_.push_back(&self);
      self.woken.wait_until(lock, std::chrono::steady_clock::time_point(std::chrono::nanoseconds(until)));
      sleepers_.erase(std::find(sleepers_.begin(), sleepers_.end(), &self));
      is_done = done();
    }
    now = SystemClock::read();
    if (!late_.empty()) {
      pass_on();
      drop_late(lock);
      is_done = done();
    }
    if (checks && !is_done && (quiet || now - checked >= kMainSlice)) {
      checked = now;
      pass_on();
      lock.unlock();
      const bool stop = interrupted();
      lock.lock();
      if (stop) {
        pass_on();
        throw Interrupted{};
      }
      is_done = done();
    }
  }
  pass_on();
  return is_done;
}

// --- Requests and what comes unasked

std::uint64_t WorkerLink::open(Late late) {
  const Lock lock(mutex_);
  const auto number = next_request_++;
  requests_[number].late = late;
  return number;
}

Message WorkerLink::await(std::uint64_t request, Nanos deadline, const Api::Check& interrupted) {
  Lock lock(mutex_);
  auto& open = requests_.at(request);
  try {
    if (!wait(lock, &open, deadline, interrupted, [&open] { return open.answer != nullptr; })) return nullptr;
  } catch (const Interrupted&) {
    open.given_up = true;
    if (open.answer != nullptr) {
      if (open.late != Late::nothing) late_.emplace_back(open.late, std::move(open.answer));
      requests_.erase(request);
    }
    throw;
  }
  auto answer = std::move(open.answer);
  requests_.erase(request);
  return answer;
}

Message WorkerLink::next_work(const Api::Check& interrupted) {
  Lock lock(mutex_);
  wait(lock, &work_, kForever, interrupted, [this] { return !work_.empty() || leaving_; });
  if (work_.empty()) return nullptr;
  auto message = std::move(work_.front());
  work_.pop_front();
  return message;
}

Message WorkerLink::try_next_work() {
  const Lock lock(mutex_);
  // Whoever reads now brings what comes.
  while (work_.empty() && !reading_) {
    const auto frame = end_.receive();
    if (frame.empty()) break;
    dispatch(frame);
  }
  if (work_.empty()) return nullptr;
  auto message = std::move(work_.front());
  work_.pop_front();
  return message;
}

std::vector<std::uint64_t> WorkerLink::next_events(const Api::Check& interrupted) {
  Lock lock(mutex_);
  wait(lock, &events_, kForever, interrupted, [this] { return !events_.empty() || leaving_; });
  return std::exchange(events_, {});
}

}  // namespace trireme::python
