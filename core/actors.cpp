#include "core/actors.hpp"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "core/foreign_call.hpp"
#include "trireme/task.hpp"

namespace trireme::detail {

void ActorCell::destroy(Cell* cell) noexcept {
  auto* self = static_cast<ActorCell*>(cell);
  if (auto* actor = self->local.load(std::memory_order_acquire)) {
    // Never exported: this was the last handle, and every call before it is in the mailbox.
    if (!self->exported()) actor->end();
    actor->release();
  }
  delete self;
}

Value ActorCell::hosted_by(Rank rank) {
  Value value;
  value.bytes.resize(sizeof rank);
  std::memcpy(value.bytes.data(), &rank, sizeof rank);
  return value;
}

Rank ActorCell::host() const {
  Rank rank = kNoRank;
  const auto view = value().view();
  if (view.size() == sizeof rank) std::memcpy(&rank, view.data(), sizeof rank);
  return rank;
}

const CellOps ActorCell::kOps{destroy, typed, encode};

}  // namespace trireme::detail

namespace trireme::core {

namespace {

constexpr const char* kEnded = "the actor has ended: no handle on it was left";

/// A call that waits for its actor to be placed. Should the actor's cell go first, nothing will ever run the call.
struct WaitingCall {
  explicit WaitingCall(detail::CallBase* made) : call(made) {}
  WaitingCall(const WaitingCall&) = delete;
  WaitingCall& operator=(const WaitingCall&) = delete;
  ~WaitingCall() {
    if (call == nullptr) return;
    detail::ErrorInfo error;
    error.code = Errc::actor_died;
    error.message =
        "the actor's last handle went while it still waited to be placed, so this call never ran: keep the "
        "handle until its results are there";
    detail::fail_invocation(call, std::move(error));
    call->release();
  }
  detail::CallBase* take() { return std::exchange(call, nullptr); }
  detail::CallBase* call;
};

}  // namespace

Actors::~Actors() {
  for (auto& [id, actor] : hosted_) actor->release();
}

Cell* Actors::make_cell(ObjectId id) {
  auto* cell = new ActorCell;
  if (const auto at = hosted_.find(id); at != hosted_.end()) {
    at->second->retain();
    cell->complete(ActorCell::hosted_by(context_.self));
    cell->local.store(at->second, std::memory_order_release);
  }
  return cell;
}

void Actors::call(ActorCell* actor, detail::CallBase* call, std::span<const CellRef> deps) {
  if (auto* local = actor->local.load(std::memory_order_acquire);
      local != nullptr && actor->posted.load(std::memory_order_acquire) == 0) {
    bool here = true;
    for (const auto& dep : deps) here = here && (dep->ready() || !dep->exported());
    if (here) {
      // An argument that is pending in this rank alone; should its task be given away, its result is brought back
      // because this waiter is there (Refs::make_entry).
      detail::watch_deps(*local, call, deps, [](Cell*) {});
      local->retain();
      call->target = local;
      local->deliver(call);
      return;
    }
  }
  actor->posted.fetch_add(1, std::memory_order_acq_rel);
  detail::Value args;
  auto by_reference = static_cast<std::uint32_t>(deps.size());
  if (actor->local.load(std::memory_order_acquire) == nullptr)
    args = call->invocation->encode_args(call, by_reference);
  else
    args.refs.assign(deps.begin(), deps.end());
  post(*context_.host, [this, actor = CellRef::share(actor), call, args = std::move(args), by_reference]() mutable {
    auto* cell = static_cast<ActorCell*>(actor.get());
    route(cell, call, std::move(args), by_reference);
    cell->posted.fetch_sub(1, std::memory_order_acq_rel);
  });
}

void Actors::route(ActorCell* actor, detail::CallBase* call, detail::Value args, std::uint32_t deps) {
  if (!actor->ready()) {
    auto held = std::make_shared<WaitingCall>(call);
    actor->waiting.emplace_back([this, actor, held, args = std::move(args), deps](LocalActor* local) mutable {
      send_or_deliver(actor, local, held->take(), std::move(args), deps);
    });
    // The owner's placement hands on what waits; a borrower has to hear of it.
    if (auto* entry = actor->entry(); entry != nullptr && !entry->owned && actor->waiting.size() == 1) {
      refs_.when_located(actor, [this, keep = refs_.handle(*entry)] {
        auto* cell = static_cast<ActorCell*>(keep.get());
        for (auto& waiting : std::exchange(cell->waiting, {})) waiting(nullptr);
      });
    }
    return;
  }
  send_or_deliver(actor, actor->local.load(std::memory_order_acquire), call, std::move(args), deps);
}

void Actors::send_or_deliver(ActorCell* actor, LocalActor* local, detail::CallBase* call, detail::Value args,
                             std::uint32_t deps) {
  const std::vector<CellRef> wait(args.refs.begin(), args.refs.begin() + deps);
  const auto fail_with = [&](detail::ErrorInfo error) {
    detail::fail_invocation(call, std::move(error));
    call->release();
  };
  if (local != nullptr) {
    detail::watch_deps(*local, call, wait, [this](Cell* dep) { refs_.need(dep); });
    return local->deliver(call);
  }
  if (actor->form() == detail::CellForm::error) return fail_with(actor->error());
  const auto host = actor->host();
  auto& entry = refs_.export_cell(actor);
  if (host == context_.self) {
    return deliver_or_keep(entry.id, context_.self, call, wait);
  }
  if (host >= context_.size || !context_.alive(host)) {
    return fail_with(
        runtime_error(context_, Errc::actor_died, fmt::format("rank {}, which hosted the actor, died", host)));
  }
  // Made while the actor was thought to be local: encode now.
  if (args.bytes.empty()) args = call->invocation->encode_args(call, deps);
  const auto index = tasks_.expect_call(call, CellRef::share(actor), host);
  auto out = context_.begin(MessageType::actor_call);
  out.id(entry.id);
  out.varint(index);
  out.varint(call->extra != nullptr ? call->extra->elements.size() : 0);
  out.put(call->function->id);
  out.varint(deps);
  out.blob(args.view());
  refs_.write(out, args.refs, host, deps);
  context_.send(host);
  call->invocation->drop_args(call);
  call->release();
}

void Actors::on_call(Rank from, Reader& in) {
  const auto actor = in.id();
  auto item = std::make_unique<ForeignCall>(tasks_, context_, from);
  item->id = {from, in.varint()};
  item->returns = in.varint();
  item->function = in.get<std::uint64_t>();
  const auto deps = in.varint();
  const auto args = in.blob();
  item->args.bytes.assign(args.begin(), args.end());
  item->args.refs = refs_.read(in, from, deps);
  if (!in.done() || actor.owner >= context_.size || deps > item->args.refs.size() || item->returns > UINT16_MAX)
    return in.fail();
  const bool ours = actor.owner == context_.self;
  const auto has = ours ? refs_.right(from, actor, true) : Refs::Right::use;
  if (has == Refs::Right::none) return in.fail();
  auto* const entry = refs_.find(actor);
  // Not the caller's fault: somebody told it, or this rank, what is not so.
  if (has == Refs::Right::nothing ||
      (entry != nullptr && entry->cell->kind() != detail::CellKind::actor && !hosted_.contains(actor))) {
    auto* const refused = item.release();
    return refused->mail_ops->fail(refused, runtime_error(context_, Errc::actor_died, kEnded));
  }
  std::vector<CellRef> wait(item->args.refs.begin(), item->args.refs.begin() + static_cast<std::ptrdiff_t>(deps));
  auto* const raw = item.release();
  // A handle of an actor that this rank owns and hosts is registered when it is exported.
  if (entry != nullptr && !hosted_.contains(actor)) {
    if (auto* local = static_cast<ActorCell*>(entry->cell)->local.load(std::memory_order_acquire))
      return deliver(local, raw, wait);
  }
  deliver_or_keep(actor, from, raw, std::move(wait));
}

void Actors::deliver(LocalActor* actor, detail::MailItem* item, const std::vector<CellRef>& deps) {
  detail::watch_deps(*actor, item, deps, [this](Cell* dep) { refs_.need(dep); });
  actor->deliver(item);
}

void Actors::deliver_or_keep(ObjectId actor, Rank from, detail::MailItem* item, std::vector<CellRef> deps) {
  if (const auto at = hosted_.find(actor); at != hosted_.end()) return deliver(at->second, item, deps);
  if (const auto gone = never_comes(actor)) return item->mail_ops->fail(item, *gone);
  early_[actor].push_back({from, item, std::move(deps)});
}

/// Why an actor that is not here will not be created here either.
std::optional<detail::ErrorInfo> Actors::never_comes(ObjectId actor) const {
  if (!context_.alive(actor.owner))
    return runtime_error(context_, Errc::actor_died, fmt::format("rank {}, which owned the actor, died", actor.owner));
  if (actor.owner == context_.self) return runtime_error(context_, Errc::actor_died, kEnded);
  return std::nullopt;
}

void Actors::on_end(Rank from, Reader& in) {
  const auto id = in.id();
  if (!in.done() || id.owner != from) return in.fail();
  const auto at = hosted_.find(id);
  if (at == hosted_.end()) return;
  auto* actor = at->second;
  hosted_.erase(at);
  actor->end();
  actor->release();
}

void Actors::kill(ActorCell* actor) {
  auto error = runtime_error(context_, Errc::actor_died, fmt::format("the actor was killed by rank {}", context_.self));
  const auto* entry = actor->entry();
  if (entry == nullptr || entry->owned) return kill_owned(actor, std::move(error));
  // The owner frees the name and passes the kill on. The host is told by us too, so that our later calls find it dead.
  const auto send_kill = [&](Rank to) {
    if (to == context_.self || to >= context_.size || !context_.alive(to)) return;
    auto out = context_.begin(MessageType::actor_kill);
    out.id(entry->id);
    encode_error(out, error);
    context_.send(to);
  };
  send_kill(entry->id.owner);
  if (auto* local = actor->local.load(std::memory_order_acquire)) return local->kill(std::move(error));
  if (!actor->ready() || actor->form() == detail::CellForm::error) return;
  if (const auto host = actor->host(); host != entry->id.owner) send_kill(host);
}

void Actors::kill_owned(ActorCell* actor, detail::ErrorInfo error) {
  std::erase_if(detached_, [&](const CellRef& ref) { return ref.get() == actor; });
  if (!actor->name.empty() && on_name_free) on_name_free(std::exchange(actor->name, {}));
  if (auto* local = actor->local.load(std::memory_order_acquire)) return local->kill(std::move(error));
  if (const auto* entry = actor->entry(); entry != nullptr) {
    if (auto node = waiting_.extract(entry->id); !node.empty())
      return fail(actor, std::exchange(node.mapped()->construct, nullptr), std::move(error));
  }
  if (!actor->ready()) {
    actor->waiting.push_back([this, actor, error](LocalActor* local) {
      if (local != nullptr)
        local->kill(error);
      else
        kill_owned(actor, error);
    });
    return;
  }
  if (actor->form() == detail::CellForm::error) return;
  const auto host = actor->host();
  if (host >= context_.size || !context_.alive(host)) return;
  auto out = context_.begin(MessageType::actor_kill);
  out.id(refs_.export_cell(actor).id);
  encode_error(out, error);
  context_.send(host);
}

void Actors::on_kill(Rank from, Reader& in) {
  const auto id = in.id();
  auto error = decode_error(in);
  if (!in.done()) return in.fail();
  if (id.owner == context_.self) {
    const auto has = refs_.right(from, id, true);
    if (has == Refs::Right::none) return in.fail();
    if (has == Refs::Right::nothing) return;
    // kill_owned() may drop the last other handle.
    const auto keep = refs_.handle(*refs_.find(id));
    return kill_owned(static_cast<ActorCell*>(keep.get()), std::move(error));
  }
  // Not here: it has ended, or is not created yet; then the owner's own message follows the creation.
  if (const auto at = hosted_.find(id); at != hosted_.end()) at->second->kill(std::move(error));
}

void Actors::on_unreferenced(Entry& entry) {
  auto* cell = static_cast<ActorCell*>(entry.cell);
  if (!cell->name.empty() && on_name_free) on_name_free(cell->name);
  if (auto* local = cell->local.load(std::memory_order_acquire)) {
    local->end();
    if (const auto at = hosted_.find(entry.id); at != hosted_.end()) {
      at->second->release();
      hosted_.erase(at);
    }
    return;
  }
  waiting_.erase(entry.id);
  if (!cell->ready() || cell->form() == detail::CellForm::error) return;
  const auto host = cell->host();
  if (host >= context_.size || !context_.alive(host)) return;
  auto out = context_.begin(MessageType::actor_end);
  out.id(entry.id);
  context_.send(host);
}

void Actors::on_rank_dead(Rank dead) {
  // Its owner is gone: nobody will end it. Callers that still hold handles get owner_died-like errors from now on.
  std::vector<ObjectId> orphans;
  for (const auto& [id, actor] : hosted_) {
    if (id.owner == dead) orphans.push_back(id);
  }
  for (const auto& id : orphans) {
    auto* actor = hosted_.at(id);
    hosted_.erase(id);
    actor->kill(runtime_error(context_, Errc::actor_died, fmt::format("rank {}, which owned the actor, died", dead)));
    actor->release();
  }
  // Calls of an actor that will not be created any more, and those of the dead rank, which nobody waits for.
  std::vector<EarlyCall> lost;
  for (auto& [id, calls] : early_) {
    std::erase_if(calls, [&, owner = id.owner](EarlyCall& call) {
      if (owner != dead && call.from != dead) return false;
      lost.push_back(std::move(call));
      return true;
    });
  }
  std::erase_if(early_, [](const auto& item) { return item.second.empty(); });
  const auto error =
      runtime_error(context_, Errc::actor_died, fmt::format("rank {} died before the actor was created", dead));
  for (const auto& call : lost) call.item->mail_ops->fail(call.item, error);
}

void Actors::shut_down() {
  detached_.clear();
  for (auto& [id, actor] : hosted_) {
    actor->kill(runtime_error(context_, Errc::shutdown, "the job ends"));
    actor->release();
  }
  hosted_.clear();
}

}  // namespace trireme::core
