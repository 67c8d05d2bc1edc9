#include <fmt/format.h>

#include "tests/sim/driver.hpp"
#include "tests/sim/visit.hpp"
#include "trireme/runtime.hpp"

namespace trireme::sim {

TaskOptions Driver::somewhere() {
  TaskOptions options;
  options.placement = Placement::on(static_cast<Rank>(visit_rng_.below(world_.size())), true);
  options.max_retries = 0;
  return options;
}

void Driver::visit() {
  switch (visit_rng_.below(8)) {
    case 0:
      return open_elsewhere();
    case 1:
    case 2:
      return find_elsewhere();
    case 3:
      return end_elsewhere();
    case 4:
    case 5:
      return group_elsewhere();
    default:
      return hold_and_wait();
  }
}

void Driver::open_elsewhere() {
  Hired hired;
  hired.key = ledger->actor_key();
  hired.value = visit_rng_.next();
  hired.name = fmt::format("visit{}", hired.key);
  const auto options = somewhere();
  note(fmt::format("rank {} opens actor {} named {}", options.placement.rank, hired.key, hired.name));
  const auto opened = submit_with<&open_named>(options, new_order(hired.value, 0, 0), hired.key, hired.name);
  try {
    hired.actor = get(opened);
    hired_.push_back(std::move(hired));
  } catch (const Exception& error) {
    if (world_.deaths == 0) ledger->fail(fmt::format("opening {} elsewhere fails: {}", hired.name, error.what()));
  }
}

void Driver::find_elsewhere() {
  const auto options = somewhere();
  if (hired_.empty() || visit_rng_.chance(0.2)) {
    note(fmt::format("rank {} looks up nobody", options.placement.rank));
    const auto found = submit_with<&find_named>(options, new_order(0, 0, 0), std::string("nobody"));
    try {
      get(found);
      ledger->fail("an actor that does not exist was found elsewhere");
    } catch (const Exception& error) {
      if (error.code() != Errc::not_found && world_.deaths == 0)
        ledger->fail(fmt::format("looking for nobody elsewhere: {}", error.what()));
    }
    return;
  }
  auto& hired = hired_[visit_rng_.below(hired_.size())];
  if (hired.name.empty()) return;
  note(fmt::format("rank {} looks up {}", options.placement.rank, hired.name));
  const auto found = submit_with<&find_named>(options, new_order(0, 0, 0), hired.name);
  try {
    const auto actor = get(found);
    if (hired.at_once != 1) return;
    const auto value = visit_rng_.next();
    auto order = caller_.order(hired.key, value);
    // Only while it was held is it sure to be there still.
    if (!hired.actor) killed_.insert(hired.key);
    add(actor.call<&Account::add>(order), eval_add(value), {hired.key},
        fmt::format("call {} of actor {}, found by rank {}", order.number, hired.key, options.placement.rank));
  } catch (const Exception& error) {
    const bool gone = !hired.actor || killed_.contains(hired.key);
    if (!gone && world_.deaths == 0)
      ledger->fail(fmt::format("{} is not found by rank {}: {}", hired.name, options.placement.rank, error.what()));
  }
}

void Driver::end_elsewhere() {
  if (hired_.empty()) return open_elsewhere();
  auto& hired = hired_[visit_rng_.below(hired_.size())];
  if (!hired.actor) return;
  const auto options = somewhere();
  note(fmt::format("rank {} kills actor {}", options.placement.rank, hired.key));
  killed_.insert(hired.key);
  const auto ended = submit_with<&end_account>(options, new_order(0, 0, 0), hired.actor);
  if (hired.detached) {
    // Nobody else ends it, should the rank die first.
    try {
      get(ended);
    } catch (const Exception&) {
      hired.actor.kill();
    }
  }
  hired.actor = {};
}

void Driver::group_elsewhere() {
  if (groups_.empty()) return group();
  const auto& group = groups_[visit_rng_.below(groups_.size())];
  const auto booth = booth_in(group, static_cast<int>(visit_rng_.below(3)) - 1);
  const auto options = somewhere();
  const auto value = visit_rng_.next();
  const bool leaf = visit_rng_.chance(0.7);
  const auto key = leaf ? 0 : ledger->actor_key();
  const auto what = fmt::format("{} of rank {} in a placement group", leaf ? "leaf" : "actor", options.placement.rank);
  const auto nested = leaf ? submit_with<&leaf_in_group>(options, new_order(value, 0, 0), booth)
                           : submit_with<&account_in_group>(options, new_order(value, 0, 0), booth, key);
  try {
    // The actor's handle goes with the task, before it has a place perhaps.
    if (!leaf) killed_.insert(key);
    add(get(nested), leaf ? eval_leaf(value) : eval_add(value), {0, key}, what);
  } catch (const Exception& error) {
    if (world_.deaths == 0) ledger->fail(fmt::format("{}: {}", what, error.what()));
  }
}

/// Tasks that hold CPUs and wait for others, which need some as well.
void Driver::hold_and_wait() {
  const auto options = somewhere();
  for (auto n = 1 + visit_rng_.below(4); n > 0; --n) {
    const auto value = visit_rng_.next();
    if (visit_rng_.chance(0.3)) {
      add(submit_with<&tree>(options, new_order(value, 2, 0)), eval_tree(value, 2), {},
          fmt::format("tree on rank {}", options.placement.rank));
      continue;
    }
    const Held a = any();
    const Held b = any();
    auto actors = a.actors;
    actors.insert(b.actors.begin(), b.actors.end());
    add(submit_with<&sum>(options, new_order(value, 0, 0), std::vector<Ref<Blob>>{a.ref, b.ref}),
        eval_sum(value, {a.outcome, b.outcome}), actors,
        fmt::format("sum on rank {} of ({}) and ({})", options.placement.rank, a.what, b.what));
  }
}

}  // namespace trireme::sim
