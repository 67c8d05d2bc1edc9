// Actors: the rank that hosts one, and its creation there.
#include <fmt/format.h>

#include <utility>

#include "base/log.hpp"
#include "core/actors.hpp"
#include "core/demand.hpp"
#include "core/foreign_call.hpp"
#include "trireme/task.hpp"

namespace trireme::core {

namespace {

LocalActor* make_local(const Context& context, int max_concurrency, std::uint64_t construct) {
  auto* actor = new LocalActor(*context.host, max_concurrency);
  if (!context.starters.contains(construct)) return actor;
  // Its construction too only starts something, on the thread that brings it. No queue ever has it, so nobody who waits
  // for a call may take it from one.
  actor->object.pipelined = true;
  actor->claimed.store(true, std::memory_order_relaxed);
  return actor;
}

}  // namespace

CellRef Actors::spawn_here(detail::CallBase* construct, int max_concurrency) {
  auto* cell = new ActorCell;
  auto* actor = make_local(context_, max_concurrency, construct->function->id);
  cell->local.store(actor, std::memory_order_release);
  cell->complete(ActorCell::hosted_by(context_.self));
  actor->deliver(detail::make_construct_item(construct));
  return CellRef::adopt(cell);
}

void Actors::spawn_placed(ActorCell* cell, detail::CallBase* construct, const ActorOptions& options) {
  place(cell, construct, options);
}

void Actors::spawn_named(Names& names, detail::CallBase* construct, const ActorOptions& options, const char* type,
                         std::function<void(CellRef, const detail::ErrorInfo*)> then) {
  auto actor = CellRef::adopt(new ActorCell);
  post(*context_.host,
       [this, &names, construct, options, type, actor = std::move(actor), then = std::move(then)]() mutable {
         auto* cell = static_cast<ActorCell*>(actor.get());
         names.set(options.name, type, cell,
                   [this, construct, options, actor, cell, then = std::move(then)](const CellRef&,
                                                                                   const detail::ErrorInfo* error) {
                     if (error != nullptr) {
                       construct->release();
                       return then({}, error);
                     }
                     cell->name = options.name;
                     if (options.detached) detach(cell);
                     spawn_placed(cell, construct, options);
                     then(actor, nullptr);
                   });
       });
}

void Actors::fail(ActorCell* cell, detail::CallBase* construct, detail::ErrorInfo error) {
  auto waiting = std::exchange(cell->waiting, {});
  cell->complete_error(error);
  detail::fail_invocation(construct, std::move(error));
  construct->release();
  for (auto& call : waiting) call(nullptr);
}

LocalActor* Actors::host_here(const scheduler::Demand& demand, bool holds, std::int32_t bundle, int max_concurrency,
                              std::uint64_t function, detail::MailItem* construct, std::vector<CellRef> deps,
                              std::function<void(std::string)> refused) {
  auto* actor = make_local(context_, max_concurrency, function);
  detail::watch_deps(*actor, construct, deps, [this](Cell* dep) { refs_.need(dep); });
  if (!holds) {
    actor->deliver(construct);
    return actor;
  }
  // The construction waits behind an argument that "arrives" when the resources are there; calls queue up behind it.
  if (!construct->mail_deps) construct->mail_deps = std::make_shared<detail::MailDeps>();
  auto gate = construct->mail_deps;
  gate->left.fetch_add(1, std::memory_order_relaxed);
  actor->retain();
  auto holder = std::make_shared<scheduler::HolderId>(0);
  auto* host = context_.host;
  actor->on_end = [this, holder, host] {
    post(*host, [this, holder] {
      if (*holder != 0) holders_.release(*holder);
    });
  };
  actor->deliver(construct);
  const auto mine = holders_.next();
  *holder =
      holders_.offer(demand, bundle, UINT32_MAX, [this, actor, gate, refused, bundle, mine](Holders::Answer answer) {
        const bool granted = answer == Holders::Answer::granted;
        if (granted && bundle >= 0) {
          actor->retain();
          const std::shared_ptr<LocalActor> kept(actor, [](LocalActor* held) { held->release(); });
          holders_.when_revoked(mine, [this, kept] {
            kept->kill(runtime_error(context_, Errc::actor_died, "the placement group of the actor was removed"));
          });
        }
        if (!granted)
          actor->kill(
              runtime_error(context_, Errc::unschedulable, "the resources asked for an actor are not in this rank"));
        actor->dep_arrived(*gate);
        actor->release();
      });
  return actor;
}

/// Once the group has a place.
void Actors::place_in_group(ActorCell* cell, detail::CallBase* construct, const ActorOptions& options, ObjectId group) {
  tasks_.when_group(
      group, [this, cell = refs_.handle(refs_.export_cell(cell)), construct, options](const detail::ErrorInfo* error) {
        auto* actor = static_cast<ActorCell*>(cell.get());
        if (error != nullptr)
          fail(actor, construct, *error);
        else
          place(actor, construct, options);
      });
}

Actors::Waiting::~Waiting() {
  if (construct != nullptr) construct->release();
}

void Actors::place_waiting() {
  for (auto& [id, waiting] : std::exchange(waiting_, {})) {
    auto* entry = refs_.find(id);
    if (entry == nullptr) continue;
    const auto keep = refs_.handle(*entry);
    place(static_cast<ActorCell*>(keep.get()), std::exchange(waiting->construct, nullptr), waiting->options);
  }
}

void Actors::place(ActorCell* cell, detail::CallBase* construct, const ActorOptions& options) {
  Error bad;
  auto demand = demand_of(options.resources, options.placement, 0, bad);
  if (bad.code != Errc::unknown) return fail(cell, construct, runtime_error(context_, bad.code, bad.message));
  if (demand.strategy == scheduler::Strategy::placement_group && !cluster_.knows_group(demand.group)) {
    return place_in_group(cell, construct, options, demand.group);
  }
  Rank rank = context_.self;
  std::int32_t bundle = -1;
  const bool holds = !demand.resources.empty() || demand.strategy == scheduler::Strategy::placement_group;
  if (!holds && demand.strategy == scheduler::Strategy::normal && demand.labels.empty()) {
    // Nothing says where: ranks in turn, beginning with this one.
    for (std::uint32_t i = 0; i < context_.size; ++i) {
      rank = (context_.self + round_robin_++) % context_.size;
      if (cluster_.alive(rank) && cluster_.total(rank).cpu_units() > 0) break;
      rank = context_.self;
    }
  } else {
    reports_.refresh_own();
    // An actor stays where it is sent, and its parent may hold what this rank has of the group for as long as it lives.
    std::vector<Rank> avoid;
    if (demand.strategy == scheduler::Strategy::placement_group && demand.bundle < 0 &&
        !holders_.pool().could_acquire(demand.resources,
                                       scheduler::BundleKey{demand.group, scheduler::BundleKey::kAny}))
      avoid.push_back(context_.self);
    auto choice = cluster_.choose(demand, context_.rng, avoid);
    if (!choice && choice.error().code == Errc::unavailable && cluster_.can_grow()) {
      if (demand.strategy == scheduler::Strategy::placement_group)
        return place_in_group(cell, construct, options, demand.group);
      TRIREME_LOG(warning, "an actor waits: {}", choice.error().message);
      waiting_[refs_.export_cell(cell).id] = std::make_unique<Waiting>(construct, options);
      return;
    }
    if (!choice) return fail(cell, construct, runtime_error(context_, choice.error().code, choice.error().message));
    rank = choice->rank;
    bundle = choice->bundle;
  }
  std::vector<Cell*> cells(construct->invocation->deps(construct, nullptr));
  construct->invocation->deps(construct, cells.data());
  std::vector<CellRef> deps;
  for (auto* dep : cells) deps.push_back(CellRef::share(dep));
  if (rank == context_.self) {
    auto* actor = host_here(demand, holds, bundle, options.max_concurrency, construct->function->id,
                            detail::make_construct_item(construct), std::move(deps), {});
    for (auto& call : std::exchange(cell->waiting, {})) call(actor);
    cell->complete(ActorCell::hosted_by(rank));
    cell->local.store(actor, std::memory_order_release);
    if (auto* entry = cell->entry()) {
      actor->retain();
      hosted_[entry->id] = actor;
    }
    return;
  }
  auto& entry = refs_.export_cell(cell);
  std::uint32_t by_reference = 0;
  const auto args = construct->invocation->encode_args(construct, by_reference);
  auto out = context_.begin(MessageType::actor_create);
  out.id(entry.id);
  out.put(construct->function->id);
  out.varint(static_cast<std::uint64_t>(options.max_concurrency));
  out.put(static_cast<std::uint8_t>(holds));
  out.put(bundle);
  demand.encode(out);
  out.varint(by_reference);
  out.blob(args.view());
  refs_.write(out, args.refs, rank, by_reference);
  context_.send(rank);
  // What a bundle holds was taken when the group was.
  if (bundle < 0) reports_.takes(rank, demand.resources);
  construct->complete(ActorCell::hosted_by(rank));
  construct->release();
  cell->complete(ActorCell::hosted_by(rank));
  for (auto& call : std::exchange(cell->waiting, {})) call(nullptr);
}

void Actors::on_create(Rank from, Reader& in) {
  const auto id = in.id();
  auto item = std::make_unique<ForeignCall>(tasks_, context_, from);
  item->construct = true;
  item->function = in.get<std::uint64_t>();
  const auto concurrency = in.varint();
  const bool holds = in.get<std::uint8_t>() != 0;
  const auto bundle = in.get<std::int32_t>();
  const auto demand = scheduler::Demand::decode(in);
  const auto deps = in.varint();
  const auto args = in.blob();
  item->args.bytes.assign(args.begin(), args.end());
  item->args.refs = refs_.read(in, from, deps);
  if (!in.done() || id.owner != from || hosted_.contains(id) || deps > item->args.refs.size() || concurrency == 0 ||
      concurrency > 1'000'000)
    return in.fail();
  if (holds && bundle < 0) reports_.owe(from);
  std::vector<CellRef> wait(item->args.refs.begin(), item->args.refs.begin() + static_cast<std::ptrdiff_t>(deps));
  const auto function = item->function;
  auto* actor =
      host_here(demand, holds, bundle, static_cast<int>(concurrency), function, item.release(), std::move(wait), {});
  hosted_[id] = actor;
  auto early = early_.extract(id);
  if (!early.empty()) {
    for (const auto& call : early.mapped()) deliver(actor, call.item, call.deps);
  }
}

}  // namespace trireme::core
