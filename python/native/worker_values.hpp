#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "python/native/api.hpp"
#include "python/native/wire.hpp"
#include "python/native/worker_link.hpp"

namespace trireme::python {

/// A reference as a worker holds it: a handle that its rank knows.
class WorkerRef final : public Reference, public Returned {
 public:
  WorkerRef(std::uint64_t handle, bool ready, bool of_actor_call = false)
      : ready_(ready), of_actor_call_(of_actor_call) {
    number = handle;
    count = 1;
  }
  bool ready() const override { return ready_.load(std::memory_order_relaxed); }
  std::uint64_t key() const override { return number; }
  bool of_actor_call() const override { return of_actor_call_ && !ready(); }
  void set_ready() { ready_.store(true, std::memory_order_relaxed); }
  bool identified(ObjectId& id) const override {
    // acquire: pairs with identify(); an index is never 0.
    id.index = id_index_.load(std::memory_order_acquire);
    id.owner = id_owner_.load(std::memory_order_relaxed);
    return id.index != 0;
  }
  /// The rank said so. Again and again does no harm.
  void identify(ObjectId id) {
    id_owner_.store(id.owner, std::memory_order_relaxed);
    id_index_.store(id.index, std::memory_order_release);
  }

 private:
  std::atomic<bool> ready_;
  const bool of_actor_call_;
  std::atomic<Rank> id_owner_{0};
  std::atomic<std::uint64_t> id_index_{0};
};

/// References and values between a worker and its rank.
///
/// Threading: any thread.
/// Lifetime:  outlives the references and values that it gave out; like the link, which it must not outlive.
class WorkerValues {
 public:
  WorkerValues(WorkerLink& link, const WorkerCommand& command);

  /// A handle for something new; the rank is told with the next frame.
  std::shared_ptr<WorkerRef> draw(bool ready = false, bool of_actor_call = false);
  /// Null for handle 0. One live reference per handle.
  RefPtr receive(std::uint64_t handle);
  std::vector<RefPtr> read_refs(Reader& in);
  static void write_refs(Writer& out, std::span<const RefPtr> refs);
  /// Errors: Exception invalid_argument for None.
  static std::uint64_t handle_of(const RefPtr& ref);
  static WorkerRef& of(const RefPtr& ref) { return static_cast<WorkerRef&>(*ref); }

  /// `message` is what `in` reads.
  Got read_value(Reader& in, const Message& message);
  /// A packed value in a message: in place where nothing in it needs alignment, else copied.
  static HeldValue hold(BytesView blob, const Message& message);
  /// Space that `room` gave; given back when the result is destroyed with its pin.
  std::span<std::byte> space(const Located& at);
  void give_back_pin(std::uint64_t pin);

 private:
  BytesView locate(const Located& at);
  void on_return(const Returned& returned);

  WorkerLink& link_;
  const Rank rank_;
  std::atomic<std::uint64_t> next_handle_{1};
  transport::Mapping arena_;
  std::mutex arenas_mutex_;
  std::map<std::uint32_t, transport::Mapping> arenas_;  ///< of other ranks
  std::mutex refs_mutex_;                               ///< nothing is destroyed under it
  std::unordered_map<std::uint64_t, std::weak_ptr<WorkerRef>> refs_;
};

}  // namespace trireme::python
