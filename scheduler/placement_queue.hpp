#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.hpp"
#include "scheduler/resources_pool.hpp"

namespace trireme::scheduler {

struct PlacementQueueOptions {
  /// A demand that did not start goes back to its sender this often before a target must keep it.
  std::uint32_t bounces_max = 2;
  /// Waiting longer than this, a demand stops younger ones from taking what it needs.
  Nanos starving_after = 100 * kMillisecond;
};

/// What a rank does with demands that were sent to it and need ResourcePool: start, queue or bounce.
///
/// Equal demands form a class, served first in, first out. A class that does not fit lets other classes pass, so a
/// task that waits for a GPU never holds up one that needs memory. The oldest demand that has waited longer than
/// `starving_after` is an exception: until it starts, younger demands get only what it cannot use, so it waits at most
/// until those who hold its resources now have released them.
///
/// Threading: only the holder of the rank's progress token. Errors: none.
/// Lifetime:  the pool outlives it.
class PlacementQueue {
 public:
  enum class Offer : std::uint8_t {
    start,    ///< acquired in the pool for `holder`: run it
    queued,   ///< a later drain() starts it
    bounce,   ///< send it back with headroom() and version()
    refused,  ///< larger than this rank or bundle will ever have: the sender's view is wrong, or the group is gone
  };

  PlacementQueue(ResourcePool& pool, PlacementQueueOptions options = {});
  ~PlacementQueue();

  /// `bounced`: how often it came back before (UINT32_MAX for one that may run nowhere else). Demands of a certain
  /// bundle never bounce, for that is here; those of any bundle of a group do (BundleKey::kAny), and for them alone
  /// nothing is kept free when they starve: who holds a bundle may wait for one that another of them fits in.
  Offer offer(HolderId holder, const Resources& demand, std::optional<BundleKey> bundle, std::uint32_t bounced,
              Nanos now);
  /// Call after release(), cancel_reservation() and on_rank_lost: appends what was acquired and can run now.
  void drain(Nanos now, std::vector<HolderId>& start);
  /// Removes a queued demand; false when it is not queued (it has started, or never was).
  bool cancel(HolderId holder);
  /// Removes demands of any bundle of a group, where none of them has started since `before` and the oldest waits here
  /// from before that too: another rank may have room. Up to `count` of each class. Whether others wait here that may
  /// be taken another time.
  bool take_stuck(Nanos before, std::uint32_t count, std::vector<HolderId>& taken);
  /// Removes all that wait for this bundle, or for any of its group where no other here is large enough; their holders
  /// are appended.
  void cancel_bundle(BundleKey bundle, std::vector<HolderId>& cancelled);
  /// For thieves: removes up to `count` demands, oldest first, that together fit into `free` and belong to no bundle.
  void take_fitting(Resources free, std::uint32_t count, std::vector<HolderId>& taken);

  std::size_t size() const;
  /// What to report to others (ClusterView::update): the pool's availability less what waits here, so that a long queue
  /// shows as less than nothing and the next demand goes elsewhere.
  Resources headroom() const;
  /// Grows with every change of headroom().
  std::uint64_t version() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::scheduler
