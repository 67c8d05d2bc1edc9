#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/wire.hpp"
#include "core/foreign_task.hpp"
#include "core/local_actor.hpp"
#include "python/native/frames.hpp"
#include "trireme/detail/invocation.hpp"
#include "trireme/task.hpp"

namespace trireme::python {

/// A Python call apart from its references: what travels with it and what the worker needs.
struct CallText {
  Bytes meta;  ///< the package's own; names the function
  Bytes args;  ///< a packed value; empty when `args_ref`
  std::string name;
  std::string env_key;  ///< tasks: the kind of worker that may run it
  std::string env;      ///< how to start such a worker, or the actor's
  std::uint32_t deps = 0;
  std::uint16_t returns = 1;
  bool args_ref = false;  ///< large arguments are an object: the first reference, counted in `deps`
  bool streaming = false;
  std::int32_t max_retries = 3;
  std::int32_t max_restarts = 0;      ///< actors
  std::int32_t max_task_retries = 0;  ///< actors
  double cpus = 1;
  double gpus = 0;
  bool placed = false;    ///< holds resources of the rank while it runs
  std::uint64_t key = 0;  ///< names the call in the whole job; drawn by the rank that it comes from
  ObjectId stream;        ///< where yielded values go: StreamTable of stream.owner

  void encode(Writer& out) const;
  /// Bad bytes make `in` bad.
  static CallText decode(Reader& in);
};

/// The Python side of an invocation, whatever its base.
struct CallBody {
  CallText text;
  std::vector<detail::CellRef> refs;  ///< the first text.deps are resolved before it runs
  core::RunningHolder holder;         ///< resources that it holds while it runs
};

CallBody& body_of(detail::Invocation* invocation);
/// Null unless the cell is the result of a Python call made in this rank.
CallBody* body_of_result(detail::Cell* cell);

detail::TaskBase* make_task(CallText text, std::vector<detail::CellRef> refs);
detail::CallBase* make_create(CallText text, std::vector<detail::CellRef> refs);
detail::CallBase* make_call(CallText text, std::vector<detail::CellRef> refs);

/// Completes the call's cells, unless the call was cancelled before. Any thread; waiters run on it.
void complete(detail::Invocation* invocation, std::vector<detail::Value> results);
/// A creation: `object` is the actor's.
void complete_create(detail::Invocation* create, detail::Object object);
void fail(detail::Invocation* invocation, detail::ErrorInfo error);

/// Runs calls in worker processes. One per process; set before the first call.
class Runner {
 public:
  virtual ~Runner() = default;
  /// Takes a share of the invocation. Never blocks.
  virtual void run_task(detail::TaskBase* task) = 0;
  /// Blocks the calling fiber or thread until the actor's constructor has returned.
  virtual void run_create(detail::CallBase* create) = 0;
  /// Never blocks. `object` is what run_create() made.
  virtual void run_call(detail::CallBase* call, void* object) = 0;
};
void set_runner(Runner* runner);

}  // namespace trireme::python
