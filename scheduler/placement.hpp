#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/ids.hpp"
#include "base/result.hpp"
#include "base/rng.hpp"
#include "scheduler/resources.hpp"
#include "scheduler/resources_pool.hpp"

namespace trireme::scheduler {

using Labels = std::map<std::string, std::string>;

/// One condition on a rank's labels; all conditions of a demand must hold.
struct LabelRule {
  enum class Op : std::uint8_t { in = 0, not_in = 1, exists = 2, does_not_exist = 3 };
  std::string key;
  Op op = Op::exists;
  std::vector<std::string> values;  ///< for in and not_in

  /// A rank without the key satisfies not_in and does_not_exist.
  bool holds(const Labels& labels) const;
  std::string text() const;
  bool operator==(const LabelRule&) const = default;
};

/// What each bundle of a placement group asks of the labels of its rank; empty: nothing, of any.
using BundleRules = std::vector<std::vector<LabelRule>>;

enum class Strategy : std::uint8_t { normal = 0, spread = 1, node_affinity = 2, placement_group = 3 };

struct LocalityHint {
  Rank rank = kNoRank;
  std::uint64_t bytes = 0;  ///< of the task's arguments that lie there
  bool operator==(const LocalityHint&) const = default;
};

/// Where a task or an actor may run.
struct Demand {
  Resources resources;
  Strategy strategy = Strategy::normal;
  std::vector<LocalityHint> hints;  ///< normal: the rank with most bytes comes first
  Rank affinity_rank = kNoRank;     ///< node_affinity: this rank,
  std::string affinity_node;        ///< or, when that is kNoRank, any rank of this node id
  bool soft = false;                ///< node_affinity: elsewhere when that place is dead, unknown or too small
  GroupId group;                    ///< placement_group
  std::int32_t bundle = -1;         ///< placement_group: this bundle, or any with -1
  std::vector<LabelRule> labels;

  bool operator==(const Demand&) const = default;
  std::string text() const;
  void encode(Writer& out) const;
  /// Makes `in` bad when the bytes break the format.
  static Demand decode(Reader& in);
};

/// What every rank tells at the start; encoded into a Member blob.
struct RankInfo {
  Resources total;
  std::string node_id;
  Labels labels;
  bool operator==(const RankInfo&) const = default;
  void encode(Writer& out) const;
  static RankInfo decode(Reader& in);
};

/// Where a rank of the job stands. Without seats (docs/decisions/010) all are taken at the start.
enum class Seat : std::uint8_t {
  empty = 0,   ///< nobody has come yet
  coming = 1,  ///< known here, maybe not to everybody yet: nothing is placed there
  taken = 2,
  dead = 3,
};

struct Choice {
  Rank rank = kNoRank;
  /// False: every place known is busy. Send it nevertheless: the target queues it or bounces it (PlacementQueue).
  bool fits_now = true;
  std::int32_t bundle = -1;  ///< placement_group: the bundle chosen; with any allowed, one of that rank's
  bool only = false;         ///< placement_group: all bundles are of this rank, so nobody else could take it
};

/// A committed placement group as a chooser sees it: bundle i is reserved on `ranks[i]`.
struct GroupPlacement {
  std::vector<Resources> bundles;
  std::vector<Rank> ranks;
  void encode(Writer& out) const;
  static GroupPlacement decode(Reader& in);
  bool operator==(const GroupPlacement&) const = default;
};

/// One rank's picture of the job: what every rank has (exact) and what is free there (as last heard).
///
/// Ranks with equal totals and labels are one class, so a job of 100,000 equal ranks costs one class and an index.
/// choose() looks at the classes first: what fits no class is an error at once.
///
/// Threading: only the holder of the rank's progress token.
/// Errors:    unschedulable with what was asked and what exists; not_found for a group not told by set_group();
///            invalid_argument for a bundle index that the group does not have.
class ClusterView {
 public:
  /// `can_grow`: what fits nowhere now waits instead (Choice is then an `unavailable` error with the same text).
  /// `seats`: empty, or one per rank; what `ranks` says of an empty seat does not count.
  ClusterView(Rank self, std::vector<RankInfo> ranks, bool can_grow = false, const std::vector<Seat>& seats = {});
  ~ClusterView();

  Rank self() const;
  std::uint32_t size() const;
  bool can_grow() const;
  /// Something may be placed there.
  bool alive(Rank rank) const;
  /// It was announced, and may not be known to everybody yet.
  bool comes(Rank rank) const;
  void on_rank_lost(Rank rank);
  /// A rank comes to an empty seat: what others say of it counts from now on.
  void on_rank_coming(Rank rank, RankInfo info);
  /// Everybody knows it: from now on it is chosen.
  void on_rank_joined(Rank rank);
  /// What `rank` reported when it had got the first `heard` messages of this rank; older versions than known are
  /// ignored.
  void update(Rank rank, std::uint64_t version, const Resources& available, std::uint64_t heard = UINT64_MAX);
  /// As last heard, less what assume() took and plus what expect() gave since.
  Resources available(Rank rank) const;
  const Resources& total(Rank rank) const;  ///< nothing for an empty seat
  const std::string& node_id(Rank rank) const;
  const Labels& labels(Rank rank) const;
  std::uint32_t nodes() const;
  std::uint32_t node_of(Rank rank) const;                            ///< 0 to nodes() - 1
  const std::vector<Rank>& ranks_of_node(std::uint32_t node) const;  ///< dead ones included

  void set_group(GroupId id, GroupPlacement placement);
  void erase_group(GroupId id);
  bool knows_group(GroupId id) const;

  /// Picks a rank. `avoid`: ranks that just bounced this demand; used again only when nothing else is feasible.
  Result<Choice> choose(const Demand& demand, Rng& rng, const std::vector<Rank>& avoid = {});
  /// The `sent`th message to `rank` takes this there. It counts until a report of that rank that has heard the message:
  /// one that was on its way already does not undo it.
  void assume(Rank rank, const Resources& demand, std::uint64_t sent = 0);
  /// Likewise, one that gives it back.
  void expect(Rank rank, const Resources& amount, std::uint64_t sent = 0);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::scheduler
