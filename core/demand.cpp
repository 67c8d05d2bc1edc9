#include "core/demand.hpp"

namespace trireme::core {

std::vector<scheduler::LabelRule> rules_of(const std::vector<LabelRule>& labels) {
  using Op = scheduler::LabelRule::Op;
  std::vector<scheduler::LabelRule> rules;
  for (const auto& [label, values, wanted] : labels) {
    const auto op = values.empty() ? (wanted ? Op::exists : Op::does_not_exist) : (wanted ? Op::in : Op::not_in);
    rules.push_back({label, op, values});
  }
  return rules;
}

scheduler::Demand demand_of(const Resources& resources, const Placement& placement, double default_cpus, Error& error) {
  scheduler::Demand demand;
  const auto set = [&](std::string_view name, double amount) {
    if (auto status = demand.resources.set(name, amount); !status.ok()) error = status.error();
  };
  set("CPU", resources.cpus.value_or(default_cpus));
  if (resources.gpus != 0) set("GPU", resources.gpus);
  if (resources.memory != 0) demand.resources.set_memory_bytes(static_cast<std::int64_t>(resources.memory));
  for (const auto& [name, amount] : resources.custom) set(name, amount);
  using Kind = Placement::Kind;
  demand.labels = rules_of(placement.labels);
  if (placement.kind == Kind::group && !demand.labels.empty())
    error = make_error(Errc::invalid_argument,
                       "labels and a placement group at once: give the labels to the bundles of the group");
  switch (placement.kind) {
    case Kind::automatic:
      break;
    case Kind::spread:
      demand.strategy = scheduler::Strategy::spread;
      break;
    case Kind::rank:
    case Kind::node:
      demand.strategy = scheduler::Strategy::node_affinity;
      demand.affinity_rank = placement.kind == Kind::rank ? placement.rank : kNoRank;
      demand.affinity_node = placement.node;
      demand.soft = placement.soft;
      break;
    case Kind::group:
      demand.strategy = scheduler::Strategy::placement_group;
      demand.group = {placement.group_owner, placement.group};
      demand.bundle = placement.bundle;
      break;
  }
  return demand;
}

}  // namespace trireme::core
