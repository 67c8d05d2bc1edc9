#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/clock.hpp"
#include "base/wire.hpp"
#include "python/native/call_kind.hpp"
#include "python/native/wire.hpp"
#include "trireme/error.hpp"
#include "trireme/group.hpp"

namespace trireme::python {

/// A counted reference as the package holds it: a cell in a rank's process, a handle in a worker's.
///
/// Threading: immutable; the last owner may be any thread, with or without the interpreter's lock.
class Reference {
 public:
  virtual ~Reference() = default;
  /// get would return at once; in a worker: this process knows that it would.
  virtual bool ready() const = 0;
  /// Equal for references to one object in one process.
  virtual std::uint64_t key() const = 0;
  /// It is ready and holds an error, as far as this process knows.
  virtual bool failed() const { return false; }
  /// A call of an actor makes it that was made in this process; false also when such a call is over.
  virtual bool of_actor_call() const { return false; }
  /// True: its id, when this process knows it already; else Api::identify().
  virtual bool identified(ObjectId&) const { return false; }
  /// True: the packed value (empty: None), when it is there, short and holds no references. Valid with the reference.
  virtual bool look(BytesView&) const { return false; }
};
using RefPtr = std::shared_ptr<Reference>;

/// A value in place: a packed blob (unpack()), what keeps it there, and the references in it.
struct HeldValue {
  BytesView blob;
  std::shared_ptr<const void> keep;
  std::vector<RefPtr> refs;
};
/// Not there (yet), there, or failed.
using Got = std::variant<std::monostate, HeldValue, detail::ErrorInfo>;

/// A value to be packed. The spans stay valid during the call they are given to.
struct ValueSource {
  BytesView data;
  std::span<const BytesView> buffers;
  std::span<const RefPtr> refs;
};

struct CallSource {
  BytesView meta;
  ValueSource args;  ///< the first `deps` of args.refs are resolved before it runs
  std::uint32_t deps = 0;
  std::uint32_t returns = 1;
  std::string_view name;
  std::int64_t streaming = -1;  ///< 0 or more: yields values; so many may wait unread, 0: any number
};

/// The attributes of the package's Options.
struct CallerOptions {
  CallOptions call;
  std::int32_t max_restarts = 0;
  std::int32_t max_task_retries = 0;
  std::string env_key, env;
};

/// Of its options only what the call's kind is made of, not what CallOptions has.
CallKindView kind_of(const CallSource& call, const CallerOptions* options);

/// A call of what a C++ library exports (python/cross).
struct CppSource {
  std::string_view library, name;
  ValueSource args;              ///< without references
  std::span<const RefPtr> deps;  ///< all are resolved before it runs
};

struct GroupHandle {
  RefPtr ready;
  ObjectId id;
};

/// What the package can ask of the runtime, from a rank's process (RankApi) or a worker's (WorkerApi).
///
/// Threading: any thread, without the interpreter's lock; blocking calls block the calling thread only.
/// Errors:    Exception with an Errc; TimeoutError where a timeout is given. `interrupted` is called now and then by
///            blocking calls; when it returns true they give up and throw Interrupted.
struct Interrupted {};
class Api {
 public:
  using Check = std::function<bool()>;
  virtual ~Api() = default;
  virtual Rank rank() const = 0;
  virtual std::uint32_t size() const = 0;

  virtual std::vector<RefPtr> submit(const CallSource& call, const CallerOptions* options) = 0;
  virtual RefPtr create_actor(const CallSource& call, const CallerOptions& options, const Check& interrupted) = 0;
  virtual std::vector<RefPtr> call(const RefPtr& actor, const CallSource& call) = 0;
  virtual RefPtr cpp_submit(const CppSource& call, const CallerOptions* options) = 0;
  virtual RefPtr cpp_create(const CppSource& call, const CallerOptions& options, int max_concurrency) = 0;
  virtual RefPtr cpp_call(const RefPtr& actor, const CppSource& call) = 0;
  virtual RefPtr put(const ValueSource& value, const Check& interrupted) = 0;
  /// One entry per reference. All there, or as soon as one of them failed; then others may not be there.
  virtual std::vector<Got> get(std::span<const RefPtr> refs, Nanos deadline, const Check& interrupted) = 0;
  /// True where references hold what is ready: then settle() is the waiting part of get(). Not in workers.
  virtual bool settles() const { return false; }
  /// Until all are ready or one of them failed. Errors: TimeoutError.
  virtual void settle(std::span<const RefPtr>, Nanos, const Check&) {}
  virtual std::vector<bool> wait(std::span<const RefPtr> refs, std::size_t count, Nanos deadline,
                                 const Check& interrupted) = 0;
  virtual void watch(const RefPtr& ref, std::uint64_t token) = 0;
  virtual std::vector<std::uint64_t> next_watched(const Check& interrupted) = 0;
  virtual RefPtr stream_next(const RefPtr& stream) = 0;
  virtual void kill(const RefPtr& actor, bool no_restart) = 0;
  virtual RefPtr find_actor(const std::string& name, const Check& interrupted) = 0;
  virtual void cancel(const RefPtr& ref, bool force, bool recursive) = 0;
  virtual std::int64_t actor_rank(const RefPtr& actor, const Check& interrupted) = 0;
  /// How it failed, when it is known here that it did; never fetches the value.
  virtual std::optional<detail::ErrorInfo> failure(const RefPtr& ref, const Check& interrupted) = 0;
  virtual ObjectId identify(const RefPtr& ref, const Check& interrupted) = 0;
  virtual void export_blob(BytesView key, BytesView blob) = 0;
  virtual Bytes imported(Rank rank, BytesView key, const Check& interrupted) = 0;
  /// `labels`: empty, or per bundle what its rank must have.
  virtual GroupHandle create_group(GroupStrategy strategy, const std::vector<Resources>& bundles,
                                   const GroupLabels& labels, const Check& interrupted) = 0;
  virtual void remove_group(ObjectId id) = 0;
  /// JSON: a list of {rank, alive, node, host, pid, cpus, total, available, labels}.
  virtual std::string ranks(const Check& interrupted) = 0;
  /// JSON: describe_objects() of this rank.
  virtual std::string objects(const Check& interrupted) = 0;
};

}  // namespace trireme::python
