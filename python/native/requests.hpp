#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "python/native/api.hpp"
#include "python/native/pool.hpp"
#include "trireme/group.hpp"
#include "trireme/task.hpp"

namespace trireme::python {

namespace cross {
struct ExportedCall;
}

/// A worker's get or wait that is not answered yet.
///
/// Threading: its counters from any thread, the rest under the pool's lock. Lifetime: held by the waiters it added.
struct OpenWait {
  std::uint32_t index = 0;  ///< of the worker
  std::uint64_t worker = 0;
  std::uint64_t request = 0;
  bool get = false;
  bool blocks = false;  ///< its task lends its CPU meanwhile
  std::vector<detail::CellRef> refs;
  std::atomic<std::int64_t> left{0};
  std::atomic<bool> fired{false};
  bool answered = false;
};

/// Placement groups that Python made, by id. Threading: any thread.
class GroupTable {
 public:
  static GroupTable& instance();
  ObjectId add(const PlacementGroup& group);
  void remove(ObjectId id);
  void clear();

 private:
  std::mutex mutex_;
  std::map<ObjectId, PlacementGroup> groups_;
};

/// Under which actors of Python are known to core::Names.
inline constexpr const char* kActorType = "a Python actor";

/// Copies into the text what the worker's rank must know of the options.
void apply(CallKindView& kind, const CallOptions& options);
void apply(CallText& text, const CallOptions& options);
/// Errors: Exception already_exists. Blocks when it has a name.
detail::CellRef create_python_actor(CallText text, std::vector<detail::CellRef> refs, const CallOptions& options);
/// One with a name, from any thread: `then` runs under the token, with the actor or why there is none.
void create_named_actor(CallText text, std::vector<detail::CellRef> refs, const CallOptions& options,
                        std::function<void(detail::CellRef, const detail::ErrorInfo*)> then);
/// Draws a key; unique in the job. That of an exported C++ call shows what it is.
std::uint64_t draw_key(Rank self);
std::uint64_t draw_exported_key(Rank self);
/// Who drew it.
Rank rank_of_key(std::uint64_t key);
/// JSON for Api::ranks(); under the token.
std::string describe_ranks(core::Session& session);
/// Submits a call whose arguments are complete. `stream`: of a streaming task, not watched yet.
struct MadeCall {
  std::vector<detail::CellRef> results;
  std::shared_ptr<Stream> stream;
  std::uint64_t stream_index = 0;
};
MadeCall prepare_task(CallText text, std::vector<detail::CellRef> refs, std::int64_t streaming,
                      detail::TaskBase*& task);
MadeCall prepare_call(CallText text, std::vector<detail::CellRef> refs, std::int64_t streaming,
                      detail::CallBase*& call);
void submit_prepared(Pool& pool, detail::TaskBase* task, const CallOptions& options);
/// Connects core::Cancels with the pool and with the exported calls of this process; before the first call.
void enable_cancelling(core::RankCore& core, Pool& pool);
/// Cancels the call that makes this cell, if it is known and has not ended. Where it waits for its arguments, it has
/// failed when this returns or soon after. Any thread.
void cancel_result(const detail::CellRef& result, core::CancelOptions options);
/// Which call of this rank makes this cell; 0: none that is under way.
std::uint64_t key_of_result(detail::Cell* result);
/// Whether a Python call of an actor makes this cell that was made in this rank and is under way.
bool makes_by_actor_call(detail::Cell* result);
Pool* the_pool();
void set_the_pool(Pool* pool);

/// What workers ask of their rank, and the answers.
///
/// Threading: with the pool's lock held, unless a method says otherwise.
class Requests {
 public:
  explicit Requests(Pool& pool) : pool_(pool) {}

  /// False: the frame breaks the protocol.
  bool handle(Worker& worker, Frame kind, Reader& in);
  /// Its process is gone.
  void drop(Worker& worker);

  // Writing to a worker.
  void write(Writer& out, Worker& worker, Packed packed);
  void write_refs(Writer& out, Worker& worker, std::span<const detail::CellRef> refs, std::size_t hidden = 0);
  std::uint64_t handle_for(Worker& worker, const detail::CellRef& cell);

  // Reading from one. Bad bytes make `in` bad.
  detail::Value read_value(Reader& in, Worker& worker);
  std::vector<detail::CellRef> read_refs(Reader& in, Worker& worker);
  detail::CellRef read_ref(Reader& in, Worker& worker);

  /// Not under the lock: answers a request of a worker, if it is still there.
  void answer(std::uint32_t index, std::uint64_t id, std::uint64_t request,
              const std::function<void(Writer&, Worker&)>& write);
  void answer_error(std::uint32_t index, std::uint64_t id, std::uint64_t request, const detail::ErrorInfo& error);

 private:
  void on_submit(Reader& in, Worker& worker);
  void on_create(Reader& in, Worker& worker);
  void on_call(Reader& in, Worker& worker);
  void on_wait(Reader& in, Worker& worker, bool get);
  void on_wait_now(Reader& in, Worker& worker, bool forget);
  void on_cpp_submit(Reader& in, Worker& worker);
  void on_cpp_create(Reader& in, Worker& worker);
  void on_cpp_call(Reader& in, Worker& worker);
  cross::ExportedCall read_cpp(Reader& in, Worker& worker);
  void on_room(Reader& in, Worker& worker);
  void on_find(Reader& in, Worker& worker);
  void on_imported(Reader& in, Worker& worker);
  void on_group(Reader& in, Worker& worker);
  void on_myself(Reader& in, Worker& worker);
  void on_identify(Reader& in, Worker& worker);
  void on_watch(Reader& in, Worker& worker);
  void on_release(Reader& in, Worker& worker);
  CallText read_text(Reader& in, Worker& worker, std::vector<detail::CellRef>& refs);
  void bind_results(Worker& worker, const std::vector<std::uint64_t>& handles, MadeCall& made);
  void keep(Worker& worker, std::uint64_t handle, detail::CellRef cell);
  void keep_exported(Worker& worker, std::uint64_t handle, detail::Invocation* call);
  void settle(const std::shared_ptr<OpenWait>& wait);
  void settle_with(const std::shared_ptr<OpenWait>& wait, std::vector<Packed> held);
  void note_child(Worker& worker, std::uint64_t key, const detail::CellRef& result);

  Pool& pool_;
};

}  // namespace trireme::python
