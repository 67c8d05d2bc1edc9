#include "trireme/group.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/current.hpp"
#include "core/demand.hpp"
#include "core/rank_core.hpp"

namespace trireme {

struct PlacementGroup::State {
  detail::CellRef ready;
  ObjectId id;
  bool removed = false;
  ~State() { remove(); }
  void remove() {
    if (std::exchange(removed, true)) return;
    auto* core = core::current_or_null();
    if (core == nullptr) return;
    core::post(*core->context().host, [core, id = id] { core->groups().remove(id); });
  }
};

namespace {

scheduler::BundleRules rules_of(const std::vector<std::vector<LabelRule>>& labels) {
  scheduler::BundleRules rules;
  for (const auto& bundle : labels) rules.push_back(core::rules_of(bundle));
  // Without conditions the plan need not look at labels.
  const bool any = std::any_of(rules.begin(), rules.end(), [](const auto& rule) { return !rule.empty(); });
  return any ? rules : scheduler::BundleRules{};
}

}  // namespace

PlacementGroup::PlacementGroup(GroupStrategy strategy, std::vector<Resources> bundles,
                               const std::vector<std::vector<LabelRule>>& labels)
    : state_(std::make_shared<State>()) {
  auto& core = core::current();
  std::vector<scheduler::Resources> amounts;
  for (const auto& bundle : bundles) {
    Error bad;
    amounts.push_back(core::demand_of(bundle, {}, 1, bad).resources);
    if (bad.code != Errc::unknown) {
      state_->removed = true;
      detail::throw_error(core::runtime_error(core.context(), bad.code, bad.message));
    }
  }
  if (amounts.empty()) {
    state_->removed = true;
    detail::throw_error(
        core::runtime_error(core.context(), Errc::invalid_argument, "a placement group needs at least one bundle"));
  }
  if (!labels.empty() && labels.size() != amounts.size()) {
    state_->removed = true;
    detail::throw_error(core::runtime_error(
        core.context(), Errc::invalid_argument,
        fmt::format("{} conditions on labels for {} bundles: one for each is needed, or none at all", labels.size(),
                    amounts.size())));
  }
  state_->ready = detail::make_plain_cell();
  const auto create = [&] {
    state_->id = core.groups().create(static_cast<scheduler::GroupStrategy>(strategy), std::move(amounts),
                                      rules_of(labels), state_->ready);
  };
  auto& host = *core.context().host;
  if (host.holds_token()) {
    create();
    return;
  }
  scheduler::WaitPoint point;
  core::post(host, [&] {
    create();
    point.signal();
  });
  host.wait(point, kForever);
}

Ref<detail::Nothing> PlacementGroup::ready() const { return Ref<detail::Nothing>(state_->ready); }

Placement PlacementGroup::on(int bundle) const {
  Placement placement;
  placement.kind = Placement::Kind::group;
  placement.group = state_->id.index;
  placement.group_owner = state_->id.owner;
  placement.bundle = bundle;
  return placement;
}

void PlacementGroup::remove() { state_->remove(); }

}  // namespace trireme
