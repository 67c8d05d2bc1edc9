#include "core/placement_groups.hpp"

#include <fmt/format.h>

#include "base/log.hpp"

namespace trireme::core {

PlacementGroups::PlacementGroups(Context& context, Refs& refs, Holders& holders, scheduler::ClusterView& cluster,
                                 scheduler::ResourcePool& pool, Reports& reports, std::uint64_t seed)
    : context_(context),
      refs_(refs),
      holders_(holders),
      cluster_(cluster),
      reports_(reports),
      coordinator_(context.self, cluster, pool, *this, seed) {}

ObjectId PlacementGroups::create(scheduler::GroupStrategy strategy, std::vector<scheduler::Resources> bundles,
                                 scheduler::BundleRules rules, CellRef ready) {
  const auto id = refs_.new_id();
  auto& group = table_[id];
  group.ready = std::move(ready);
  auto status = coordinator_.create(id, strategy, std::move(bundles), context_.clock->now(), std::move(rules));
  if (!status.ok()) group_failed(id, status.error());
  return id;
}

void PlacementGroups::remove(ObjectId id) {
  coordinator_.remove(id);
  cluster_.erase_group(id);
  auto node = table_.extract(id);
  if (node.empty()) return;
  // Who waits for a place in it waits for ever otherwise.
  const auto error = runtime_error(context_, Errc::not_found, "the placement group was removed");
  for (auto& then : node.mapped().waiting) then(&error);
  for (const auto rank : node.mapped().askers) answer(rank, id);
  auto& ready = node.mapped().ready;
  if (ready && !ready->ready()) ready->complete_error(error);
}

void PlacementGroups::send(Rank to, BytesView message) {
  auto out = context_.begin(MessageType::group);
  out.raw(message);
  context_.send(to);
}

void PlacementGroups::group_ready(scheduler::GroupId id, const scheduler::GroupPlacement& placement) {
  auto& group = table_[id];
  group.placement = placement;
  group.placed = true;
  cluster_.set_group(id, placement);
  if (group.ready && !group.ready->ready()) group.ready->complete({});
  for (auto& then : std::exchange(group.waiting, {})) then(nullptr);
  for (const auto rank : std::exchange(group.askers, {})) answer(rank, id);
}

void PlacementGroups::group_failed(scheduler::GroupId id, const Error& error) {
  auto& group = table_[id];
  group.placed = false;
  group.failed = std::make_unique<detail::ErrorInfo>(runtime_error(context_, error.code, error.message));
  cluster_.erase_group(id);
  if (group.ready && !group.ready->ready()) group.ready->complete_error(*group.failed);
  for (auto& then : std::exchange(group.waiting, {})) then(group.failed.get());
  for (const auto rank : std::exchange(group.askers, {})) answer(rank, id);
}

bool PlacementGroups::group_waits(scheduler::GroupId id, const Error& error) {
  if (!cluster_.can_grow()) return false;
  table_[id].placed = false;
  cluster_.erase_group(id);
  TRIREME_LOG(warning, "a placement group waits for ranks to join, or until it is removed: {}", error.message);
  return true;
}

void PlacementGroups::bundles_lost(scheduler::GroupId id, const std::vector<std::uint32_t>&) {
  table_[id].placed = false;
  cluster_.erase_group(id);
}

void PlacementGroups::when(ObjectId id, Then then) {
  if (id.owner != context_.self && !table_.contains(id)) {
    if (!context_.alive(id.owner)) {
      const auto error = runtime_error(context_, Errc::owner_died,
                                       fmt::format("rank {}, which made the placement group, died", id.owner));
      return then(&error);
    }
    auto out = context_.begin(MessageType::group_lookup);
    out.id(id);
    context_.send(id.owner);
  }
  const auto known = table_.find(id);
  if (id.owner == context_.self && known == table_.end()) {
    const auto error = runtime_error(context_, Errc::not_found, "the placement group was removed");
    return then(&error);
  }
  auto& group = table_[id];
  if (group.failed) return then(group.failed.get());
  if (group.placed) return then(nullptr);
  group.waiting.push_back(std::move(then));
}

void PlacementGroups::fail_groups_of(Rank dead) {
  for (auto& [id, group] : table_) {
    if (id.owner != dead || group.placed || group.failed) continue;
    group.failed = std::make_unique<detail::ErrorInfo>(
        runtime_error(context_, Errc::owner_died, fmt::format("rank {}, which made the placement group, died", dead)));
    for (auto& then : std::exchange(group.waiting, {})) then(group.failed.get());
  }
}

void PlacementGroups::run_timers() {
  const auto deadline = next_deadline();
  if (deadline == kForever) return;
  if (const auto now = context_.clock->now(); deadline <= now) coordinator_.on_timer(now);
}

void PlacementGroups::on_lookup(Rank from, Reader& in) {
  const auto id = in.id();
  if (!in.done() || id.owner != context_.self) return in.fail();
  const auto at = table_.find(id);
  if (at != table_.end() && !at->second.placed && !at->second.failed) {
    at->second.askers.push_back(from);
    return;
  }
  answer(from, id);
}

void PlacementGroups::answer(Rank to, ObjectId id) {
  const auto at = table_.find(id);
  auto out = context_.begin(MessageType::group_info);
  out.id(id);
  if (at == table_.end()) {
    out.put(std::uint8_t{1});
    encode_error(out, runtime_error(context_, Errc::not_found, "the placement group was removed"));
  } else if (at->second.failed) {
    out.put(std::uint8_t{1});
    encode_error(out, *at->second.failed);
  } else {
    out.put(std::uint8_t{0});
    at->second.placement.encode(out);
  }
  context_.send(to);
}

void PlacementGroups::on_info(Rank from, Reader& in) {
  const auto id = in.id();
  const bool failed = in.get<std::uint8_t>() != 0;
  detail::ErrorInfo error;
  scheduler::GroupPlacement placement;
  if (failed)
    error = decode_error(in);
  else
    placement = scheduler::GroupPlacement::decode(in);
  if (!in.done() || id.owner != from) return in.fail();
  auto node = table_.extract(id);
  if (node.empty()) return;
  // Asked again for every use: bundles may move when a rank dies.
  if (!failed) cluster_.set_group(id, placement);
  for (auto& then : node.mapped().waiting) then(failed ? &error : nullptr);
}

}  // namespace trireme::core
