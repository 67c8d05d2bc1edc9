#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "python/native/api.hpp"
#include "python/native/channel.hpp"

namespace trireme::python {

/// What the rank told the template process for one worker: see Pool::start_worker().
struct WorkerCommand {
  std::uint64_t worker = 0;
  std::uint32_t index = 0;
  Rank rank = 0;
  std::uint32_t size = 1;
  int rank_pid = 0;
  int file_fd = -1, board_fd = -1, bell_fd = -1, arena_fd = -1;
  std::uint64_t arena_bytes = 0;
  std::string env;

  /// From JSON. Errors: Exception invalid_argument.
  static WorkerCommand parse(std::string_view text);
};

/// Something that goes back to the rank once nobody in this process has it: a reference, or a value read in place.
struct Returned {
  virtual ~Returned() = default;
  Returned* next = nullptr;
  std::uint64_t number = 0;  ///< a handle or a pin
  std::uint64_t count = 0;   ///< how often the handle was received; 0: a pin
};

/// A frame as it came, kept while anything points into it.
using Message = std::shared_ptr<const Bytes>;

/// What an answer that nobody waits for any more holds, so that it can be given back.
enum class Late : std::uint8_t { nothing, handle, values, room };

/// A worker's line to its rank: the ring pair, who reads it, what was asked and not answered yet, and what goes back.
///
/// No thread of its own: of the threads that wait for something, one reads the ring and hands what comes to the others;
/// when it has what it waited for, it passes the reading on.
///
/// Threading: any thread. give_back() never blocks on a lock and takes none of the interpreter's.
/// Errors:    Exception unavailable in a process that was forked off this one. When the rank is gone or breaks the
///            protocol, this process ends.
/// Lifetime:  outlives everything that is given back to it.
class WorkerLink {
 public:
  explicit WorkerLink(const WorkerCommand& command);
  WorkerLink(const WorkerLink&) = delete;
  WorkerLink& operator=(const WorkerLink&) = delete;

  void send(BytesView frame);
  /// Takes it over; the rank hears of it at once, or from whoever is sending.
  void give_back(Returned* returned) noexcept;
  /// Runs before something given back is destroyed; under the lock of send(), so it must not send.
  std::function<void(const Returned&)> on_return;
  /// Gives back what an answer holds that came too late. On a thread that waits, under no lock.
  std::function<void(Late, Message, Reader&)> on_late;

  /// A number for a request, which is then waited for.
  std::uint64_t open(Late late);
  /// The answer: a reader behind the request's number. Null at the deadline; then the request stays open.
  /// Errors: Interrupted; the answer is given back then.
  Message await(std::uint64_t request, Nanos deadline, const Api::Check& interrupted);

  /// The next `work` or `cancel` frame; null when the process is to end.
  Message next_work(const Api::Check& interrupted);
  /// The same when it has come already; else null.
  Message try_next_work();

  /// For a thread with an event loop, which takes work by try_next_work() and waits by wait_in_loop(). It goes on for
  /// as long as it likes after told_to_leave(). A pipe that wakes it, once the rank knows of it: the descriptor to
  /// write to. Errors: Exception io.
  int make_bell();
  /// Until there is work, this process is told to end, `descriptor` is ready to read, or the deadline. True: it is
  /// ready or a signal came.
  bool wait_in_loop(int descriptor, Nanos deadline);
  /// Whether there is something to do without waiting.
  bool has_work();
  bool told_to_leave();

  /// Tokens of watched references that became ready; empty when the process is to end.
  std::vector<std::uint64_t> next_events(const Api::Check& interrupted);

  WorkerPage& page() const { return end_.page(); }
  int rank_pid() const { return rank_pid_; }
  /// The rank broke the protocol.
  [[noreturn]] static void broken(const char* what);

 private:
  using Lock = std::unique_lock<std::mutex>;
  struct Request {
    Message answer;
    Late late = Late::nothing;
    bool given_up = false;
  };
  /// A thread that waits while another one reads.
  struct Sleeper {
    const void* on = nullptr;
    std::condition_variable woken;
  };

  template <class Done>
  bool wait(Lock& lock, const void* on, Nanos deadline, const Api::Check& interrupted, Done done);
  BytesView receive_soon(Nanos deadline);
  BytesView receive_until(Nanos deadline);
  bool loop_has_work() const { return !work_.empty() || leave_is_new_; }
  void ring_loop();
  void dispatch(BytesView frame);
  void wake(const void* on);
  void pass_on();
  void drop_late(Lock& lock);
  void flush() noexcept;
  void write_returned();
  void check_rank() const;

  int rank_pid_;
  transport::Fd file_fd_, board_fd_, bell_, pidfd_;
  transport::Mapping file_, board_;
  WorkerEnd end_;
  Nanos spin_;

  std::mutex send_mutex_;
  Bytes scratch_;
  std::atomic<Returned*> returned_{nullptr};

  // Never held while sending or calling out.
  std::mutex mutex_;
  bool reading_ = false;
  std::vector<Sleeper*> sleepers_;
  std::uint64_t next_request_ = 1;
  std::unordered_map<std::uint64_t, Request> requests_;
  std::vector<std::pair<Late, Message>> late_;
  std::deque<Message> work_;
  std::vector<std::uint64_t> events_;
  bool leaving_ = false;
  bool leave_is_new_ = false;   // to the event loop
  bool loop_sleeps_ = false;    // in poll()
  transport::Fd loop_bell_[2];  // ends to read and to write
};

}  // namespace trireme::python
