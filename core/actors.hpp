#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/local_actor.hpp"
#include "core/names.hpp"
#include "core/tasks.hpp"
#include "trireme/options.hpp"

namespace trireme::detail {

/// What a handle on an actor points to. As a cell its value is the rank that hosts the actor.
struct ActorCell final : Cell {
  ActorCell() : Cell(&kOps, CellKind::actor) {}
  /// The value of the cell of an actor that `rank` hosts.
  static Value hosted_by(Rank rank);
  /// kNoRank for a cell without such a value.
  Rank host() const;

  /// The mailbox when the actor lives in this rank. Written under the token (release) once no earlier call is on its
  /// way through the protocol; read by callers (acquire).
  std::atomic<LocalActor*> local{nullptr};
  /// Calls posted to the protocol and not yet handled there: later ones must not overtake them.
  std::atomic<std::uint32_t> posted{0};
  /// Under the token: calls made before the host was known; given the mailbox when that is here.
  std::vector<std::function<void(LocalActor*)>> waiting;
  std::string name;  // owner: registered name, if any

 private:
  static void destroy(Cell* cell) noexcept;
  static const void* typed(const Cell*) noexcept { return nullptr; }
  static Value encode(const Cell* cell) { return cell->value(); }
  static const CellOps kOps;
};

}  // namespace trireme::detail

namespace trireme::core {

using detail::ActorCell;
using detail::LocalActor;

/// Actors between ranks: where they are placed, calls to those elsewhere, calls from elsewhere, their end.
///
/// A caller's calls to one actor travel on one FIFO link in the order they were made, so no numbers are needed. The
/// owner (the rank that spawned it) ends the actor when no handle is left; replies hold the caller's handle, so no call
/// is under way then.
///
/// Threading: under the token unless it says otherwise.
class Actors {
 public:
  Actors(Context& context, Refs& refs, Holders& holders, Tasks& tasks, scheduler::ClusterView& cluster,
         Reports& reports)
      : context_(context), refs_(refs), holders_(holders), tasks_(tasks), cluster_(cluster), reports_(reports) {}
  ~Actors();
  /// Tells the name registry that a named actor ended.
  std::function<void(const std::string&)> on_name_free;

  /// Any thread: an actor without resources, in this rank.
  CellRef spawn_here(detail::CallBase* construct, int max_concurrency);
  void spawn_placed(ActorCell* cell, detail::CallBase* construct, const ActorOptions& options);
  /// Any thread: once rank 0 has registered options.name. `then` runs under the token; with an error there is no actor.
  void spawn_named(Names& names, detail::CallBase* construct, const ActorOptions& options, const char* type,
                   std::function<void(CellRef actor, const detail::ErrorInfo* error)> then);
  /// Any thread. Takes the call over.
  void call(ActorCell* actor, detail::CallBase* call, std::span<const CellRef> deps);
  void kill(ActorCell* actor);
  /// Keeps the actor until kill().
  void detach(ActorCell* actor) { detached_.push_back(CellRef::share(actor)); }

  Cell* make_cell(ObjectId id);
  void on_create(Rank from, Reader& in);
  void on_call(Rank from, Reader& in);
  void on_end(Rank from, Reader& in);
  void on_kill(Rank from, Reader& in);
  void on_unreferenced(Entry& entry);
  void on_rank_dead(Rank dead);
  /// Ranks joined or died: actors that wait because they fit none are looked at again.
  void place_waiting();
  /// At the end of the session: what waits is never placed.
  void drop_waiting() { waiting_.clear(); }
  std::size_t hosted() const { return hosted_.size(); }
  /// Actors with calls that came before their creation.
  std::size_t early() const { return early_.size(); }
  /// The end of the job: kills all hosted actors so that their destructors run.
  void shut_down();

 private:
  void kill_owned(ActorCell* actor, detail::ErrorInfo error);
  void route(ActorCell* actor, detail::CallBase* call, detail::Value args, std::uint32_t deps);
  void send_or_deliver(ActorCell* actor, LocalActor* local, detail::CallBase* call, detail::Value args,
                       std::uint32_t deps);
  void place(ActorCell* cell, detail::CallBase* construct, const ActorOptions& options);
  LocalActor* host_here(const scheduler::Demand& demand, bool holds, std::int32_t bundle, int max_concurrency,
                        std::uint64_t function, detail::MailItem* construct, std::vector<CellRef> deps,
                        std::function<void(std::string)> refused);
  void place_in_group(ActorCell* cell, detail::CallBase* construct, const ActorOptions& options, ObjectId group);
  void fail(ActorCell* cell, detail::CallBase* construct, detail::ErrorInfo error);
  void deliver(LocalActor* actor, detail::MailItem* item, const std::vector<CellRef>& deps);
  void deliver_or_keep(ObjectId actor, Rank from, detail::MailItem* item, std::vector<CellRef> deps);
  std::optional<detail::ErrorInfo> never_comes(ObjectId actor) const;

  Context& context_;
  Refs& refs_;
  Holders& holders_;
  Tasks& tasks_;
  scheduler::ClusterView& cluster_;
  Reports& reports_;
  std::unordered_map<ObjectId, LocalActor*> hosted_;
  /// Calls that arrived from a third rank before the owner's create.
  struct EarlyCall {
    Rank from = kNoRank;
    detail::MailItem* item = nullptr;
    std::vector<CellRef> deps;
  };
  std::unordered_map<ObjectId, std::vector<EarlyCall>> early_;
  std::vector<CellRef> detached_;
  /// An owned actor that fits no rank that is there.
  struct Waiting {
    Waiting(detail::CallBase* made, ActorOptions asked) : construct(made), options(std::move(asked)) {}
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
    ~Waiting();
    detail::CallBase* construct;  ///< nullptr once somebody else has it
    ActorOptions options;
  };
  std::map<ObjectId, std::unique_ptr<Waiting>> waiting_;
  std::uint32_t round_robin_ = 0;
};

}  // namespace trireme::core
