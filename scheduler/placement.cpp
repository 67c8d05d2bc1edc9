#include "scheduler/placement.hpp"

#include <algorithm>
#include <deque>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "scheduler/placement_index.hpp"

namespace trireme::scheduler {
namespace {

/// In a job of more living ranks choose() does not look at all of them: a demand that is asked for again and again has
/// a RoomIndex, another one gets the least busy of so many random ranks.
constexpr std::uint32_t kLooksMax = 256;

/// Demands that may have an index at a time. Each costs some 20 bytes per rank, and a step in every update().
constexpr std::size_t kIndexesMax = 8;

/// Asked for so often without being pushed out by others, a demand gets an index: it costs about as much to make, per
/// rank, as a look.
constexpr std::uint32_t kIndexAfter = 32;

/// How often the demand still fits; below 1 the rank is busy, below 0 it has a backlog.
double room(const Resources& demand, const Resources& available) {
  double least = std::numeric_limits<double>::max();
  const auto consider = [&](std::int64_t asked, std::int64_t there) {
    if (asked > 0) least = std::min(least, static_cast<double>(there) / static_cast<double>(asked));
  };
  consider(demand.cpu_units(), available.cpu_units());
  consider(demand.gpu_units(), available.gpu_units());
  consider(demand.memory_bytes(), available.memory_bytes());
  for (const auto& [name, units] : demand.custom()) consider(units, available.custom_units(name));
  return least;
}

}  // namespace

struct ClusterView::Impl {
  /// Ranks of equal totals and labels.
  struct Class {
    Resources total;
    Labels labels;
    std::vector<Rank> ranks;
    std::uint32_t living = 0;
  };
  struct RankState {
    std::uint32_t cls = 0;
    std::uint32_t node = 0;
    std::uint32_t known = kUnheard;  // index of `known`; without one the rank is as free as at the start
    Seat seat = Seat::taken;
    bool alive() const { return seat == Seat::taken; }
    /// It has a class, and what is said of it counts.
    bool known_here() const { return seat == Seat::taken || seat == Seat::coming; }
  };
  static bool holds(const Class& cls, const Resources& resources, const std::vector<LabelRule>& labels) {
    return resources.fits(cls.total) &&
           std::all_of(labels.begin(), labels.end(), [&cls](const LabelRule& rule) { return rule.holds(cls.labels); });
  }
  static constexpr std::uint32_t kUnheard = UINT32_MAX;
  struct Known {
    std::uint64_t version = 0;
    Resources available;  // with what is ahead of it
  };
  /// What this rank's messages change at another that no report of that one counts yet.
  struct Ahead {
    std::deque<std::pair<std::uint64_t, Resources>> changes;  // by message
    Resources sum;
  };
  /// A kind of demand, and the index of the ranks for it once it was asked for often.
  struct Shape {
    Resources resources;
    std::vector<LabelRule> labels;
    std::vector<bool> eligible;  // by class
    std::uint32_t asked = 0;
    std::uint64_t last_asked = 0;
    std::unique_ptr<RoomIndex> index;
  };
  struct Group {
    GroupPlacement placement;
    std::uint32_t cursor = 0;
    bool one_rank = false;
  };

  Rank self;
  bool can_grow;
  bool has_seats;
  std::vector<RankState> ranks;
  std::vector<Class> classes;
  std::vector<std::string> node_names;
  std::vector<std::vector<Rank>> node_ranks;
  std::unordered_map<std::string, std::uint32_t> node_index;
  std::vector<Known> known;
  std::unordered_map<Rank, Ahead> ahead;
  std::vector<Shape> shapes;  // at most kIndexesMax
  std::uint64_t asked = 0;
  std::unordered_map<GroupId, Group> groups;
  std::uint32_t spread_cursor;

  const Resources& available(Rank rank) const {
    const auto at = ranks[rank].known;
    return at == kUnheard ? classes[ranks[rank].cls].total : known[at].available;
  }
  Known& know(Rank rank) {
    auto& at = ranks[rank].known;
    if (at == kUnheard) {
      at = static_cast<std::uint32_t>(known.size());
      known.push_back({0, classes[ranks[rank].cls].total});
    }
    return known[at];
  }
  void change(Rank rank, const Resources& by, std::uint64_t sent) {
    know(rank).available += by;
    auto& more = ahead[rank];
    more.changes.emplace_back(sent, by);
    more.sum += by;
    moved(rank);
  }
  /// Of the changes ahead of a report, those that it does not count.
  void forget_heard(Rank rank, std::uint64_t heard) {
    const auto at = ahead.find(rank);
    if (at == ahead.end()) return;
    auto& [changes, sum] = at->second;
    while (!changes.empty() && changes.front().first <= heard) {
      sum -= changes.front().second;
      changes.pop_front();
    }
    if (changes.empty()) ahead.erase(at);
  }
  /// What is available on the rank changed.
  void moved(Rank rank) {
    for (auto& shape : shapes)
      if (shape.index && shape.eligible[ranks[rank].cls] && ranks[rank].alive())
        shape.index->set(rank, room(shape.resources, available(rank)));
  }
  /// The index for the demand, if it has one by now.
  RoomIndex* index_of(const Demand& demand, const std::vector<bool>& eligible) {
    auto at = std::find_if(shapes.begin(), shapes.end(), [&](const Shape& shape) {
      return shape.resources == demand.resources && shape.labels == demand.labels;
    });
    if (at == shapes.end()) {
      if (shapes.size() == kIndexesMax)
        shapes.erase(std::min_element(shapes.begin(), shapes.end(),
                                      [](const Shape& a, const Shape& b) { return a.last_asked < b.last_asked; }));
      at = shapes.insert(shapes.end(), {demand.resources, demand.labels, eligible, 0, 0, nullptr});
    }
    at->last_asked = ++asked;
    if (!at->index && ++at->asked > kIndexAfter) {
      const auto count = static_cast<std::uint32_t>(ranks.size());
      at->index = std::make_unique<RoomIndex>(count, self + 1);
      for (Rank rank = 0; rank < count; ++rank)
        if (ranks[rank].alive() && at->eligible[ranks[rank].cls])
          at->index->set(rank, room(demand.resources, available(rank)));
    }
    return at->index.get();
  }

  /// One choose() call: what is eligible, and the best rank seen so far.
  struct Search {
    const Impl& view;
    const Demand& demand;
    const std::vector<Rank>& avoid;
    std::vector<bool> eligible;  // by class
    std::uint32_t living = 0;    // ranks of eligible classes
    Rank best = kNoRank;
    double best_room = 0;
    bool best_avoided = false;

    Search(const Impl& impl, const Demand& asked, const std::vector<Rank>& avoided)
        : view(impl), demand(asked), avoid(avoided), eligible(impl.classes.size()) {
      for (std::size_t c = 0; c < eligible.size(); ++c) {
        const auto& cls = impl.classes[c];
        eligible[c] = cls.living > 0 && holds(cls, asked.resources, asked.labels);
        if (eligible[c]) living += cls.living;
      }
    }

    bool can_run(Rank rank) const {
      return rank < view.ranks.size() && view.ranks[rank].alive() && eligible[view.ranks[rank].cls];
    }
    /// True when the rank is free for the demand now: take it. Else it is kept if it is the least busy so far.
    bool look(Rank rank) {
      if (!can_run(rank)) return false;
      const bool avoided = std::find(avoid.begin(), avoid.end(), rank) != avoid.end();
      const auto& free = view.available(rank);
      const double space = room(demand.resources, free);
      const bool fits = !avoided && demand.resources.fits(free);
      const bool better = best == kNoRank || (avoided != best_avoided ? best_avoided : space > best_room);
      if (fits || better) {
        best = rank;
        best_room = space;
        best_avoided = avoided;
      }
      return fits;
    }
    Rank random_eligible(Rng& rng) const {
      // Dead ranks stay in their class's list; they are few, so a redraw is rare.
      std::uint64_t slots = 0;
      for (std::size_t c = 0; c < eligible.size(); ++c)
        if (eligible[c]) slots += view.classes[c].ranks.size();
      for (;;) {
        auto slot = rng.below(slots);
        for (std::size_t c = 0; c < eligible.size(); ++c) {
          if (!eligible[c]) continue;
          const auto& members = view.classes[c].ranks;
          if (slot < members.size()) {
            if (view.ranks[members[slot]].alive()) return members[slot];
            break;
          }
          slot -= members.size();
        }
      }
    }
  };

  /// The rank belongs to its class and to the node from now on.
  void sit(Rank rank, const std::string& node_id) {
    const auto [node, is_new] = node_index.try_emplace(node_id, static_cast<std::uint32_t>(node_names.size()));
    if (is_new) {
      node_names.push_back(node_id);
      node_ranks.emplace_back();
    }
    node_ranks[node->second].push_back(rank);
    ranks[rank].node = node->second;
    classes[ranks[rank].cls].ranks.push_back(rank);
  }

  Error nowhere(const Demand& demand, std::string_view what, bool final = false) const {
    std::uint32_t living = 0;
    std::vector<const Class*> kinds;
    for (const auto& cls : classes) {
      living += cls.living;
      if (cls.living > 0) kinds.push_back(&cls);
    }
    std::sort(kinds.begin(), kinds.end(), [](const Class* a, const Class* b) { return a->living > b->living; });
    std::string exists;
    for (std::size_t i = 0; i < std::min<std::size_t>(kinds.size(), 4); ++i) {
      if (i > 0) exists += ", ";
      exists += fmt::format("{} of {}", kinds[i]->living, kinds[i]->total.text());
      for (const auto& [key, value] : kinds[i]->labels) exists += fmt::format(" {}={}", key, value);
    }
    if (kinds.size() > 4) exists += fmt::format(" and {} kinds more", kinds.size() - 4);
    const bool waits = can_grow && !final;
    return make_error(waits ? Errc::unavailable : Errc::unschedulable,
                      fmt::format("asked {}{}; exists: {} living ranks: {}; largest {}; {}", demand.text(), what,
                                  living, exists.empty() ? "none" : exists, largest(demand.resources),
                                  waits      ? "it waits until the job grows"
                                  : can_grow ? "a rank that joins later does not change that"
                                             : "this job cannot grow: ask for less or start it with such ranks"));
  }

  /// Per resource asked, the most that one living rank has.
  std::string largest(const Resources& asked) const {
    std::string out;
    const auto add = [&](std::string_view name, auto amount_of) {
      const Class* most = nullptr;
      for (const auto& cls : classes)
        if (cls.living > 0 && (most == nullptr || amount_of(cls.total) > amount_of(most->total))) most = &cls;
      if (most == nullptr) return;
      Rank where = kNoRank;
      for (const Rank rank : most->ranks)
        if (ranks[rank].alive()) {
          where = rank;
          break;
        }
      Resources only;
      if (name == "CPU")
        only.set_cpu_units(amount_of(most->total));
      else if (name == "GPU")
        only.set_gpu_units(amount_of(most->total));
      else if (name == "memory")
        only.set_memory_bytes(amount_of(most->total));
      else
        only.set_custom_units(name, amount_of(most->total));
      if (!out.empty()) out += ", ";
      out += only.empty() ? fmt::format("no {} on any rank", name) : fmt::format("{} on rank {}", only.text(), where);
    };
    if (asked.cpu_units() > 0) add("CPU", [](const Resources& r) { return r.cpu_units(); });
    if (asked.gpu_units() > 0) add("GPU", [](const Resources& r) { return r.gpu_units(); });
    if (asked.memory_bytes() > 0) add("memory", [](const Resources& r) { return r.memory_bytes(); });
    for (const auto& entry : asked.custom())
      add(entry.first, [&](const Resources& r) { return r.custom_units(entry.first); });
    return out.empty() ? "any" : out;
  }

  Result<Choice> choose_normal(const Demand& demand, Rng& rng, const std::vector<Rank>& avoid) {
    Search search(*this, demand, avoid);
    if (search.living == 0) return nowhere(demand, "");
    const auto hit = [&](Rank rank) -> Result<Choice> { return Choice{rank, true, -1}; };
    auto hints = demand.hints;
    std::stable_sort(hints.begin(), hints.end(), [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
    for (const auto& hint : hints)
      if (hint.bytes > 0 && search.look(hint.rank)) return hit(hint.rank);
    if (search.look(self)) return hit(self);
    const auto& near = node_ranks[ranks[self].node];
    const auto near_looks = std::min<std::size_t>(near.size(), 256);
    const auto first = near.empty() ? 0 : rng.below(near.size());
    for (std::size_t i = 0; i < near_looks; ++i)
      if (const Rank rank = near[(first + i) % near.size()]; search.look(rank)) return hit(rank);
    if (search.living <= kLooksMax) {
      for (std::size_t c = 0; c < classes.size(); ++c) {
        if (!search.eligible[c]) continue;
        const auto& members = classes[c].ranks;
        const auto start = rng.below(members.size());
        for (std::size_t i = 0; i < members.size(); ++i)
          if (const Rank rank = members[(start + i) % members.size()]; search.look(rank)) return hit(rank);
      }
    } else if (auto* index = index_of(demand, search.eligible)) {
      if (const Rank rank = index->fitting(avoid); rank != kNoRank) return hit(rank);
      // Of equals, one seen before: it is near.
      if (const Rank rank = index->least_busy(avoid); rank != kNoRank) search.look(rank);
      if (search.best == kNoRank) search.look(search.random_eligible(rng));
    } else {
      for (std::uint32_t i = 0; i < kLooksMax; ++i)
        if (const Rank rank = search.random_eligible(rng); search.look(rank)) return hit(rank);
    }
    return Choice{search.best, false, -1};
  }

  Result<Choice> choose_spread(const Demand& demand, Rng& rng, const std::vector<Rank>& avoid) {
    Search search(*this, demand, avoid);
    if (search.living == 0) return nowhere(demand, "");
    const auto size = static_cast<std::uint32_t>(ranks.size());
    std::uint32_t looks = 0;
    for (std::uint32_t i = 0; i < size && looks < kLooksMax; ++i) {
      const Rank rank = (spread_cursor + i) % size;
      if (!search.can_run(rank)) continue;
      ++looks;
      if (search.look(rank)) {
        spread_cursor = (rank + 1) % size;
        return Choice{rank, true, -1};
      }
    }
    spread_cursor = (search.best + 1) % size;
    return Choice{search.best, false, -1};
  }

  Result<Choice> choose_affinity(const Demand& demand, Rng& rng, const std::vector<Rank>& avoid) {
    Search search(*this, demand, avoid);
    std::string_view why = ", which is not in this job";
    bool final = false;  // whoever comes changes nothing
    if (demand.affinity_rank != kNoRank) {
      const Rank rank = demand.affinity_rank;
      if (search.can_run(rank)) return Choice{rank, demand.resources.fits(available(rank)), -1};
      if (rank < ranks.size()) {
        const auto seat = ranks[rank].seat;
        const bool comes = seat == Seat::empty || seat == Seat::coming;
        final = !comes;
        why = comes                ? ", which has not come yet"
              : seat == Seat::dead ? ", which is dead"
                                   : ", which is too small or labelled otherwise";
      }
    } else if (const auto node = node_index.find(demand.affinity_node); node != node_index.end()) {
      const auto& members = node_ranks[node->second];
      const auto start = rng.below(members.size());
      for (std::size_t i = 0; i < members.size(); ++i)
        if (const Rank rank = members[(start + i) % members.size()]; search.look(rank)) return Choice{rank, true, -1};
      if (search.best != kNoRank) return Choice{search.best, false, -1};
      why = ", where no living rank is large enough and labelled so";
      final = std::all_of(members.begin(), members.end(), [&](Rank rank) { return ranks[rank].seat != Seat::coming; });
    }
    if (demand.soft) return choose_normal(demand, rng, avoid);
    return nowhere(demand, why, final && has_seats);
  }

  Result<Choice> choose_in_group(const Demand& demand, const std::vector<Rank>& avoid) {
    const auto at = groups.find(demand.group);
    if (at == groups.end())
      return make_error(Errc::not_found,
                        fmt::format("asked {}; that group is not known on rank {} (yet): ask its creator, rank {}",
                                    demand.text(), self, demand.group.owner));
    const auto& placement = at->second.placement;
    auto& cursor = at->second.cursor;
    const auto count = static_cast<std::uint32_t>(placement.bundles.size());
    if (demand.bundle >= static_cast<std::int32_t>(count))
      return make_error(Errc::invalid_argument,
                        fmt::format("asked {}; the group has {} bundles", demand.text(), count));
    const auto whole = [&](std::uint32_t i) { return demand.resources.fits(placement.bundles[i]); };
    const auto there = [&](std::uint32_t i) {
      return placement.ranks[i] < ranks.size() && ranks[placement.ranks[i]].known_here();
    };
    bool large_enough = false;
    const auto pick = [&](std::uint32_t i) -> Choice {
      return {placement.ranks[i], true, static_cast<std::int32_t>(i), at->second.one_rank};
    };
    if (demand.bundle >= 0) {
      const auto i = static_cast<std::uint32_t>(demand.bundle);
      large_enough = whole(i);
      if (large_enough && there(i)) return pick(i);
    } else {
      const LocalityHint* best = nullptr;
      for (const auto& hint : demand.hints)
        if (hint.bytes > 0 && (best == nullptr || hint.bytes > best->bytes)) best = &hint;
      std::int64_t found = -1, avoided = -1;
      for (std::uint32_t step = 0; step < count; ++step) {
        const auto i = (cursor + step) % count;
        if (!whole(i)) continue;
        large_enough = true;
        if (!there(i)) continue;
        if (std::find(avoid.begin(), avoid.end(), placement.ranks[i]) != avoid.end()) {
          if (avoided < 0) avoided = i;
          continue;
        }
        if (best != nullptr && placement.ranks[i] == best->rank) {
          found = i;
          break;
        }
        if (found < 0) found = i;
        if (best == nullptr) break;
      }
      if (found < 0) found = avoided;
      if (found >= 0) {
        cursor = (static_cast<std::uint32_t>(found) + 1) % count;
        return pick(static_cast<std::uint32_t>(found));
      }
    }
    if (large_enough)
      return make_error(Errc::unavailable,
                        fmt::format("asked {}; the bundle's rank died and it has no new place yet", demand.text()));
    std::string bundles;
    for (std::uint32_t i = 0; i < std::min<std::uint32_t>(count, 8); ++i)
      bundles += fmt::format("{}{}: {}", i > 0 ? ", " : "", i, placement.bundles[i].text());
    return make_error(
        Errc::unschedulable,
        fmt::format("asked {}; the group's bundles are {}{}: ask for less or create the group with larger bundles",
                    demand.text(), bundles, count > 8 ? ", ..." : ""));
  }
};

ClusterView::ClusterView(Rank self, std::vector<RankInfo> infos, bool can_grow, const std::vector<Seat>& seats)
    : impl_(std::make_unique<Impl>()) {
  auto& view = *impl_;
  TRIREME_CHECK(self < infos.size(), "a rank is smaller than the job's size");
  TRIREME_CHECK(seats.empty() || (seats.size() == infos.size() && seats[self] == Seat::taken), "a seat for every rank");
  view.self = self;
  view.can_grow = can_grow;
  view.has_seats = !seats.empty();
  // Ranks start their rounds at different places, or all spread tasks of a young job would meet on one rank.
  view.spread_cursor = (self + 1) % static_cast<std::uint32_t>(infos.size());
  view.ranks.resize(infos.size());
  std::map<std::pair<Resources, Labels>, std::uint32_t> classes;
  for (Rank rank = 0; rank < infos.size(); ++rank) {
    auto& info = infos[rank];
    if (!seats.empty()) {
      view.ranks[rank].seat = seats[rank];
      if (seats[rank] == Seat::empty) info = {};
    }
    const auto [cls, new_cls] = classes.try_emplace(std::pair(std::move(info.total), std::move(info.labels)),
                                                    static_cast<std::uint32_t>(view.classes.size()));
    if (new_cls) view.classes.push_back({cls->first.first, cls->first.second, {}, 0});
    view.ranks[rank].cls = cls->second;
    if (view.ranks[rank].seat == Seat::empty) continue;
    view.sit(rank, info.node_id);
    if (view.ranks[rank].alive()) ++view.classes[cls->second].living;
  }
}

ClusterView::~ClusterView() = default;

Rank ClusterView::self() const { return impl_->self; }
std::uint32_t ClusterView::size() const { return static_cast<std::uint32_t>(impl_->ranks.size()); }
bool ClusterView::can_grow() const { return impl_->can_grow; }
bool ClusterView::alive(Rank rank) const { return rank < size() && impl_->ranks[rank].alive(); }
bool ClusterView::comes(Rank rank) const { return rank < size() && impl_->ranks[rank].seat == Seat::coming; }
const Resources& ClusterView::total(Rank rank) const { return impl_->classes[impl_->ranks[rank].cls].total; }
const std::string& ClusterView::node_id(Rank rank) const { return impl_->node_names[impl_->ranks[rank].node]; }
const Labels& ClusterView::labels(Rank rank) const { return impl_->classes[impl_->ranks[rank].cls].labels; }
Resources ClusterView::available(Rank rank) const { return impl_->available(rank); }

std::uint32_t ClusterView::nodes() const { return static_cast<std::uint32_t>(impl_->node_names.size()); }
std::uint32_t ClusterView::node_of(Rank rank) const { return impl_->ranks[rank].node; }
const std::vector<Rank>& ClusterView::ranks_of_node(std::uint32_t node) const { return impl_->node_ranks[node]; }

void ClusterView::on_rank_lost(Rank rank) {
  if (rank >= size()) return;
  auto& state = impl_->ranks[rank];
  impl_->ahead.erase(rank);
  if (std::exchange(state.seat, Seat::dead) != Seat::taken) return;
  --impl_->classes[state.cls].living;
  for (auto& shape : impl_->shapes) {
    // Classes that nobody of is left are eligible for nothing.
    if (impl_->classes[state.cls].living == 0) shape.eligible[state.cls] = false;
    if (shape.index) shape.index->erase(rank);
  }
}

void ClusterView::on_rank_coming(Rank rank, RankInfo info) {
  auto& view = *impl_;
  TRIREME_CHECK(rank < size() && view.ranks[rank].seat == Seat::empty, "a seat is taken once");
  view.ranks[rank].seat = Seat::coming;
  const auto known = std::find_if(view.classes.begin(), view.classes.end(), [&info](const Impl::Class& cls) {
    return cls.total == info.total && cls.labels == info.labels;
  });
  view.ranks[rank].cls = static_cast<std::uint32_t>(known - view.classes.begin());
  if (known == view.classes.end()) {
    view.classes.push_back({std::move(info.total), std::move(info.labels), {}, 0});
    for (auto& shape : view.shapes) shape.eligible.push_back(false);
  }
  view.sit(rank, info.node_id);
}

void ClusterView::on_rank_joined(Rank rank) {
  auto& view = *impl_;
  auto& state = view.ranks[rank];
  if (state.seat != Seat::coming) return;
  state.seat = Seat::taken;
  auto& cls = view.classes[state.cls];
  ++cls.living;
  for (auto& shape : view.shapes) {
    shape.eligible[state.cls] = Impl::holds(cls, shape.resources, shape.labels);
    if (shape.index && shape.eligible[state.cls]) shape.index->set(rank, room(shape.resources, view.available(rank)));
  }
}

void ClusterView::update(Rank rank, std::uint64_t version, const Resources& available, std::uint64_t heard) {
  if (rank >= size() || !impl_->ranks[rank].known_here()) return;
  auto& known = impl_->know(rank);
  if (version < known.version) return;
  known = {version, available};
  impl_->forget_heard(rank, heard);
  if (const auto at = impl_->ahead.find(rank); at != impl_->ahead.end()) known.available += at->second.sum;
  impl_->moved(rank);
}

void ClusterView::assume(Rank rank, const Resources& demand, std::uint64_t sent) {
  Resources taken;
  taken -= demand;
  expect(rank, taken, sent);
}

void ClusterView::expect(Rank rank, const Resources& amount, std::uint64_t sent) {
  if (alive(rank) && !amount.empty()) impl_->change(rank, amount, sent);
}

void ClusterView::set_group(GroupId id, GroupPlacement placement) {
  TRIREME_CHECK(placement.bundles.size() == placement.ranks.size() && !placement.bundles.empty(),
                "a placement has a rank for every bundle");
  const bool one_rank = std::all_of(placement.ranks.begin(), placement.ranks.end(),
                                    [&](Rank rank) { return rank == placement.ranks.front(); });
  impl_->groups[id] = {std::move(placement), 0, one_rank};
}

void ClusterView::erase_group(GroupId id) { impl_->groups.erase(id); }
bool ClusterView::knows_group(GroupId id) const { return impl_->groups.contains(id); }

Result<Choice> ClusterView::choose(const Demand& demand, Rng& rng, const std::vector<Rank>& avoid) {
  switch (demand.strategy) {
    case Strategy::normal:
      return impl_->choose_normal(demand, rng, avoid);
    case Strategy::spread:
      return impl_->choose_spread(demand, rng, avoid);
    case Strategy::node_affinity:
      return impl_->choose_affinity(demand, rng, avoid);
    case Strategy::placement_group:
      return impl_->choose_in_group(demand, avoid);
  }
  return make_error(Errc::invalid_argument, "unknown placement strategy");
}

}  // namespace trireme::scheduler
