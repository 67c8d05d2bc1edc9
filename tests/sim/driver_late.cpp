#include <fmt/format.h>

#include "tests/sim/driver.hpp"
#include "trireme/runtime.hpp"

// What only a rank that comes after the start can run: it waits until then, wherever it was asked for.

namespace trireme::sim {

void Driver::ask_late() {
  Resources resources;
  resources.cpus = 0;
  resources.custom["late"] = 1;
  switch (late_rng_.below(5)) {
    case 0:
    case 1: {
      TaskOptions options;
      const auto value = late_rng_.next();
      // What it has, or how it is labelled.
      if (value % 2 == 0)
        options.resources = resources;
      else
        options.placement.labels.push_back({"late", {}, true});
      if (late_rng_.chance(0.5))
        add(submit_with<&leaf>(options, new_order(value)), eval_leaf(value), {}, "leaf on a late rank");
      else {
        const auto part = late_rng_.next();
        auto outcome = eval_leaf(part);
        add(submit_with<&combine>(options, new_order(value), submit<&leaf>(new_order(part)), make_blob(value)),
            eval_combine(value, outcome, {false, value}), {}, "combination on a late rank");
      }
      return;
    }
    case 2: {
      TaskOptions options;
      options.placement = Placement::on(late_);
      const auto value = late_rng_.next();
      add(submit_with<&leaf>(options, new_order(value)), eval_leaf(value), {},
          fmt::format("leaf on late rank {} and nowhere else", late_));
      return;
    }
    case 3: {
      ActorOptions options;
      const auto key = ledger->actor_key();
      const auto first = late_rng_.next();
      if (first % 2 == 0)
        options.resources = resources;
      else
        options.placement.labels.push_back({"late", {"yes"}, true});
      auto actor = spawn_with<Account>(options, first, key, 1U);
      for (auto n = 1 + late_rng_.below(3); n > 0; --n) {
        const auto value = late_rng_.next();
        add(actor.call<&Account::add>(caller_.order(key, value)), eval_add(value), {key},
            fmt::format("call of actor {} on a late rank", key));
      }
      const auto value = late_rng_.next();
      if (late_rng_.chance(0.5))
        add(submit<&use_account>(new_order(value), actor, key), eval_use(value), {key},
            fmt::format("task that calls actor {} on a late rank", key));
      if (late_rng_.chance(0.2)) {
        note(fmt::format("kill actor {} on a late rank", key));
        killed_.insert(key);
        actor.kill();
      }
      late_actors_.push_back(std::move(actor));
      return;
    }
    default: {
      note("placement group on late ranks");
      PlacementGroup made(late_rng_.chance(0.5) ? GroupStrategy::pack : GroupStrategy::spread, {resources, resources});
      const auto value = late_rng_.next();
      TaskOptions options;
      options.resources = resources;
      options.placement = made.on(-1);
      add(submit_with<&leaf>(options, new_order(value)), eval_leaf(value), {},
          "leaf in a placement group of late ranks");
      late_groups_.push_back(std::move(made));
      return;
    }
  }
}

}  // namespace trireme::sim
