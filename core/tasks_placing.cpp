// Tasks: where a task runs that waits for references or asks for resources.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.hpp"
#include "core/demand.hpp"
#include "core/tasks.hpp"
#include "core/when_local.hpp"
#include "trireme/task.hpp"

namespace trireme::core {

namespace {

constexpr std::size_t kBounceMax = 3;

detail::ErrorInfo info_of(const Context& context, const Error& error) {
  return runtime_error(context, error.code, error.message);
}

}  // namespace

struct Tasks::Placed {
  detail::TaskBase* task = nullptr;
  std::vector<CellRef> deps;
  std::size_t left = 1;
  bool automatic = false;  // no resources asked: only locality decides
};

void Tasks::submit_waiting(detail::TaskBase* task) {
  auto placed = std::make_shared<Placed>();
  placed->task = task;
  placed->automatic = true;
  place(std::move(placed));
}

void Tasks::submit_placed(detail::TaskBase* task) {
  auto placed = std::make_shared<Placed>();
  placed->task = task;
  place(std::move(placed));
}

void Tasks::place(std::shared_ptr<Placed> placed) {
  auto* task = placed->task;
  std::vector<Cell*> cells(task->invocation->deps(task, nullptr));
  task->invocation->deps(task, cells.data());
  for (auto* cell : cells) placed->deps.push_back(CellRef::share(cell));
  placed->left = cells.size() + 1;
  auto arrive = [this, placed] {
    if (--placed->left != 0) return;
    auto* t = placed->task;
    if (const auto* error = error_in(placed->deps)) return fail_task(t, *error);
    std::vector<std::pair<Rank, std::uint64_t>> bytes;
    for (const auto& dep : placed->deps) {
      const auto [rank, size] = refs_.place_of(dep.get());
      auto at = std::find_if(bytes.begin(), bytes.end(), [&, r = rank](auto& b) { return b.first == r; });
      if (at == bytes.end())
        bytes.emplace_back(rank, size);
      else
        at->second += size;
    }
    if (placed->automatic) {
      // Locality first: where most bytes lie, unless that is here or little.
      constexpr std::uint64_t kWorthMoving = 64 << 10;
      Rank best = context_.self;
      std::uint64_t here = 0, most = 0;
      for (const auto& [rank, size] : bytes) {
        if (rank == context_.self)
          here = size;
        else if (size > most && context_.alive(rank) && cluster_.total(rank).cpu_units() > 0)
          most = size, best = rank;
      }
      if (best != context_.self && most > here + kWorthMoving) {
        auto& pending = expect_task(t);
        pending.where = best;
        send_task(pending.spec, best);
        t->release();
        return;
      }
      when_local(context_, refs_, placed->deps, [this, t](const detail::ErrorInfo* error) {
        if (error != nullptr)
          fail_task(t, *error);
        else
          run_here(t);
      });
      return;
    }
    Error bad;
    auto demand = demand_of(t->extra->options.resources, t->extra->options.placement, 1, bad);
    if (bad.code != Errc::unknown) return fail_task(t, info_of(context_, bad));
    for (const auto& [rank, size] : bytes) demand.hints.push_back({rank, size});
    auto& pending = expect_task(t);
    pending.spec.placed = true;
    pending.spec.demand = std::move(demand);
    const auto index = pending.spec.id.index;
    t->release();
    if (pending.spec.demand.strategy == scheduler::Strategy::placement_group) return place_in_group(index);
    place_pending(index);
  };
  for (auto* cell : cells) refs_.when_located(cell, arrive);
  arrive();
}

/// Once the placement group has a place.
void Tasks::place_in_group(std::uint64_t index) {
  when_group(pending_.at(index).spec.demand.group, [this, index](const detail::ErrorInfo* error) {
    const auto at = pending_.find(index);
    if (at == pending_.end()) return;
    if (error == nullptr) return place_pending(index);
    Outcome outcome;
    outcome.error = std::make_unique<detail::ErrorInfo>(*error);
    complete(at->second, std::move(outcome));
  });
}

void Tasks::place_waiting() {
  for (const auto index : std::exchange(waiting_, {})) {
    const auto at = pending_.find(index);
    if (at == pending_.end()) continue;
    // Cancelled meanwhile: nobody waits for it.
    const auto& results = at->second.results;
    if (std::all_of(results.begin(), results.end(), [](const CellRef& result) { return result->ready(); }))
      pending_.erase(at);
    else
      place_pending(index);
  }
}

/// Chooses a rank for a pending placed task and sends it there (or starts it here).
void Tasks::place_pending(std::uint64_t index) {
  auto at = pending_.find(index);
  if (at == pending_.end()) return;
  auto& pending = at->second;
  reports_.refresh_own();
  const bool in_group = pending.spec.demand.strategy == scheduler::Strategy::placement_group;
  // It was removed, or lost a bundle, while this task was on its way; its owner says which.
  if (in_group && !cluster_.knows_group(pending.spec.demand.group)) {
    pending.where = kNoRank;
    return place_in_group(index);
  }
  auto choice = cluster_.choose(pending.spec.demand, context_.rng, pending.avoid);
  if (!choice && choice.error().code == Errc::unavailable && cluster_.can_grow()) {
    pending.where = kNoRank;
    if (in_group) return place_in_group(index);
    TRIREME_LOG(warning, "a task waits: {}", choice.error().message);
    waiting_.push_back(index);
    return;
  }
  if (!choice) {
    Outcome outcome;
    outcome.error = std::make_unique<detail::ErrorInfo>(info_of(context_, choice.error()));
    return complete(pending, std::move(outcome));
  }
  pending.where = choice->rank;
  pending.spec.bundle = choice->bundle;
  if (choice->only)
    pending.spec.bounced = UINT32_MAX;
  else if (pending.spec.bounced == UINT32_MAX)
    pending.spec.bounced = 0;
  if (choice->rank != context_.self) {
    send_task(pending.spec, choice->rank);
    // What a bundle holds was taken when the group was.
    if (choice->bundle < 0) reports_.takes(choice->rank, pending.spec.demand.resources);
    return;
  }
  TaskSpec copy = pending.spec;
  accept(std::move(copy));
}

void Tasks::on_bounced(Rank from, Reader& in) {
  const auto id = in.id();
  const auto attempt = in.varint();
  reports_.take(in, from);
  if (!in.done() || id.owner != context_.self) return in.fail();
  const auto at = pending_.find(id.index);
  if (at == pending_.end() || at->second.spec.attempt != attempt || at->second.where != from) return;
  place_elsewhere(at->second, from);
}

/// `refused` had no room for it.
void Tasks::place_elsewhere(Pending& pending, Rank refused) {
  if (pending.spec.bounced < UINT32_MAX - 1) ++pending.spec.bounced;
  pending.avoid.push_back(refused);
  if (pending.avoid.size() > kBounceMax) pending.avoid.clear();
  place_pending(pending.spec.id.index);
}

}  // namespace trireme::core
