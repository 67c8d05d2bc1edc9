#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/ids.hpp"
#include "scheduler/resources.hpp"

namespace trireme::scheduler {

using GroupId = ObjectId;        ///< a placement group; `owner` is the rank that created it
using HolderId = std::uint64_t;  ///< names a running task or a living actor within one rank; drawn by core

struct BundleKey {
  /// In place of an index, for what may lie in any bundle of the group that this rank has.
  static constexpr std::uint32_t kAny = UINT32_MAX;
  GroupId group;
  std::uint32_t index = 0;
  auto operator<=>(const BundleKey&) const = default;
};

/// A share of one device: `units` of Resources::kUnit.
struct GpuShare {
  std::uint32_t index = 0;
  std::int64_t units = 0;
};

/// What one rank has, who holds it, and what is reserved for placement groups.
///
/// CPUs and compute threads. A task that asks for exactly {CPU: 1} never comes here: a compute thread is its CPU, and
/// whoever has a thread runs it. Every other demand acquires here first and then runs on a compute thread as well,
/// or in a worker process. The ledger therefore holds CPU only for such holders, and threads_withheld() says how many
/// compute threads must stay away from work so that threads plus holders never exceed the rank's CPUs: a {CPU: 4}
/// task occupies its own thread and withholds three; a {CPU: 0} task withholds none; holders that run in a worker
/// process (`on_thread` false) withhold all their CPUs. A withheld thread finishes the task it is in: for the length of
/// one task the rank may be over its CPUs.
///
/// A holder that waits lends its CPUs (lend_cpu) and takes them back without asking when it goes on (reclaim_cpu):
/// availability may then be negative for a while. So waiting never blocks what is waited for.
///
/// GPUs: whole demands get whole devices; demands below 1 share a device (the fullest that still has room).
///
/// Threading: only the holder of the rank's progress token.
/// Errors:    try_* return false or nullopt when it does not fit now; unknown holders are a broken invariant.
class ResourcePool {
 public:
  explicit ResourcePool(Resources total);

  const Resources& total() const { return total_; }
  /// Neither held nor reserved by a bundle.
  const Resources& available() const { return root_.available; }
  /// Of a reservation; nullptr when it is not here, and for BundleKey::kAny.
  const Resources* available_in(BundleKey bundle) const;
  /// Grows with every change; orders reports of this pool's availability.
  std::uint64_t version() const { return version_; }

  bool could_acquire(const Resources& demand, std::optional<BundleKey> bundle = {}) const;
  /// Whether it would fit if nothing were held; false for a bundle that is not here.
  bool could_ever_acquire(const Resources& demand, std::optional<BundleKey> bundle = {}) const;
  /// From the pool or, with `bundle`, from that reservation (BundleKey::kAny: from the first of the group's that has
  /// room). False when it does not fit or there is no such bundle.
  bool try_acquire(HolderId holder, const Resources& demand, std::optional<BundleKey> bundle = {},
                   bool on_thread = true);
  void release(HolderId holder);
  bool holds(HolderId holder) const { return holders_.contains(holder); }
  /// The reservation that it holds of; none for one of the pool, or once that is cancelled.
  std::optional<BundleKey> bundle_of(HolderId holder) const;
  /// Devices assigned to the holder, for CUDA_VISIBLE_DEVICES.
  const std::vector<GpuShare>& gpus_of(HolderId holder) const;
  void lend_cpu(HolderId holder);
  void reclaim_cpu(HolderId holder);
  std::uint32_t threads_withheld() const;

  /// Sets `amount` aside for a bundle. False when it does not fit now or the bundle exists already.
  bool try_reserve(BundleKey bundle, const Resources& amount);
  /// Ends a reservation. What its holders still use comes back with their release. False when there is none.
  bool cancel_reservation(BundleKey bundle);
  bool has_bundle(BundleKey bundle) const { return bundles_.contains(bundle); }
  std::vector<BundleKey> bundles_of(GroupId group) const;
  std::vector<BundleKey> bundles() const;
  std::vector<HolderId> holders_of(BundleKey bundle) const;
  std::size_t holders() const { return holders_.size(); }

 private:
  struct Ledger {
    Resources available;
    std::map<std::uint32_t, std::int64_t> gpu_free;  // units left per device that this ledger owns a share of

    std::optional<std::vector<GpuShare>> pick_gpus(std::int64_t units) const;
    bool can_take(const Resources& demand) const;
    std::vector<GpuShare> take(const Resources& demand);
    void put_back(const Resources& amount, const std::vector<GpuShare>& gpus);
  };
  struct Bundle {
    Resources amount;
    std::vector<GpuShare> gpus;
    Ledger ledger;
  };
  struct Holder {
    Resources demand;
    std::vector<GpuShare> gpus;
    std::optional<BundleKey> bundle;  // none once its reservation was cancelled: it then releases to the root
    bool lent = false;
    bool on_thread = true;
  };
  /// Where `demand` would be taken from now: `bundle` itself, unless that says any.
  std::optional<BundleKey> place_for(const Resources& demand, const std::optional<BundleKey>& bundle) const;
  Ledger* ledger_of(const std::optional<BundleKey>& bundle);
  const Ledger* ledger_of(const std::optional<BundleKey>& bundle) const;
  Holder& holder(HolderId id);
  static std::int64_t withheld_by(const Holder& held);

  Resources total_;
  Ledger root_;
  std::map<BundleKey, Bundle> bundles_;
  std::unordered_map<HolderId, Holder> holders_;
  std::int64_t withheld_units_ = 0;
  std::uint64_t version_ = 1;
};

}  // namespace trireme::scheduler
