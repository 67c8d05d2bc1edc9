#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "base/clock.hpp"
#include "base/mpsc_queue.hpp"

namespace trireme::scheduler {

/// What the progress engine drives: the protocol and the transport under it. Implemented by core.
///
/// Threading: every method only by the holder of the token (event_fds() before start() too).
class Pollable {
 public:
  virtual ~Pollable() = default;
  /// Polls the transport, runs due timers, flushes. Number of events, 0 when idle.
  virtual int poll() = 0;
  /// After commands ran: hands begun frames to the transport.
  virtual void flush() = 0;
  /// Asks for event_fds() to become readable; false when something waits already. May be called while armed.
  virtual bool arm() = 0;
  virtual void disarm() = 0;
  /// The next timer's point on SystemClock, kForever without one.
  virtual Nanos next_deadline() const = 0;
  /// Constant from start() to stop().
  virtual std::vector<int> event_fds() const = 0;
};

/// A step for protocol code, from any thread. Intrusive: whoever posts it owns its memory until `run`.
struct Command : MpscNode {
  void (*run)(Command* self) = nullptr;
};

struct ProgressOptions {
  Nanos spin = 50 * kMicrosecond;  ///< the dedicated thread, once woken, polls this long after the last event
  Nanos tick = kMillisecond;       ///< how often it looks while every core computes
};

/// The rank's progress token and the thread of last resort behind it.
///
/// Protocol state and the transport belong to the holder of one token. Whoever has nothing better to do takes it and
/// polls: idle compute threads, a thread blocked in get(), busy ones now and then between works. So a reply is handled
/// by the thread that waits for it, with no hand-over. A dedicated thread takes over when nobody polls: asleep in epoll
/// with the transport armed while a core is free (no CPU used while idle); at a millisecond tick while compute threads
/// fill every core, unarmed, so that peers need not ring and no message interrupts a task.
///
/// Threading: every method from any thread unless it says otherwise.
/// Errors:    start() aborts when the system refuses descriptors or a thread.
/// Lifetime:  stop() joins the thread and runs what was posted; commands posted later run in post().
class ProgressEngine {
 public:
  explicit ProgressEngine(Pollable& pollable, ProgressOptions options = {});
  ~ProgressEngine();
  ProgressEngine(const ProgressEngine&) = delete;
  ProgressEngine& operator=(const ProgressEngine&) = delete;

  /// Tells the dedicated thread whether compute threads leave a core free. Not from under the token; `probe` runs on
  /// any thread that holds it, must not block, and stays in use until the engine is destroyed or another is set.
  /// Without one a core counts as free. Executor sets it.
  void set_core_free_probe(std::function<bool()> probe);
  void start();
  void stop();

  /// Runs the command under the token: at once on this thread when the token is free, else by its holder before it
  /// lets go. Never blocks. Re-entrant: a command or handler that posts is queued behind itself.
  void post(Command* command);
  /// Takes the token if it is free and polls once. Events handled, 0 idle, -1 when another thread holds it.
  int try_poll();
  /// True in code that runs under the token on this thread.
  bool holds_token() const;
  /// A thread is about to sleep after polling: makes sure that somebody (the dedicated thread, armed) watches.
  /// May poll, and so run handlers, on this thread.
  void leave_to_thread();

  struct Stats {
    std::uint64_t polls = 0, commands = 0, arms = 0, wakes = 0, ticks = 0;
  };
  /// Approximate while threads run. `wakes`: of the dedicated thread, ticks included.
  Stats stats() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::scheduler
