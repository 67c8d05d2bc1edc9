#pragma once

#include "scheduler/placement.hpp"
#include "trireme/options.hpp"

namespace trireme::core {

std::vector<scheduler::LabelRule> rules_of(const std::vector<LabelRule>& labels);
/// What a program asked for, as the scheduler's request. An amount that Resources refuses, and labels beside a
/// placement group, are reported through `error` (code other than unknown).
scheduler::Demand demand_of(const Resources& resources, const Placement& placement, double default_cpus, Error& error);

}  // namespace trireme::core
