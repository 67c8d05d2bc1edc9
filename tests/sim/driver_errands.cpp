#include <fmt/format.h>

#include "tests/sim/driver.hpp"
#include "trireme/runtime.hpp"

namespace trireme::sim {

void Driver::errand() {
  switch (errand_rng_.below(16)) {
    case 0:
    case 1:
    case 2:
    case 3:
      return send_errand();
    case 4:
    case 5:
    case 6:
      return send_to_desk();
    case 7:
      return send_through_another_rank();
    case 8:
      return use_errand();
    case 9:
    case 10:
    case 11:
    case 12:
      return cancel_one();
    case 13:
      return end_desk();
    default: {
      if (errands_.empty()) return send_errand();
      const auto at = errand_rng_.below(errands_.size());
      std::swap(errands_[at], errands_.back());
      const auto last = std::move(errands_.back());
      errands_.pop_back();
      if (errand_rng_.chance(0.5)) return note("drop (" + last.what + ")");
      note("look at (" + last.what + ")");
      return check_errand(last);
    }
  }
}

bool Driver::draw_chore() { return with_chores_ && chore_rng_.chance(0.5); }

Errand Driver::new_errand(bool chore) {
  Errand errand;
  errand.chore = chore;
  errand.value = errand_rng_.next();
  // Some long enough to be cancelled while they run, or to keep others waiting.
  errand.time = static_cast<Nanos>(errand_rng_.below(errand_rng_.chance(0.3) ? 1'000'000 : 50'000));
  errand.ticket = ledger->ticket(TaskOptions{}.max_retries);
  errand.key = errand.ticket;
  return errand;
}

std::vector<const Driver::Held*> Driver::pick_deps() {
  std::vector<const Held*> deps;
  for (auto n = errand_rng_.below(3); n > 0; --n) {
    auto& from = errand_rng_.chance(0.7) ? errands_ : held_;
    if (from.empty()) continue;
    const auto* dep = &from[errand_rng_.below(from.size())];
    // With two that fail, either error may be the result.
    bool failing = dep->outcome.failed;
    for (const auto* other : deps) failing = failing && !other->outcome.failed;
    if (!deps.empty() && dep->outcome.failed && !failing) continue;
    deps.push_back(dep);
  }
  return deps;
}

namespace {

std::vector<Ref<Blob>> refs_of(const auto& deps) {
  std::vector<Ref<Blob>> refs;
  for (const auto* dep : deps) refs.push_back(dep->ref);
  return refs;
}

}  // namespace

void Driver::add_errand(Ref<Blob> ref, const Errand& errand, const std::vector<const Held*>& deps, std::string what) {
  Held held;
  std::vector<Outcome> outcomes;
  for (const auto* dep : deps) {
    outcomes.push_back(dep->outcome);
    held.actors.insert(dep->actors.begin(), dep->actors.end());
    held.keys.insert(dep->keys.begin(), dep->keys.end());
    what += " with (" + dep->what + ")";
  }
  if (errand.call.actor != 0) held.actors.insert(errand.call.actor);
  held.keys.insert(errand.key);
  held.ref = std::move(ref);
  held.outcome = eval_errand(errand.value, outcomes);
  held.ticket = errand.ticket;
  held.key = errand.key;
  held.chore = errand.chore;
  held.what = std::move(what);
  note(held.what);
  errands_.push_back(std::move(held));
}

void Driver::send_errand() {
  const auto deps = pick_deps();
  TaskOptions options;
  std::string text;
  switch (errand_rng_.below(5)) {
    case 0:
      options.placement = Placement::spread();
      text = " spread";
      break;
    case 1:
      options.placement = Placement::on(static_cast<Rank>(errand_rng_.below(world_.size())), true);
      text = fmt::format(" on rank {}", options.placement.rank);
      break;
    case 2:
      options.resources.custom["slot"] = 1;
      text = " with a slot";
      break;
    default:
      break;
  }
  for (auto n = 1 + errand_rng_.below(3); n > 0; --n) {
    const auto errand = new_errand(draw_chore());
    add_errand(submit_errand(text.empty() ? nullptr : &options, errand, refs_of(deps)), errand, deps,
               fmt::format("{} {}{}", errand.chore ? "chore" : "errand", errand.key, text));
    // errands_ may have moved what `deps` points to.
    if (!deps.empty()) return;
  }
}

void Driver::send_to_desk() {
  if (desks_.empty() || (desks_.size() < 3 && errand_rng_.chance(0.2))) {
    ActorOptions options;
    std::string text;
    if (errand_rng_.chance(0.7)) {
      options.placement = Placement::on(static_cast<Rank>(errand_rng_.below(world_.size())), true);
      text = fmt::format(" on rank {}", options.placement.rank);
    }
    const auto key = ledger->actor_key();
    const bool chores = draw_chore();
    note(fmt::format("desk {}{}{}", key, chores ? " for chores" : "", text));
    desks_.push_back({open_desk(options, key, chores), key, chores});
  }
  const auto& seat = desks_[errand_rng_.below(desks_.size())];
  for (auto n = 1 + errand_rng_.below(3); n > 0; --n) {
    const auto deps = pick_deps();
    auto errand = new_errand(seat.chores);
    errand.call = caller_.order(seat.key, errand.value);
    errand.ticket = errand.call.ticket;
    errand.key = errand.ticket;
    add_errand(call_desk(seat.desk, errand, refs_of(deps)), errand, deps,
               fmt::format("errand {} at desk {}", errand.key, seat.key));
  }
}

void Driver::send_through_another_rank() {
  const auto errand = new_errand(draw_chore());
  TaskOptions options;
  options.placement = Placement::on(static_cast<Rank>(errand_rng_.below(world_.size())), true);
  const auto what = fmt::format("errand {} owned by rank {}", errand.key, options.placement.rank);
  const auto nested = submit_with<&errand_for>(options, new_order(errand.value), errand);
  try {
    add_errand(get(nested), errand, {}, what);
  } catch (const Exception& error) {
    if (world_.deaths == 0) ledger->fail(fmt::format("{}: {}", what, error.what()));
  }
}

/// Somebody else's argument: what happens to it happens to the task.
void Driver::use_errand() {
  if (errands_.empty()) return send_errand();
  const auto with = errands_[errand_rng_.below(errands_.size())];
  const auto value = errand_rng_.next();
  Held held = with;
  const auto order = new_order(value);
  held.ref = submit<&combine>(order, with.ref, make_blob(value));
  held.outcome = eval_combine(value, with.outcome, {false, value});
  held.ticket = order.ticket;
  held.key = 0;  // cannot be cancelled itself
  held.what = "combination of (" + with.what + ")";
  note(held.what);
  errands_.push_back(std::move(held));
}

void Driver::cancel_one() {
  if (errands_.empty()) return send_errand();
  // Mostly a young one.
  const auto last = errands_.size() - 1;
  const auto at = errand_rng_.chance(0.6) ? last - errand_rng_.below(std::min<std::size_t>(last + 1, 3))
                                          : errand_rng_.below(errands_.size());
  const auto& held = errands_[at];
  if (held.key == 0) return;
  cancelled_.insert(held.key);
  const bool force = held.chore && chore_rng_.chance(0.3);
  const char* how = force ? " with force" : "";
  if (errand_rng_.chance(0.7)) {
    note(fmt::format("cancel{} ({})", how, held.what));
    return cancel_errand(held.ref, force);
  }
  TaskOptions options;
  options.placement = Placement::on(static_cast<Rank>(errand_rng_.below(world_.size())), true);
  note(fmt::format("cancel{} through rank {} ({})", how, options.placement.rank, held.what));
  const auto done = submit_with<&cancel_for>(options, new_order(0), held.ref, force);
}

void Driver::end_desk() {
  if (desks_.empty()) return;
  const auto at = errand_rng_.below(desks_.size());
  std::swap(desks_[at], desks_.back());
  if (errand_rng_.chance(0.5)) {
    note(fmt::format("kill desk {}", desks_.back().key));
    killed_.insert(desks_.back().key);
    detail::kill_actor(desks_.back().desk.cell());
  } else {
    note(fmt::format("drop desk {}", desks_.back().key));
  }
  desks_.pop_back();
}

void Driver::check_errand(const Held& held) {
  try {
    get(held.ref);
  } catch (const Exception& error) {
    if (error.code() == Errc::cancelled) {
      bool asked = false;
      for (const auto key : held.keys) asked = asked || cancelled_.contains(key);
      if (!asked) ledger->fail(fmt::format("{}: nobody cancelled it: {}", held.what, error.what()));
      // Its own or an argument's: in both cases it never begins.
      if (error.message().find("before it began") != std::string::npos) {
        ledger->never_began(held.ticket);
        ++cancels_.never_began;
      } else {
        ++cancels_.interrupted;
      }
      return;
    }
  }
  if (cancelled_.contains(held.key)) ++cancels_.value;
  check(held);
}

}  // namespace trireme::sim
