#include "scheduler/placement_queue.hpp"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace trireme::scheduler {

struct PlacementQueue::Impl {
  struct Key {
    std::optional<BundleKey> bundle;
    Resources demand;
    auto operator<=>(const Key&) const = default;
  };
  struct Entry {
    HolderId holder;
    Nanos since;
    bool stays;  // no other rank can have it
  };
  struct Class : std::map<std::uint64_t, Entry> {  // by arrival
    Nanos started = 0;                             // the last that left for drain()
  };
  using Classes = std::map<Key, Class>;
  struct Place {
    Classes::iterator cls;
    std::uint64_t order;
  };

  Impl(ResourcePool& p, PlacementQueueOptions o) : pool(p), options(o) {}

  ResourcePool& pool;
  PlacementQueueOptions options;
  Classes classes;  // none is empty
  std::unordered_map<HolderId, Place> places;
  std::uint64_t next_order = 0;
  Resources waiting;  // sum of what waits and belongs to no bundle
  std::uint64_t changes = 0;

  void count(const Key& key, bool comes) {
    if (key.bundle) return;
    comes ? waiting += key.demand : waiting -= key.demand;
    ++changes;
  }

  bool starving(const Class& cls, Nanos now) const { return now - cls.begin()->second.since >= options.starving_after; }

  static bool any(const std::optional<BundleKey>& bundle) { return bundle && bundle->index == BundleKey::kAny; }

  /// The starving class whose head came first, per pool or bundle.
  const Key* guard(const std::optional<BundleKey>& bundle, Nanos now) const {
    const Key* found = nullptr;
    std::uint64_t oldest = 0;
    if (any(bundle)) return found;
    for (auto at = classes.lower_bound({bundle, {}}); at != classes.end(); ++at) {
      if (at->first.bundle != bundle) {
        // Negative amounts sort before the empty demand, but no demand is negative: the range starts at lower_bound.
        break;
      }
      const auto order = at->second.begin()->first;
      if (starving(at->second, now) && (found == nullptr || order < oldest)) {
        found = &at->first;
        oldest = order;
      }
    }
    return found;
  }

  /// Whether `key` may start although `guard` starves: only if what both ask for is enough for both.
  bool passes(const Key& key, const Key* guard) const {
    if (guard == nullptr || guard == &key || !key.demand.overlaps(guard->demand)) return true;
    // Devices fragment: enough units in sum does not mean a whole device for the starving one.
    if (key.demand.gpu_units() > 0 && guard->demand.gpu_units() > 0) return false;
    const auto* available = key.bundle ? pool.available_in(*key.bundle) : &pool.available();
    if (available == nullptr) return false;
    Resources both = key.demand;
    both += guard->demand;
    const auto enough = [](std::int64_t mine, std::int64_t theirs, std::int64_t sum, std::int64_t there) {
      return mine <= 0 || theirs <= 0 || sum <= there;
    };
    const auto& mine = key.demand;
    const auto& theirs = guard->demand;
    if (!enough(mine.cpu_units(), theirs.cpu_units(), both.cpu_units(), available->cpu_units())) return false;
    if (!enough(mine.memory_bytes(), theirs.memory_bytes(), both.memory_bytes(), available->memory_bytes()))
      return false;
    return std::all_of(mine.custom().begin(), mine.custom().end(), [&](const auto& entry) {
      const auto& name = entry.first;
      return enough(entry.second, theirs.custom_units(name), both.custom_units(name), available->custom_units(name));
    });
  }

  void enqueue(Key key, HolderId holder, bool stays, Nanos now) {
    count(key, true);
    const auto cls = classes.try_emplace(std::move(key)).first;
    cls->second.emplace(next_order, Entry{holder, now, stays});
    places[holder] = {cls, next_order++};
  }

  HolderId pop(Classes::iterator cls) {
    count(cls->first, false);
    const auto holder = cls->second.begin()->second.holder;
    cls->second.erase(cls->second.begin());
    if (cls->second.empty()) classes.erase(cls);
    places.erase(holder);
    return holder;
  }

  /// Classes by the age of their heads.
  std::vector<Classes::iterator> by_age() {
    std::vector<Classes::iterator> out;
    for (auto at = classes.begin(); at != classes.end(); ++at) out.push_back(at);
    std::sort(out.begin(), out.end(),
              [](const auto& a, const auto& b) { return a->second.begin()->first < b->second.begin()->first; });
    return out;
  }
};

PlacementQueue::PlacementQueue(ResourcePool& pool, PlacementQueueOptions options)
    : impl_(std::make_unique<Impl>(pool, options)) {}
PlacementQueue::~PlacementQueue() = default;

PlacementQueue::Offer PlacementQueue::offer(HolderId holder, const Resources& demand, std::optional<BundleKey> bundle,
                                            std::uint32_t bounced, Nanos now) {
  auto& queue = *impl_;
  if (!queue.pool.could_ever_acquire(demand, bundle)) return Offer::refused;
  Impl::Key key{bundle, demand};
  if (!queue.classes.contains(key) && queue.passes(key, queue.guard(bundle, now)) &&
      queue.pool.try_acquire(holder, demand, bundle))
    return Offer::start;
  if ((!bundle || Impl::any(bundle)) && bounced < queue.options.bounces_max) return Offer::bounce;
  queue.enqueue(std::move(key), holder, bounced == UINT32_MAX, now);
  return Offer::queued;
}

void PlacementQueue::drain(Nanos now, std::vector<HolderId>& start) {
  auto& queue = *impl_;
  // Each start changes what fits and which head is oldest, so the order is taken anew until a round starts nothing.
  for (bool progress = true; progress;) {
    progress = false;
    for (const auto cls : queue.by_age()) {
      const auto& key = cls->first;
      const auto holder = cls->second.begin()->second.holder;
      if (!queue.passes(key, queue.guard(key.bundle, now))) continue;
      if (!queue.pool.try_acquire(holder, key.demand, key.bundle)) continue;
      cls->second.started = now;
      start.push_back(queue.pop(cls));
      progress = true;
      break;
    }
  }
}

bool PlacementQueue::cancel(HolderId holder) {
  auto& queue = *impl_;
  const auto at = queue.places.find(holder);
  if (at == queue.places.end()) return false;
  const auto [cls, order] = at->second;
  queue.count(cls->first, false);
  cls->second.erase(order);
  if (cls->second.empty()) queue.classes.erase(cls);
  queue.places.erase(at);
  return true;
}

bool PlacementQueue::take_stuck(Nanos before, std::uint32_t count, std::vector<HolderId>& taken) {
  auto& queue = *impl_;
  bool others = false;
  for (auto at = queue.classes.begin(); at != queue.classes.end();) {
    const auto cls = at++;
    if (!Impl::any(cls->first.bundle)) continue;
    const bool moves = cls->second.started <= before;
    std::vector<HolderId> stuck;
    for (const auto& [order, entry] : cls->second) {
      if (entry.stays) continue;
      if (!moves || entry.since > before || stuck.size() == count) {
        others = true;
        break;
      }
      stuck.push_back(entry.holder);
    }
    for (const auto holder : stuck) {
      cancel(holder);
      taken.push_back(holder);
    }
  }
  return others;
}

void PlacementQueue::cancel_bundle(BundleKey bundle, std::vector<HolderId>& cancelled) {
  auto& queue = *impl_;
  const auto goes = [&](const Impl::Key& key) {
    if (key.bundle == bundle) return true;
    if (!Impl::any(key.bundle) || key.bundle->group != bundle.group) return false;
    const auto all = queue.pool.bundles_of(bundle.group);
    return std::none_of(all.begin(), all.end(), [&](const auto& other) {
      return other != bundle && queue.pool.could_ever_acquire(key.demand, other);
    });
  };
  for (auto at = queue.classes.begin(); at != queue.classes.end();) {
    const auto cls = at++;
    if (!goes(cls->first)) continue;
    for (const auto& [order, entry] : cls->second) {
      cancelled.push_back(entry.holder);
      queue.places.erase(entry.holder);
    }
    queue.classes.erase(cls);
  }
}

void PlacementQueue::take_fitting(Resources free, std::uint32_t count, std::vector<HolderId>& taken) {
  auto& queue = *impl_;
  while (count > 0) {
    const auto order = queue.by_age();
    const auto found = std::find_if(order.begin(), order.end(), [&](const auto& cls) {
      return !cls->first.bundle && cls->first.demand.fits(free);
    });
    if (found == order.end()) return;
    free -= (*found)->first.demand;
    taken.push_back(queue.pop(*found));
    --count;
  }
}

Resources PlacementQueue::headroom() const {
  auto out = impl_->pool.available();
  out -= impl_->waiting;
  return out;
}

std::uint64_t PlacementQueue::version() const { return impl_->pool.version() + impl_->changes; }

std::size_t PlacementQueue::size() const { return impl_->places.size(); }

}  // namespace trireme::scheduler
