#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/wire.hpp"
#include "core/foreign_task.hpp"
#include "core/local_actor.hpp"
#include "python/native/call_kind.hpp"
#include "python/native/frames.hpp"
#include "trireme/detail/invocation.hpp"
#include "trireme/task.hpp"

namespace trireme::python {

/// A Python call apart from its references: what travels with it and what the worker needs.
struct CallText {
  SharedKind kind;
  Bytes args;  ///< a packed value; empty when `args_ref`
  std::uint32_t deps = 0;
  bool args_ref = false;  ///< large arguments are an object: the first reference, counted in `deps`
  std::uint64_t key = 0;  ///< names the call in the whole job; drawn by the rank that it comes from

  void encode(Writer& out) const { encode(out, kind->view(), args, deps, args_ref, key); }
  static void encode(Writer& out, const CallKindView& kind, BytesView args, std::uint32_t deps, bool args_ref,
                     std::uint64_t key);
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
  /// The same for one whose arguments are here and that no thread has; takes the reference over that a queue would
  /// have.
  virtual void submit(detail::TaskBase* task) = 0;
  /// Never blocks: the call is complete when the actor's constructor has returned.
  virtual void run_create(detail::CallBase* create) = 0;
  /// Never blocks. `object` is what run_create() made.
  virtual void run_call(detail::CallBase* call, void* object) = 0;
};
void set_runner(Runner* runner);
/// The functions that only start something in a worker process (core::Context::starters).
std::unordered_set<std::uint64_t> starters();

}  // namespace trireme::python
