#include "scheduler/progress.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <thread>

#include "base/check.hpp"
#include "scheduler/thread_setup.hpp"

namespace trireme::scheduler {
namespace {

// The token word. kHeld is the token; the others are requests to its holder, obeyed before it lets go.
constexpr std::uint32_t kHeld = 1;
constexpr std::uint32_t kRun = 2;    // commands were queued
constexpr std::uint32_t kPoll = 4;   // the dedicated thread was woken by an event, a timer or a tick: poll
constexpr std::uint32_t kWatch = 8;  // somebody stopped polling: make sure that the dedicated thread watches

// Traffic so dense that arming fails this often in a row: the dedicated thread takes over.
constexpr int kArmAttempts = 16;

// Its address names the calling thread.
thread_local char this_thread_mark;

std::string system_error(const char* what) { return std::string(what) + ": " + std::strerror(errno); }

void ring(int fd) {
  const std::uint64_t one = 1;
  while (write(fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
}
void drain(int fd) {
  std::uint64_t ignored = 0;
  while (read(fd, &ignored, sizeof ignored) < 0 && errno == EINTR) {
  }
}

}  // namespace

/// Why no wake-up is lost.
///
/// Commands. post() either takes the token or queues the command and then sets kRun in the token word; both happen in
/// one atomic word, so kRun is set either while the token is held, and then the holder's compare-exchange kHeld -> 0
/// fails and it drains the queue again, or together with taking the token. A command hidden behind another producer's
/// half-done push is covered by that producer, which sets kRun after its push.
///
/// Transport events. Whenever the token is free, at least one of these holds ("watched"):
///   armed    the transport is armed and its descriptors are enabled in the epoll set: an event wakes the thread;
///   ticking  the periodic timer runs: the thread looks every `tick` whether somebody polled, and polls if not;
///   awake    the dedicated thread is awake and will arm or tick before it sleeps.
/// All three change under the token only, except that the thread gives up `awake` right before it sets kWatch, which
/// obliges the holder (itself, if the token was free) to restore the invariant before it lets go.
///
/// Descriptors are registered EPOLLONESHOT, so that after a disarm the thread is woken at most once for nothing. A
/// spent descriptor is enabled again by the next arming: the thread records that in `fired_` before it asks for kPoll,
/// and whoever serves that request arms again if the engine counted as armed.
struct ProgressEngine::Impl {
  Impl(Pollable& driven, ProgressOptions wanted) : pollable(driven), options(wanted) {}

  Pollable& pollable;
  const ProgressOptions options;
  std::function<bool()> core_free;

  // Acquired with acquire, released with release: hands everything below marked "token" from holder to holder.
  alignas(64) std::atomic<std::uint32_t> token{0};
  // Relaxed: a thread only compares it with its own mark, which it stored itself.
  std::atomic<const void*> holder{nullptr};
  alignas(64) MpscQueue commands;

  // Under the token.
  bool thread_runs = false;
  bool armed = false;
  bool ticking = false;
  bool must_flush = false;
  bool must_rearm = false;
  int quiet_ticks = 0;
  std::uint64_t polls = 0;
  std::uint64_t polls_at_tick = 0;

  // awake: set under the token, cleared by the thread before it requests kWatch.
  std::atomic<bool> awake{false};
  // Set by the thread before it requests kPoll (release through the token), cleared under the token.
  std::atomic<bool> fired{false};
  // Point for which the deadline timer is set, kForever when spent. Only ever too late by the thread's own doing, right
  // before it requests kPoll: the timer is then set again without need.
  std::atomic<Nanos> timer_set_for{kForever};
  std::atomic<bool> stopping{false};

  std::atomic<std::uint64_t> count_polls{0}, count_commands{0}, count_arms{0}, count_wakes{0}, count_ticks{0};
  static void count(std::atomic<std::uint64_t>& counter) {
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  int epoll_fd = -1, kick_fd = -1, tick_fd = -1, deadline_fd = -1;
  std::vector<int> event_fds;
  std::thread thread;

  bool mine() const { return holder.load(std::memory_order_relaxed) == &this_thread_mark; }
  void now_mine() { holder.store(&this_thread_mark, std::memory_order_relaxed); }

  bool take_if_free() {
    if (token.load(std::memory_order_relaxed) != 0) return false;
    std::uint32_t free = 0;
    if (!token.compare_exchange_strong(free, kHeld, std::memory_order_acquire, std::memory_order_relaxed)) return false;
    now_mine();
    return true;
  }
  /// Takes the token, or leaves `request` with its holder and returns false.
  bool take_or_request(std::uint32_t request) {
    std::uint32_t seen = token.load(std::memory_order_relaxed);
    // acq_rel: acquires the token from its last holder, or releases what the request is about to the present one.
    while (!token.compare_exchange_weak(seen, (seen & kHeld) != 0 ? seen | request : kHeld, std::memory_order_acq_rel,
                                        std::memory_order_relaxed)) {
    }
    if ((seen & kHeld) != 0) return false;
    now_mine();
    return true;
  }

  void run_commands() {
    while (MpscNode* node = commands.pop()) {
      auto* command = static_cast<Command*>(node);
      run_one(command);
    }
  }
  void run_one(Command* command) {
    must_flush = true;
    count(count_commands);
    command->run(command);
  }

  void let_go() {
    for (;;) {
      run_commands();
      if (must_flush) {
        must_flush = false;
        // What was sent may need polling to get out, and its timers may be due earlier.
        must_rearm = true;
        pollable.flush();
      }
      if (must_rearm) {
        must_rearm = false;
        if (armed) {
          do_poll();
          watch();
          continue;  // handlers may have posted
        }
      }
      holder.store(nullptr, std::memory_order_relaxed);
      std::uint32_t held = kHeld;
      if (token.compare_exchange_strong(held, 0, std::memory_order_release, std::memory_order_relaxed)) return;
      now_mine();
      // acquire: pairs with the release in take_or_request().
      const std::uint32_t asked = token.exchange(kHeld, std::memory_order_acq_rel);
      if ((asked & kPoll) != 0) {
        do_poll();
        if (armed) watch();
      }
      if ((asked & kWatch) != 0) watch();
    }
  }

  int do_poll() {
    ++polls;
    count(count_polls);
    return pollable.poll();
  }

  void unarm() {
    if (!armed) return;
    pollable.disarm();
    armed = false;
  }

  /// Establishes "watched" for a rank where nobody may poll for a while. Token held.
  void watch() {
    if (!thread_runs) return;
    if (core_free && !core_free()) {
      unarm();
      start_ticking();
      return;
    }
    for (int attempt = 0; attempt < kArmAttempts; ++attempt) {
      unarm();
      if (pollable.arm()) {
        armed = true;
        count(count_arms);
        if (fired.exchange(false, std::memory_order_relaxed)) enable_events(EPOLL_CTL_MOD);
        set_timer(pollable.next_deadline());
        return;
      }
      do_poll();
    }
    pollable.disarm();
    start_ticking();
    ring(kick_fd);
  }

  void start_ticking() {
    quiet_ticks = 0;
    if (ticking) return;
    ticking = true;
    set_tick(options.tick);
  }
  void set_tick(Nanos period) {
    itimerspec spec{};
    spec.it_interval.tv_nsec = period;
    spec.it_value.tv_nsec = period;
    timerfd_settime(tick_fd, 0, &spec, nullptr);
  }
  void set_timer(Nanos deadline) {
    // Set too early it costs one wake-up; setting it later each time would cost a system call.
    if (deadline >= timer_set_for.load(std::memory_order_relaxed)) return;
    timer_set_for.store(deadline, std::memory_order_relaxed);
    if (deadline < 1) deadline = 1;
    itimerspec spec{};
    spec.it_value.tv_sec = deadline / kSecond;
    spec.it_value.tv_nsec = deadline % kSecond;
    timerfd_settime(deadline_fd, TFD_TIMER_ABSTIME, &spec, nullptr);
  }
  void enable_events(int operation) {
    for (int fd : event_fds) {
      epoll_event event{};
      event.events = EPOLLIN | EPOLLONESHOT;
      event.data.fd = fd;
      TRIREME_CHECK(epoll_ctl(epoll_fd, operation, fd, &event) == 0, system_error("epoll_ctl on a transport's event"));
    }
  }
  void add_own(int fd) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    TRIREME_CHECK(fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0, system_error("progress descriptors"));
  }

  int try_poll() {
    if (!take_if_free()) return mine() ? 0 : -1;
    return poll_and_let_go();
  }
  int poll_and_let_go() {
    unarm();
    const int events = do_poll();
    if (thread_runs && !ticking && !awake.load(std::memory_order_relaxed)) start_ticking();
    let_go();
    return events;
  }

  void thread_main() {
    name_this_thread("trireme-poll");
    epoll_event events[16];
    while (!stopping.load(std::memory_order_acquire)) {
      const int ready = epoll_wait(epoll_fd, events, 16, -1);
      if (ready < 0) {
        TRIREME_CHECK(errno == EINTR, system_error("epoll_wait"));
        continue;
      }
      count(count_wakes);
      bool tick = false;
      bool poll = false;
      for (int i = 0; i < ready; ++i) {
        const int fd = events[i].data.fd;
        if (fd == tick_fd) {
          drain(fd);
          tick = true;
        } else if (fd == deadline_fd) {
          drain(fd);
          timer_set_for.store(kForever, std::memory_order_relaxed);
          poll = true;
        } else if (fd == kick_fd) {
          drain(fd);
          poll = true;
        } else {
          fired.store(true, std::memory_order_relaxed);
          poll = true;
        }
      }
      if (tick) on_tick();
      if (poll) on_event();
    }
  }

  void on_tick() {
    count(count_ticks);
    if (!take_if_free()) return;  // its holder is at work now, and the next tick comes
    if (armed) {
      if (++quiet_ticks >= 2) {
        ticking = false;
        set_tick(0);
      }
    } else if (polls == polls_at_tick) {
      // Nobody polled for a whole tick.
      do_poll();
      watch();
    }
    polls_at_tick = polls;
    let_go();
  }

  void on_event() {
    if (!take_or_request(kPoll)) return;
    awake.store(true, std::memory_order_relaxed);
    poll_and_let_go();
    // More is likely to come soon: stay for a while if that takes no core from compute threads, and if nobody else
    // polls.
    if (!core_free || core_free()) {
      Nanos until = SystemClock::read() + options.spin;
      while (!stopping.load(std::memory_order_relaxed)) {
        const int events = try_poll();
        if (events < 0) break;
        const Nanos now = SystemClock::read();
        if (events > 0) until = now + options.spin;
        if (now >= until) break;
        std::this_thread::yield();
      }
    }
    awake.store(false, std::memory_order_relaxed);
    if (take_or_request(kWatch)) {
      watch();
      let_go();
    }
  }
};

ProgressEngine::ProgressEngine(Pollable& pollable, ProgressOptions options)
    : impl_(std::make_unique<Impl>(pollable, options)) {}

ProgressEngine::~ProgressEngine() { stop(); }

void ProgressEngine::set_core_free_probe(std::function<bool()> probe) {
  while (!impl_->take_if_free()) std::this_thread::yield();
  impl_->core_free = std::move(probe);
  impl_->let_go();
}

void ProgressEngine::start() {
  Impl& engine = *impl_;
  TRIREME_CHECK(engine.epoll_fd < 0, "ProgressEngine::start() called twice");
  engine.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  TRIREME_CHECK(engine.epoll_fd >= 0, system_error("epoll_create1"));
  engine.kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  engine.tick_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  engine.deadline_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  for (int fd : {engine.kick_fd, engine.tick_fd, engine.deadline_fd}) engine.add_own(fd);
  for (int fd : engine.pollable.event_fds()) {
    if (fd >= 0) engine.event_fds.push_back(fd);
  }
  engine.enable_events(EPOLL_CTL_ADD);
  {
    const QuietSignals quiet;
    engine.thread = std::thread([&engine] { engine.thread_main(); });
  }
  while (!engine.take_if_free()) std::this_thread::yield();
  engine.thread_runs = true;
  engine.watch();
  engine.let_go();
}

void ProgressEngine::stop() {
  Impl& engine = *impl_;
  if (!engine.thread.joinable()) return;
  engine.stopping.store(true, std::memory_order_release);  // pairs with the acquire in thread_main()
  ring(engine.kick_fd);
  engine.thread.join();
  while (!engine.take_if_free()) std::this_thread::yield();
  engine.thread_runs = false;
  engine.unarm();
  // Nobody sleeps from now on. epoll_fd keeps its number: an engine is started once.
  for (int fd : {engine.epoll_fd, engine.kick_fd, engine.tick_fd, engine.deadline_fd}) close(fd);
  engine.let_go();
}

void ProgressEngine::post(Command* command) {
  Impl& engine = *impl_;
  if (engine.mine()) {
    engine.commands.push(command);  // drained before this thread lets go
    return;
  }
  if (engine.take_if_free()) {
    engine.run_commands();
    // Not empty only while another producer is half way; earlier commands of this thread may wait behind it.
    if (engine.commands.empty()) {
      engine.run_one(command);
    } else {
      engine.commands.push(command);
    }
    engine.let_go();
    return;
  }
  engine.commands.push(command);
  if (engine.take_or_request(kRun)) engine.let_go();
}

int ProgressEngine::try_poll() { return impl_->try_poll(); }

bool ProgressEngine::holds_token() const { return impl_->mine(); }

void ProgressEngine::leave_to_thread() {
  if (impl_->mine()) return;
  if (!impl_->take_or_request(kWatch)) return;
  impl_->watch();
  impl_->let_go();
}

ProgressEngine::Stats ProgressEngine::stats() const {
  const auto read = [](const std::atomic<std::uint64_t>& counter) { return counter.load(std::memory_order_relaxed); };
  return {read(impl_->count_polls), read(impl_->count_commands), read(impl_->count_arms), read(impl_->count_wakes),
          read(impl_->count_ticks)};
}

}  // namespace trireme::scheduler
