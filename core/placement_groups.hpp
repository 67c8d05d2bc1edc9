#pragma once

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "core/holders.hpp"
#include "core/refs.hpp"
#include "core/reports.hpp"
#include "scheduler/placement.hpp"
#include "scheduler/placement_group.hpp"

namespace trireme::core {

/// Placement groups as tasks, actors and other ranks see them: who waits until a group has its place, and who asks
/// its owner where that is. The bundles themselves are the coordinator's.
///
/// Threading: under the token. Errors: not_found (removed), owner_died, and what the coordinator says.
class PlacementGroups final : private scheduler::GroupHost {
 public:
  using Then = std::function<void(const detail::ErrorInfo*)>;
  PlacementGroups(Context& context, Refs& refs, Holders& holders, scheduler::ClusterView& cluster,
                  scheduler::ResourcePool& pool, Reports& reports, std::uint64_t seed);

  /// `ready` becomes ready with the group.
  ObjectId create(scheduler::GroupStrategy strategy, std::vector<scheduler::Resources> bundles,
                  scheduler::BundleRules rules, CellRef ready);
  void remove(ObjectId id);
  /// `then` runs once the view knows the group, or with why it never will.
  void when(ObjectId id, Then then);

  /// Of the coordinator of another rank.
  Status on_message(Rank from, BytesView message) {
    return coordinator_.on_message(from, message, context_.clock->now());
  }
  void on_lookup(Rank from, Reader& in);
  void on_info(Rank from, Reader& in);
  void on_rank_lost(Rank dead) { coordinator_.on_rank_lost(dead, context_.clock->now()); }
  /// Who waits for a group of that rank hears of it.
  void fail_groups_of(Rank dead);
  void on_rank_joined() { coordinator_.on_rank_joined(context_.clock->now()); }
  void on_resources_freed() { coordinator_.on_resources_freed(context_.clock->now()); }
  Nanos next_deadline() const { return coordinator_.next_deadline(); }
  void run_timers();

  /// Created here and not removed.
  std::size_t groups() const { return coordinator_.groups(); }

 private:
  struct Group {
    CellRef ready;
    scheduler::GroupPlacement placement;
    bool placed = false;
    std::unique_ptr<detail::ErrorInfo> failed;
    std::vector<Then> waiting;
    std::vector<Rank> askers;
  };
  void answer(Rank to, ObjectId id);

  void send(Rank to, BytesView message) override;
  void takes(Rank to, const scheduler::Resources& amount) override { reports_.takes(to, amount); }
  void gives_back(Rank to, const scheduler::Resources& amount) override { reports_.gives_back(to, amount); }
  void owe_report(Rank creator) override { reports_.owe(creator); }
  void put_report(Writer& out, Rank to) override { reports_.put(out, to); }
  void take_report(Reader& in, Rank from) override { reports_.take(in, from); }
  void refresh_view() override { reports_.refresh_own(); }
  void group_ready(scheduler::GroupId id, const scheduler::GroupPlacement& placement) override;
  void group_failed(scheduler::GroupId id, const Error& error) override;
  void bundles_lost(scheduler::GroupId id, const std::vector<std::uint32_t>& bundles) override;
  bool group_waits(scheduler::GroupId id, const Error& error) override;
  void bundle_revoked(scheduler::BundleKey bundle) override { holders_.revoke(bundle); }

  Context& context_;
  Refs& refs_;
  Holders& holders_;
  scheduler::ClusterView& cluster_;
  Reports& reports_;
  scheduler::GroupCoordinator coordinator_;
  /// This rank's, and those of others while an answer is awaited.
  std::unordered_map<ObjectId, Group> table_;
};

}  // namespace trireme::core
