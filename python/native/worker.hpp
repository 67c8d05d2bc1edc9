#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "core/local_actor.hpp"
#include "python/native/channel.hpp"
#include "trireme/detail/cell.hpp"

namespace trireme::python {

struct ActorProcess;
struct Worker;

/// A value or error on its way to a worker, held in place.
struct Packed {
  detail::Value value;
  std::unique_ptr<detail::ErrorInfo> error;
};

/// A call under way in a worker.
struct InFlight {
  std::uint64_t token = 0;
  detail::CellRef call;
  Worker* worker = nullptr;
  std::int32_t slot = -1;  ///< of the pipeline; tasks
  std::uint32_t attempt = 0;
  bool cancelled = false;
  Nanos sent = 0;
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
  std::string env_key;
  std::string label;

  std::deque<std::uint64_t> tasks;  ///< tokens in the order in which they were sent
  std::unordered_set<std::uint64_t> calls;  ///< tokens of an actor's calls
  double task_nanos = 1e9;          ///< running mean of how long its tasks take
  Nanos last_done = 0;
  bool counted = false;             ///< in Pool::running_
  std::uint32_t waits = 0;          ///< requests under way that block it
  ActorProcess* actor = nullptr;

  /// References that the process holds, by the handles that frames name them with. Odd handles are drawn by the worker.
  std::unordered_map<std::uint64_t, detail::CellRef> handles;
  std::uint64_t next_handle = 2;
  /// Values it reads in place.
  std::unordered_map<std::uint64_t, detail::Buffer> pins;
  std::uint64_t next_pin = 1;
  /// Space it fills.
  std::unordered_map<std::uint64_t, detail::Buffer> rooms;

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
  Bytes create_text;                       ///< kept for a restart
  std::vector<detail::CellRef> create_refs;
  Worker* worker = nullptr;
  bool constructed = false;  ///< by the present process
  bool ending = false;       ///< its last handle is gone, or it asked for its end
  bool killed = false;
  bool exiting = false;      ///< exit_actor()
  std::int32_t restarts_left = 0;
  std::int32_t task_retries = 0;
  std::string name;
  struct Outgoing {
    detail::CellRef call;
    std::uint32_t attempt = 0;
    bool ready = false;  ///< its arguments are held in place
    std::vector<Packed> deps;
  };
  std::deque<std::shared_ptr<Outgoing>> outbox;  ///< in order
  std::function<void()> created;  ///< runs once the first construction ended, well or not
};

}  // namespace trireme::python
