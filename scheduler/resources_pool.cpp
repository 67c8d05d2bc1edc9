#include "scheduler/resources_pool.hpp"

#include <algorithm>

#include "base/check.hpp"

namespace trireme::scheduler {
namespace {
constexpr auto kUnit = Resources::kUnit;
}

ResourcePool::ResourcePool(Resources total) : total_(std::move(total)) {
  root_.available = total_;
  // A rank may own a share of a device (several ranks on one GPU): the last index then has less than a unit.
  std::uint32_t index = 0;
  for (auto left = total_.gpu_units(); left > 0; left -= kUnit) root_.gpu_free[index++] = std::min(left, kUnit);
}

std::optional<std::vector<GpuShare>> ResourcePool::Ledger::pick_gpus(std::int64_t units) const {
  std::vector<GpuShare> picked;
  if (units < kUnit) {
    if (units <= 0) return picked;
    const std::pair<const std::uint32_t, std::int64_t>* best = nullptr;
    for (const auto& entry : gpu_free)
      if (entry.second >= units && (best == nullptr || entry.second < best->second)) best = &entry;
    if (best == nullptr) return std::nullopt;
    picked.push_back({best->first, units});
    return picked;
  }
  for (const auto& [index, free] : gpu_free) {
    if (units == 0) break;
    if (free < kUnit) continue;
    picked.push_back({index, kUnit});
    units -= kUnit;
  }
  if (units != 0) return std::nullopt;
  return picked;
}

bool ResourcePool::Ledger::can_take(const Resources& demand) const {
  return demand.fits(available) && (demand.gpu_units() <= 0 || pick_gpus(demand.gpu_units()).has_value());
}

std::vector<GpuShare> ResourcePool::Ledger::take(const Resources& demand) {
  auto gpus = pick_gpus(demand.gpu_units());
  TRIREME_CHECK(gpus.has_value(), "take() follows can_take()");
  for (const auto& share : *gpus) gpu_free[share.index] -= share.units;
  available -= demand;
  return std::move(*gpus);
}

void ResourcePool::Ledger::put_back(const Resources& amount, const std::vector<GpuShare>& gpus) {
  for (const auto& share : gpus) gpu_free[share.index] += share.units;
  available += amount;
}

ResourcePool::Ledger* ResourcePool::ledger_of(const std::optional<BundleKey>& bundle) {
  if (!bundle) return &root_;
  const auto at = bundles_.find(*bundle);
  return at == bundles_.end() ? nullptr : &at->second.ledger;
}

const ResourcePool::Ledger* ResourcePool::ledger_of(const std::optional<BundleKey>& bundle) const {
  return const_cast<ResourcePool*>(this)->ledger_of(bundle);
}

const Resources* ResourcePool::available_in(BundleKey bundle) const {
  const auto* ledger = ledger_of(bundle);
  return ledger == nullptr ? nullptr : &ledger->available;
}

ResourcePool::Holder& ResourcePool::holder(HolderId id) {
  const auto at = holders_.find(id);
  TRIREME_CHECK(at != holders_.end(), "this holder has acquired nothing");
  return at->second;
}

std::optional<BundleKey> ResourcePool::bundle_of(HolderId id) const {
  return const_cast<ResourcePool*>(this)->holder(id).bundle;
}

std::optional<BundleKey> ResourcePool::place_for(const Resources& demand,
                                                 const std::optional<BundleKey>& bundle) const {
  if (!bundle || bundle->index != BundleKey::kAny) return bundle;
  for (auto at = bundles_.lower_bound({bundle->group, 0}); at != bundles_.end() && at->first.group == bundle->group;
       ++at)
    if (at->second.ledger.can_take(demand)) return at->first;
  return bundle;  // which no ledger has
}

bool ResourcePool::could_acquire(const Resources& demand, std::optional<BundleKey> bundle) const {
  const auto* ledger = ledger_of(place_for(demand, bundle));
  return ledger != nullptr && ledger->can_take(demand);
}

bool ResourcePool::could_ever_acquire(const Resources& demand, std::optional<BundleKey> bundle) const {
  if (!bundle) return ResourcePool(total_).root_.can_take(demand);
  if (bundle->index == BundleKey::kAny) {
    const auto all = bundles_of(bundle->group);
    return std::any_of(all.begin(), all.end(), [&](const auto& key) { return could_ever_acquire(demand, key); });
  }
  const auto at = bundles_.find(*bundle);
  if (at == bundles_.end()) return false;
  Ledger whole;
  whole.available = at->second.amount;
  for (const auto& share : at->second.gpus) whole.gpu_free[share.index] += share.units;
  return whole.can_take(demand);
}

bool ResourcePool::try_acquire(HolderId id, const Resources& demand, std::optional<BundleKey> bundle, bool on_thread) {
  TRIREME_CHECK(!holders_.contains(id), "a holder acquires once");
  bundle = place_for(demand, bundle);
  auto* ledger = ledger_of(bundle);
  if (ledger == nullptr || !ledger->can_take(demand)) return false;
  auto gpus = ledger->take(demand);
  Holder held{demand, std::move(gpus), bundle, false, on_thread};
  withheld_units_ += withheld_by(held);
  holders_.emplace(id, std::move(held));
  ++version_;
  return true;
}

void ResourcePool::release(HolderId id) {
  auto& held = holder(id);
  if (held.lent) {
    // What was lent is back in the ledger already.
    held.demand.set_cpu_units(0);
  } else {
    withheld_units_ -= withheld_by(held);
  }
  auto* ledger = ledger_of(held.bundle);
  TRIREME_CHECK(ledger != nullptr, "cancel_reservation() moves holders to the root");
  ledger->put_back(held.demand, held.gpus);
  holders_.erase(id);
  ++version_;
}

const std::vector<GpuShare>& ResourcePool::gpus_of(HolderId id) const {
  return const_cast<ResourcePool*>(this)->holder(id).gpus;
}

void ResourcePool::lend_cpu(HolderId id) {
  auto& held = holder(id);
  if (held.lent) return;
  withheld_units_ -= withheld_by(held);
  held.lent = true;
  Resources cpu;
  cpu.set_cpu_units(held.demand.cpu_units());
  ledger_of(held.bundle)->available += cpu;
  ++version_;
}

void ResourcePool::reclaim_cpu(HolderId id) {
  auto& held = holder(id);
  if (!held.lent) return;
  held.lent = false;
  withheld_units_ += withheld_by(held);
  Resources cpu;
  cpu.set_cpu_units(held.demand.cpu_units());
  ledger_of(held.bundle)->available -= cpu;
  ++version_;
}

std::int64_t ResourcePool::withheld_by(const Holder& held) {
  return std::max<std::int64_t>(0, held.demand.cpu_units() - (held.on_thread ? kUnit : 0));
}

std::uint32_t ResourcePool::threads_withheld() const {
  return static_cast<std::uint32_t>((withheld_units_ + kUnit - 1) / kUnit);
}

bool ResourcePool::try_reserve(BundleKey bundle, const Resources& amount) {
  if (bundles_.contains(bundle) || !root_.can_take(amount)) return false;
  Bundle made;
  made.amount = amount;
  made.gpus = root_.take(amount);
  made.ledger.available = amount;
  for (const auto& share : made.gpus) made.ledger.gpu_free[share.index] = share.units;
  bundles_.emplace(bundle, std::move(made));
  ++version_;
  return true;
}

bool ResourcePool::cancel_reservation(BundleKey key) {
  const auto at = bundles_.find(key);
  if (at == bundles_.end()) return false;
  auto& bundle = at->second;
  // The free part returns now. The ledger's availability may be negative while holders have reclaimed CPUs; the sum
  // over ledger and holders is the bundle's amount all the same.
  std::vector<GpuShare> free;
  for (const auto& [index, units] : bundle.ledger.gpu_free)
    if (units > 0) free.push_back({index, units});
  root_.put_back(bundle.ledger.available, free);
  bundles_.erase(at);
  for (auto& [id, held] : holders_)
    if (held.bundle == key) held.bundle.reset();
  ++version_;
  return true;
}

std::vector<BundleKey> ResourcePool::bundles_of(GroupId group) const {
  std::vector<BundleKey> out;
  for (auto at = bundles_.lower_bound({group, 0}); at != bundles_.end() && at->first.group == group; ++at)
    out.push_back(at->first);
  return out;
}

std::vector<BundleKey> ResourcePool::bundles() const {
  std::vector<BundleKey> out;
  for (const auto& entry : bundles_) out.push_back(entry.first);
  return out;
}

std::vector<HolderId> ResourcePool::holders_of(BundleKey bundle) const {
  std::vector<HolderId> out;
  for (const auto& [id, held] : holders_)
    if (held.bundle == bundle) out.push_back(id);
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace trireme::scheduler
