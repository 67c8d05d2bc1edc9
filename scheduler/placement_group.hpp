#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "scheduler/placement.hpp"

namespace trireme::scheduler {

/// A node is all ranks of one node id. Bundles never span ranks.
enum class GroupStrategy : std::uint8_t {
  pack = 0,           ///< as few nodes as found, no promise
  spread = 1,         ///< as many nodes as found, no promise
  strict_pack = 2,    ///< one node or an error
  strict_spread = 3,  ///< no two bundles on one node or an error
};

/// Finds a rank per bundle: among what is free now if that works, else among the totals.
/// unschedulable when the totals of the living ranks cannot hold it, with what was asked and what exists. Exact for
/// strict_spread; the packings search exhaustively within a step limit, so that the error is exact for all but large,
/// contrived groups.
struct BundlePlan {
  /// What it counts on: what the view says is free, the totals of ranks that were not `tried`, or those of all.
  enum class From : std::uint8_t { free, untried, all };
  std::vector<Rank> ranks;
  From from = From::free;
};
/// `fixed` (empty, or one per bundle, kNoRank where open): bundles that stay where they are. `busy`: ranks that count
/// as full now, whatever the view says. `tried`: when none are free, others are taken first, for the view may be wrong
/// about them too. `rules` (empty, or one per bundle): labels that its rank must have.
Result<BundlePlan> plan_bundles(const ClusterView& view, GroupStrategy strategy, const std::vector<Resources>& bundles,
                                const std::vector<Rank>& fixed = {}, const std::vector<Rank>& busy = {},
                                const std::vector<Rank>& tried = {}, const BundleRules& rules = {});

/// What the group protocol asks of core. Called only from within calls to GroupCoordinator; must not call it back.
class GroupHost {
 public:
  virtual ~GroupHost() = default;
  virtual void send(Rank to, BytesView message) = 0;
  /// Creator: what was just sent takes `amount` there, or gives it back (see ClusterView::assume).
  virtual void takes(Rank to, const Resources& amount) = 0;
  virtual void gives_back(Rank to, const Resources& amount) = 0;
  /// Participant: such a message came, so its creator is to hear what is free here.
  virtual void owe_report(Rank creator) = 0;
  /// What is free here, as part of a message to `to`; and what that rank said so, for the view.
  virtual void put_report(Writer& out, Rank to) = 0;
  virtual void take_report(Reader& in, Rank from) = 0;
  /// Creator, before it plans: the view is to know what is free here.
  virtual void refresh_view() = 0;
  /// Creator: all bundles are reserved. Also after bundles of a dead rank found a new place.
  virtual void group_ready(GroupId id, const GroupPlacement& placement) = 0;
  /// Creator: it can never be placed (again). The group is forgotten.
  virtual void group_failed(GroupId id, const Error& error) = 0;
  /// Creator: no ranks that are there can hold it (any more). True: it waits until on_rank_joined(); false: it fails.
  virtual bool group_waits(GroupId id, const Error& error) {
    (void)id, (void)error;
    return false;
  }
  /// Creator: these bundles' rank died; tasks for them wait until the next group_ready.
  virtual void bundles_lost(GroupId id, const std::vector<std::uint32_t>& bundles) = 0;
  /// Participant: the bundle is gone (removed, or its creator died): end its holders and its queued demands.
  virtual void bundle_revoked(BundleKey bundle) = 0;
};

/// Placement groups in two phases: the creating rank plans, asks every rank concerned to reserve (PREPARE), and commits
/// when all did (PREPARED), else gives everything back (RELEASE) and waits.
///
/// A rank that refuses remembers the group and sends FREED once the group's bundles fit there; the creator then plans
/// anew with that rank's fresh availability. Competing groups cannot block each other for good: a failed attempt holds
/// nothing, and attempts restart after a random delay that grows with their number, to one a second at most. What the
/// creator knows of the others' availability may be old: attempts that no free resources are known for go round.
///
/// Both roles live in one object per rank; a message to oneself goes through GroupHost::send like any other. Messages
/// of a pair of ranks must arrive in order. The creator's view knows the group while it is ready. Threading: only the
/// holder of the rank's progress token. Errors:    on_message() returns malformed for bytes that make no sense; late
/// messages of older attempts are ignored. Lifetime:  pool, view and host outlive it.
class GroupCoordinator {
 public:
  static constexpr std::size_t kBundlesMax = 1U << 20U;

  GroupCoordinator(Rank self, ClusterView& view, ResourcePool& pool, GroupHost& host, std::uint64_t seed);
  ~GroupCoordinator();

  /// What can never be placed is an error at once unless the host lets it wait; else group_ready comes later, or
  /// group_failed after deaths. `rules`: as for plan_bundles().
  Status create(GroupId id, GroupStrategy strategy, std::vector<Resources> bundles, Nanos now, BundleRules rules = {});
  void remove(GroupId id);

  Status on_message(Rank from, BytesView message, Nanos now);
  /// Tells the view as well.
  void on_rank_lost(Rank rank, Nanos now);
  /// The view knows it: groups that wait are planned anew.
  void on_rank_joined(Nanos now);
  /// This rank's pool got something back: tells creators that were refused here.
  void on_resources_freed(Nanos now);
  Nanos next_deadline() const;
  void on_timer(Nanos now);

  bool pending(GroupId id) const;
  std::size_t groups() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::scheduler
