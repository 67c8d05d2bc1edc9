#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/local_actor.hpp"
#include "python/native/call.hpp"
#include "python/native/channel.hpp"
#include "python/native/stream.hpp"
#include "trireme/detail/cell.hpp"

namespace trireme::python {

struct ActorProcess;
struct Worker;

/// A value or error on its way to a worker, held in place.
struct Packed {
  bool here = false;  ///< of a get: it was there in time
  detail::Value value;
  std::unique_ptr<detail::ErrorInfo> error;
};

/// The values of a streaming task that are on their way to the consumer; the task's end waits for them.
///
/// Threading: any thread.
struct Drain {
  void begin();
  void done();
  /// Runs `step` once nothing is on its way.
  void end(std::function<void()> step);

 private:
  std::mutex mutex_;
  std::uint64_t waiting_ = 0;
  std::function<void()> end_;
};

/// A cancelled task that does not notice is interrupted again after this time, then after twice as long each time.
inline constexpr Nanos kInterruptAgain = 10 * kMillisecond;
inline constexpr Nanos kInterruptRarest = kSecond;

/// A call under way in a worker.
struct InFlight : CachedBlock {
  std::uint64_t token = 0;
  detail::CellRef call;
  Worker* worker = nullptr;
  std::int32_t slot = -1;  ///< of the pipeline; tasks
  std::uint32_t attempt = 0;
  bool cancelled = false;
  bool revoked = false;  ///< the resources that it holds were taken back
  bool actor_call = false;
  Nanos sent = 0;
  std::uint64_t yielded = 0;            ///< values of a streaming task
  std::shared_ptr<struct Drain> drain;  ///< streaming tasks
  /// What it submitted: the key, and the first result, which may be gone.
  struct Child {
    std::uint64_t key = 0;
    const detail::Cell* result = nullptr;
  };
  std::vector<Child> children;
};

/// What the rank knows of one worker process.
struct Worker {
  std::uint32_t index = 0;
  std::uint64_t id = 0;  ///< drawn anew for every process
  int pid = 0;
  MemoryFile file;
  RankEnd end;
  bool greeted = false;
  bool gone = false;
  bool used = false;          ///< a task has been sent to it
  bool end_at_start = false;  ///< killed before its pid was known
  std::string env_key;
  std::string label;

  std::deque<std::uint64_t> tasks;          ///< tokens in the order in which they were sent
  std::unordered_set<std::uint64_t> calls;  ///< tokens of an actor's calls
  std::uint32_t cancels = 0;                ///< how many of these were cancelled
  double task_nanos = 1e9;                  ///< running mean of how long its tasks take
  Nanos last_done = 0;
  bool counted = false;     ///< in Pool::running_
  std::uint32_t waits = 0;  ///< requests under way that block it
  std::vector<int> gpus;    ///< that its task holds
  std::shared_ptr<ActorProcess> actor;

  /// References that the process holds, see frames.hpp.
  struct Handle {
    detail::CellRef cell;
    std::uint64_t given = 0;  ///< how often the worker got it; it gives all back
  };
  std::unordered_map<std::uint64_t, Handle> handles;
  std::unordered_map<const detail::Cell*, std::uint64_t> handle_of;
  std::unordered_map<std::uint64_t, std::unique_ptr<StreamConsumer>> streams;
  std::uint64_t next_handle = 2;
  /// Values it reads in place, and space it fills.
  std::unordered_map<std::uint64_t, detail::Buffer> pins;
  std::uint64_t next_pin = 1;
  /// Its gets and waits under way, by request.
  std::unordered_map<std::uint64_t, std::shared_ptr<struct OpenWait>> open;

  transport::Fd output[2];       ///< read ends of its stdout and stderr
  transport::Fd output_in[2];    ///< write ends, until the process has opened them
  std::string line[2];           ///< begun
  std::deque<std::string> tail;  ///< last lines, for its obituary
};

/// An actor's process, or the successor that is being started.
///
/// Threading: under the pool's lock. Lifetime: counted by the actor's object and by its worker.
struct ActorProcess : std::enable_shared_from_this<ActorProcess> {
  class Pool* pool = nullptr;
  detail::LocalActor* actor = nullptr;  ///< counted
  detail::CellRef create;
  Bytes create_text;  ///< kept for a restart
  std::vector<detail::CellRef> create_refs;
  Worker* worker = nullptr;
  bool constructed = false;  ///< by the present process
  bool ending = false;       ///< its last handle is gone, or it asked for its end
  bool killed = false;
  bool exiting = false;                    ///< exit_actor()
  std::optional<detail::ErrorInfo> death;  ///< why it was killed
  std::int32_t restarts_left = 0;
  std::uint32_t restarts = 0;  ///< so far
  std::int32_t task_retries = 0;
  std::string name;
  std::string env;
  std::vector<int> gpus;
  double gpu_amount = 0;
  std::uint64_t key = 0;  ///< of the creation: names the actor to the rank that it comes from
  struct Outgoing {
    detail::CellRef call;
    std::uint32_t attempt = 0;
    bool ready = false;  ///< its arguments are held in place
    std::vector<Packed> deps;
  };
  std::deque<std::shared_ptr<Outgoing>> outbox;  ///< in order
  bool first = true;  ///< its first construction has not ended; `create` is the one that the creator made
};

/// Puts the call's arguments in place; false when one of them was evicted: recall_deps() brings it back.
bool hold_deps(const CallBody& body, std::vector<Packed>& deps);
/// On a compute thread; fails the call when they are lost.
void recall_deps(core::Host& host, detail::CellRef call, std::function<void(std::vector<Packed>)> then);
/// An argument that failed: the call fails with it.
const detail::ErrorInfo* failed_dep(const CallBody& body);

}  // namespace trireme::python
