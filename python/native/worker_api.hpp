#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "python/native/api.hpp"
#include "python/native/worker_link.hpp"
#include "python/native/worker_values.hpp"

namespace trireme::python {

/// One piece of work for a worker process.
struct WorkItem {
  enum class Kind : std::uint8_t { task, create, call, cancel };
  Kind kind = Kind::task;
  std::uint64_t token = 0;
  std::uint32_t attempt = 0;
  std::uint32_t returns = 1;
  bool streaming = false;
  std::vector<int> gpus;
  BytesView meta;  ///< within `message`
  std::string_view name;
  HeldValue args;         ///< null for the references that come resolved
  std::vector<Got> deps;  ///< those
  Message message;
};

/// The runtime as a worker process sees it: everything is asked of the rank over shared memory.
///
/// Threading: as Api; next() by one thread.
/// Errors:    as Api. The process ends when the rank is gone.
/// Lifetime:  one per process; outlives every reference and value that it gave out.
class WorkerApi final : public Api {
 public:
  /// Opens what the command names. Errors: Exception io, invalid_argument.
  explicit WorkerApi(const WorkerCommand& command);

  std::uint64_t worker_id() const { return command_.worker; }
  const std::string& env() const { return command_.env; }
  /// Nothing: end this process. The first call tells the rank that this process is ready.
  std::optional<WorkItem> next(const Check& interrupted);
  /// The same when it has come already, without waiting; nothing otherwise.
  std::optional<WorkItem> try_next();
  /// See WorkerLink: for a thread with an event loop, which takes work by try_next().
  void open_bell(const Check& interrupted);
  bool wait_in_loop(int descriptor, Nanos deadline) { return link_.wait_in_loop(descriptor, deadline); }
  bool has_work() { return link_.has_work(); }
  bool told_to_leave() { return link_.told_to_leave(); }
  void finish(std::uint64_t token, std::span<const ValueSource> results);
  void fail(std::uint64_t token, std::string_view message, std::string_view type, BytesView payload);
  /// Blocks while the consumer has too much unread.
  void yield_item(std::uint64_t token, const ValueSource& value, const Check& interrupted);
  /// Null in a worker for tasks.
  RefPtr myself(const Check& interrupted);
  void exit_actor();
  void set_label(std::string_view label);
  void note_interrupted(std::uint64_t token) { link_.page().interrupted.store(token, std::memory_order_release); }
  std::uint64_t cancelled() const { return link_.page().cancelled.load(std::memory_order_acquire); }

  // Api
  Rank rank() const override { return command_.rank; }
  std::uint32_t size() const override { return command_.size; }
  std::vector<RefPtr> submit(const CallSource& call, const CallerOptions* options) override;
  RefPtr create_actor(const CallSource& call, const CallerOptions& options, const Check& interrupted) override;
  std::vector<RefPtr> call(const RefPtr& actor, const CallSource& call) override;
  RefPtr cpp_submit(const CppSource& call, const CallerOptions* options) override;
  RefPtr cpp_create(const CppSource& call, const CallerOptions& options, int max_concurrency) override;
  RefPtr cpp_call(const RefPtr& actor, const CppSource& call) override;
  RefPtr put(const ValueSource& value, const Check& interrupted) override;
  std::vector<Got> get(std::span<const RefPtr> refs, Nanos deadline, const Check& interrupted) override;
  std::vector<bool> wait(std::span<const RefPtr> refs, std::size_t count, Nanos deadline,
                         const Check& interrupted) override;
  void watch(const RefPtr& ref, std::uint64_t token) override;
  std::vector<std::uint64_t> next_watched(const Check& interrupted) override;
  RefPtr stream_next(const RefPtr& stream) override;
  void kill(const RefPtr& actor, bool no_restart) override;
  RefPtr find_actor(const std::string& name, const Check& interrupted) override;
  void cancel(const RefPtr& ref, bool force, bool recursive) override;
  std::int64_t actor_rank(const RefPtr& actor, const Check& interrupted) override;
  std::optional<detail::ErrorInfo> failure(const RefPtr& ref, const Check& interrupted) override;
  ObjectId identify(const RefPtr& ref, const Check& interrupted) override;
  void export_blob(BytesView key, BytesView blob) override;
  Bytes imported(Rank rank, BytesView key, const Check& interrupted) override;
  GroupHandle create_group(GroupStrategy strategy, const std::vector<Resources>& bundles, const GroupLabels& labels,
                           const Check& interrupted) override;
  void remove_group(ObjectId id) override;
  std::string ranks(const Check& interrupted) override;
  std::string objects(const Check& interrupted) override;

 private:
  /// A value on its way out: its layout, and the arena's pin where it is large and filled in there.
  struct Outgoing {
    PackedLayout layout;
    std::uint64_t pin = 0;
  };
  Outgoing place(const ValueSource& value, const Check& interrupted);
  static void write(Writer& out, const ValueSource& value, const Outgoing& outgoing);
  void write_call(Writer& out, const CallSource& call, const CallerOptions* options);
  void write_cpp(Writer& out, const CppSource& call);
  std::vector<RefPtr> draw_results(const CallSource& call, bool of_actor);
  static void write_results(Writer& out, const std::vector<RefPtr>& results);

  /// What an answer says: `in` is behind its head. Errors: Exception as the rank says.
  struct Answered {
    Message message;
    Reader in;
  };
  Answered answered(Message message) const;
  Answered ask(std::uint64_t request, BytesView frame, const Check& interrupted);
  /// Waits to the deadline, then sends `then` with the request's number and waits on.
  Message await_or_tell(std::uint64_t request, Nanos deadline, Frame then, const Check& interrupted);
  void give_up(std::uint64_t request);
  WorkItem read_work(const Message& message, Reader& in, std::int32_t& slot);
  /// Nothing when the rank took it back.
  std::optional<WorkItem> take(const Message& message);
  bool claim(std::int32_t slot);

  const WorkerCommand command_;
  WorkerLink link_;
  WorkerValues values_;
  bool greeted_ = false;
  std::mutex watched_mutex_;
  std::unordered_map<std::uint64_t, std::weak_ptr<Reference>> watched_;
};

}  // namespace trireme::python
