#include "tests/sim/driver.hpp"

#include <fmt/format.h>

#include "trireme/runtime.hpp"

namespace trireme::sim {

Driver::Driver(World& world, std::uint64_t seed, bool errands, bool visits, bool chores, bool inquiries, Rank late,
               std::vector<std::string>& log)
    : world_(world),
      rng_(seed ^ 0x647269766572ULL),
      log_(log),
      with_errands_(errands),
      errand_rng_(seed ^ 0x657272616e64ULL),
      with_chores_(chores),
      chore_rng_(seed ^ 0x63686f7265ULL),
      with_visits_(visits),
      visit_rng_(seed ^ 0x7669736974ULL),
      with_inquiries_(inquiries),
      inquiry_rng_(seed ^ 0x696e7175697279ULL),
      late_(late),
      late_rng_(seed ^ 0x6c617465ULL) {}

Order Driver::order(std::uint64_t value, std::uint32_t depth) { return new_order(value, depth); }

void Driver::add(Ref<Blob> ref, Outcome outcome, std::set<std::uint64_t> actors, std::string what) {
  note(what);
  held_.push_back({std::move(ref), outcome, std::move(actors), std::move(what), 0, 0, {}, false});
}

Driver::Held& Driver::any() {
  if (held_.empty()) put_one();
  return held_[rng_.below(held_.size())];
}

void Driver::run() {
  const auto actions = 3 + rng_.below(rng_.chance(0.15) ? 60 : 20);
  for (std::uint64_t i = 0; i < actions; ++i) {
    if (rng_.chance(0.5))
      world_.at(0).host->compute(static_cast<Nanos>(rng_.below(rng_.chance(0.2) ? 500'000 : 20'000)));
    act();
    if (with_errands_)
      for (auto n = errand_rng_.below(3); n > 0; --n) errand();
    if (with_visits_ && visit_rng_.chance(0.5)) visit();
    if (with_inquiries_ && inquiry_rng_.chance(0.4)) inquire_somewhere();
    if (late_ != kNoRank && late_rng_.chance(0.3)) ask_late();
  }
  // Half of the handles go before the results are looked at, so that actors end with calls under way.
  note("end");
  for (auto& hired : hired_) {
    if (hired.detached && hired.actor) {
      killed_.insert(hired.key);
      hired.actor.kill();
    }
    hired.actor = {};
  }
  groups_.clear();
  desks_.clear();
  while (!asked_.empty()) hear_answer();
  for (; !errands_.empty(); errands_.pop_back()) check_errand(errands_.back());
  while (!held_.empty()) {
    const auto at = rng_.below(held_.size());
    std::swap(held_[at], held_.back());
    const auto last = std::move(held_.back());
    held_.pop_back();
    check(last);
  }
  late_actors_.clear();
  late_groups_.clear();
}

void Driver::act() {
  switch (rng_.below(16)) {
    case 0:
    case 1:
    case 2:
      return submit_tree();
    case 3:
      return submit_many();
    case 4:
      return submit_placed();
    case 5:
    case 6:
      return submit_with_held();
    case 7:
      return put_one();
    case 8:
      return hire();
    case 9:
    case 10:
    case 11:
      return call();
    case 12:
      return lend_actor();
    case 13:
      return let_go();
    case 14:
      return rng_.chance(0.5) ? look_up() : group();
    default:
      return check_one();
  }
}

void Driver::submit_tree() {
  const auto value = rng_.next();
  const auto depth = static_cast<std::uint32_t>(1 + rng_.below(3));
  const auto text = fmt::format("tree {} deep", depth);
  if (rng_.chance(0.5))
    add(submit<&tree>(order(value, depth)), eval_tree(value, depth), {}, text);
  else
    add(submit<&tree_later>(order(value, depth)), eval_tree(value, depth), {}, text + " (coroutines)");
}

void Driver::submit_many() {
  const auto count = 1 + rng_.below(30);
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto value = rng_.next();
    auto ref = submit<&leaf>(order(value));
    if (rng_.chance(0.2)) add(std::move(ref), eval_leaf(value), {}, "leaf");
  }
  note(fmt::format("{} leaves", count));
}

void Driver::submit_placed() {
  TaskOptions options;
  options.max_retries = static_cast<int>(rng_.below(3));
  std::string where;
  switch (rng_.below(4)) {
    case 0:
      options.placement = Placement::spread();
      where = "spread";
      break;
    case 1: {
      const auto rank = static_cast<Rank>(rng_.below(world_.size()));
      options.placement = Placement::on(rank, true);
      where = fmt::format("on rank {}", rank);
      break;
    }
    case 2:
      options.placement =
          Placement::on_node(fmt::format("node{}", world_.options.node_of[rng_.below(world_.size())]), true);
      where = "on a node";
      break;
    default:
      options.resources.custom["slot"] = 1;
      where = "slot";
      break;
  }
  const auto count = 1 + rng_.below(6);
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto value = rng_.next();
    if (rng_.chance(0.5)) {
      add(submit_with<&leaf>(options, new_order(value, 0, static_cast<std::uint32_t>(options.max_retries))),
          eval_leaf(value), {}, "leaf placed " + where);
    } else {
      auto with = any();
      add(submit_with<&combine>(options, new_order(value, 0, static_cast<std::uint32_t>(options.max_retries)), with.ref,
                                make_blob(value)),
          eval_combine(value, with.outcome, {false, value}), with.actors,
          "combination placed " + where + " of (" + with.what + ")");
    }
  }
}

void Driver::submit_with_held() {
  const auto value = rng_.next();
  const Held a = any();
  const Held b = any();
  auto actors = a.actors;
  actors.insert(b.actors.begin(), b.actors.end());
  switch (rng_.below(4)) {
    case 0:
      if (a.outcome.failed && b.outcome.failed) return;
      add(submit<&combine>(order(value), a.ref, b.ref), eval_combine(value, a.outcome, b.outcome), actors,
          "combination of (" + a.what + ") and (" + b.what + ")");
      return;
    case 1: {
      auto nested = submit<&hand_on>(order(value), a.ref);
      // The inner reference comes back through whoever ran it; only then it is held.
      if (rng_.chance(0.3)) return note("hand on (" + a.what + "), dropped");
      try {
        add(get(nested), a.outcome, a.actors, "hand on of (" + a.what + ")");
      } catch (const Exception& error) {
        if (world_.deaths == 0) ledger->fail(fmt::format("hand on fails: {}", error.what()));
      }
      return;
    }
    case 2:
      add(submit<&sum>(order(value), std::vector<Ref<Blob>>{a.ref, b.ref}), eval_sum(value, {a.outcome, b.outcome}),
          actors, "sum of (" + a.what + ") and (" + b.what + ")");
      return;
    default:
      add(submit<&sum_later>(order(value), std::vector<Ref<Blob>>{a.ref, b.ref}),
          eval_sum(value, {a.outcome, b.outcome}), actors, "coroutine sum of (" + a.what + ") and (" + b.what + ")");
      return;
  }
}

void Driver::put_one() {
  const auto value = rng_.next();
  auto blob = make_blob(value);
  const auto words = blob.size();
  add(put(std::move(blob)), {false, value}, {}, fmt::format("put of {} words", words));
}

void Driver::hire() {
  Hired hired;
  hired.key = ledger->actor_key();
  hired.value = rng_.next();
  ActorOptions options;
  std::string text = fmt::format("actor {}", hired.key);
  if (rng_.chance(0.1)) {
    hired.value = 0;
    hired.broken = true;
    text += " whose constructor throws";
  }
  switch (rng_.below(6)) {
    case 0:
      options.placement = Placement::spread();
      text += " spread";
      break;
    case 1:
      options.placement = Placement::on(static_cast<Rank>(rng_.below(world_.size())), true);
      text += fmt::format(" on rank {}", options.placement.rank);
      break;
    case 2:
      // Never more than there are, or it waits for those that hold them.
      if (seats_ < 4) {
        ++seats_;
        options.resources.custom["seat"] = 1;
        text += " with a seat";
      }
      break;
    default:
      break;
  }
  if (rng_.chance(0.2)) {
    hired.at_once = 3;
    options.max_concurrency = 3;
    text += " of concurrency 3";
  }
  if (rng_.chance(0.15)) {
    options.detached = hired.detached = true;
    text += " detached";
  }
  if (rng_.chance(0.2)) {
    hired.name = fmt::format("name{}", names_++);
    options.name = hired.name;
    text += " named " + hired.name;
  }
  note(text);
  if (!hired.broken && rng_.chance(0.2)) {
    auto ref = submit<&open_account>(order(hired.value), hired.key);
    hired.at_once = 1;
    hired.detached = false;
    hired.name.clear();
    try {
      hired.actor = get(ref);
    } catch (const Exception& error) {
      if (world_.deaths == 0)
        ledger->fail(fmt::format("opening actor {} in a task fails: {}", hired.key, error.what()));
      return;
    }
  } else {
    hired.actor = spawn_with<Account>(options, hired.value, hired.key, hired.at_once);
  }
  if (hired.broken) killed_.insert(hired.key);
  hired_.push_back(std::move(hired));
}

void Driver::call() {
  if (hired_.empty()) return hire();
  auto& hired = hired_[rng_.below(hired_.size())];
  if (!hired.actor) return;
  const auto key = hired.key;
  const auto count = 1 + rng_.below(5);
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto value = rng_.next();
    auto order = caller_.order(key, value);
    const std::string text = fmt::format("call {} of actor {}", order.number, key);
    switch (rng_.below(7)) {
      case 0:
      case 1:
        add(hired.actor.call<&Account::add>(order), eval_add(value), {key}, text);
        break;
      case 2: {
        const auto leaf_value = mix(value, 1);
        add(hired.actor.call<&Account::add_to>(order, submit<&leaf>(this->order(leaf_value))),
            eval_add_to(value, eval_leaf(leaf_value)), {key}, text + " with a leaf");
        break;
      }
      case 3: {
        // Arguments that are no results of actors: two callers could wait for each other's.
        const Held with = any();
        if (!with.actors.empty()) break;
        add(hired.actor.call<&Account::add_both>(order, with.ref, make_blob(value)),
            eval_add_both(value, with.outcome, {false, value}), {key}, text + " with (" + with.what + ")");
        break;
      }
      case 4: {
        const Held with = any();
        if (!with.actors.empty()) break;
        add(hired.actor.call<&Account::add_later>(order, with.ref), eval_add_to(value, with.outcome), {key},
            text + " that awaits (" + with.what + ")");
        break;
      }
      case 5:
        add(hired.actor.call<&Account::refuse>(order), {true, value}, {key}, text + " that throws");
        break;
      default: {
        note(text + " that keeps");
        hired.actor.call<&Account::keep>(order, any().ref);
        break;
      }
    }
  }
}

void Driver::lend_actor() {
  if (hired_.empty()) return hire();
  auto& hired = hired_[rng_.below(hired_.size())];
  if (!hired.actor || hired.at_once != 1) return;
  const auto value = rng_.next();
  if (rng_.chance(0.5))
    add(submit<&use_account>(order(value), hired.actor, hired.key), eval_use(value), {hired.key},
        fmt::format("task that calls actor {}", hired.key));
  else
    add(submit<&use_account_later>(order(value), hired.actor, hired.key), eval_use(value), {hired.key},
        fmt::format("coroutine that calls actor {}", hired.key));
}

void Driver::let_go() {
  if (rng_.chance(0.6) && !held_.empty()) {
    const auto at = rng_.below(held_.size());
    note("drop (" + held_[at].what + ")");
    std::swap(held_[at], held_.back());
    held_.pop_back();
    return;
  }
  if (hired_.empty()) return;
  auto& hired = hired_[rng_.below(hired_.size())];
  if (!hired.actor) return;
  if (hired.detached || rng_.chance(0.4)) {
    note(fmt::format("kill actor {}", hired.key));
    killed_.insert(hired.key);
    hired.actor.kill();
  } else {
    note(fmt::format("drop actor {}", hired.key));
  }
  hired.actor = {};
}

void Driver::look_up() {
  for (auto& hired : hired_) {
    if (hired.name.empty() || !hired.actor || killed_.contains(hired.key)) continue;
    note("look up " + hired.name);
    try {
      hired.actor = actor<Account>(hired.name);
    } catch (const Exception& error) {
      if (world_.deaths == 0) ledger->fail(fmt::format("{} is not found: {}", hired.name, error.what()));
    }
    return;
  }
  try {
    actor<Account>("nobody");
    ledger->fail("an actor that does not exist was found");
  } catch (const Exception& error) {
    if (error.code() != Errc::not_found) ledger->fail(fmt::format("looking for nobody: {}", error.what()));
  }
}

void Driver::group() {
  if (!groups_.empty() && rng_.chance(0.3)) {
    note("remove a placement group");
    groups_.pop_back();
    return;
  }
  if (groups_.size() >= (world_.deaths_planned ? 1U : 2U)) return;
  Resources bundle;
  bundle.cpus = 0;
  bundle.custom["desk"] = 1;
  note("placement group of 2 bundles");
  PlacementGroup made(rng_.chance(0.5) ? GroupStrategy::pack : GroupStrategy::spread, {bundle, bundle});
  const auto ready = made.ready();
  for (std::uint64_t i = 0; i < 1 + rng_.below(4); ++i) {
    const auto value = rng_.next();
    TaskOptions options;
    options.resources = bundle;
    options.placement = made.on(static_cast<int>(rng_.below(3)) - 1);
    options.max_retries = 0;
    add(submit_with<&leaf>(options, new_order(value, 0, 0)), eval_leaf(value), {0}, "leaf in a placement group");
  }
  // With fewer ranks it may have to wait for a group that this program removes later.
  if (!world_.deaths_planned && rng_.chance(0.3)) {
    try {
      get(ready);
    } catch (const Exception& error) {
      if (world_.deaths == 0) ledger->fail(fmt::format("a placement group fails: {}", error.what()));
    }
  }
  groups_.push_back(std::move(made));
}

void Driver::check_one() {
  if (held_.empty()) return submit_tree();
  const auto at = rng_.below(held_.size());
  const auto held = held_[at];
  note("look at (" + held.what + ")");
  check(held);
}

void Driver::check(const Held& held) {
  Outcome got;
  try {
    got = {false, check_blob(get(held.ref))};
  } catch (const Exception& error) {
    if (error.code() != Errc::task_failed) {
      // Group tasks carry the key 0: their group may be removed under them.
      bool excused = world_.deaths != 0;
      for (const auto key : held.actors)
        excused = excused || key == 0 || (killed_.contains(key) && error.code() == Errc::actor_died);
      if (!excused) ledger->fail(fmt::format("{}: {}", held.what, error.what()));
      return;
    }
    got = {true, std::stoull(error.message())};
  }
  if (got != held.outcome)
    ledger->fail(fmt::format("{}: gives {} {}, must be {} {}", held.what, got.failed ? "error" : "value", got.value,
                             held.outcome.failed ? "error" : "value", held.outcome.value));
}

Verdict run_seed(std::uint64_t seed, Deaths deaths, Errands errands, Visits visits, Joins joins, Chores chores,
                 Inquiries inquiries) {
  Verdict verdict;
  auto world_options = WorldOptions::of_seed(seed);
  Rng join_rng(seed ^ 0x6a6f696eULL);
  const bool with_joins = joins != Joins::none && (join_rng.chance(0.33) || joins == Joins::always);
  if (with_joins) world_options.add_seats(seed);
  World world(std::move(world_options), seed);
  Ledger book(world);
  ledger = &book;
  verdict.world = world.options.text();
  Rng rng(seed ^ 0x666175766c74ULL);
  if (deaths == Deaths::by_seed && rng.chance(0.4)) {
    const auto count = 1 + rng.below(world.size() - 1);
    world.deaths_planned = true;
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto rank = static_cast<Rank>(1 + rng.below(world.size() - 1));
      if (with_joins && rank >= world.size() - world.options.seats) continue;  // below
      const auto at = static_cast<Nanos>(rng.below(rng.chance(0.5) ? 300'000 : 3'000'000));
      verdict.shape.push_back(fmt::format("rank {} dies at {} us", rank, at / 1000));
      world.doom(rank);
      world.network.schedule(at, [&world, rank] { world.kill(rank); });
    }
  }
  Rank late = kNoRank;
  for (Rank rank = world.size() - world.options.seats; rank < world.size(); ++rank) {
    const auto at = static_cast<Nanos>(join_rng.below(join_rng.chance(0.5) ? 300'000 : 3'000'000));
    const bool dies = late != kNoRank && world.deaths_planned && join_rng.chance(0.7);
    const auto lives = static_cast<Nanos>(join_rng.below(join_rng.chance(0.7) ? 200'000 : 2'000'000));
    if (late == kNoRank)
      late = rank;
    else if (join_rng.chance(0.2))
      continue;  // a seat that stays empty
    verdict.shape.push_back(fmt::format("rank {} comes at {} us", rank, at / 1000));
    world.network.schedule(at, [&world, rank] { world.join(rank); });
    if (!dies) continue;
    verdict.shape.push_back(fmt::format("and dies {} us later", lives / 1000));
    world.doom(rank);
    world.network.schedule(at + lives, [&world, rank] { world.kill(rank); });
  }
  if (rng.chance(0.3)) {
    const auto rank = static_cast<Rank>(rng.below(world.size()));
    const auto at = static_cast<Nanos>(rng.below(1'000'000));
    const auto time = static_cast<Nanos>(rng.below(3'000'000));
    verdict.shape.push_back(fmt::format("rank {} stands still at {} us for {} us", rank, at / 1000, time / 1000));
    world.network.schedule(at, [&world, rank] { world.network.pause(rank); });
    world.network.schedule(at + time, [&world, rank] { world.network.resume(rank); });
  }
  auto* host = world.at(0).host.get();
  world.network.schedule(0, static_cast<Nanos>(rng.below(10'000)), [&] {
    host->run_program([&] {
      Driver driver(world, seed, errands == Errands::by_seed && Rng(seed ^ 0x63616e63656cULL).chance(0.5),
                    visits == Visits::by_seed && Rng(seed ^ 0x766973697473ULL).chance(0.5),
                    chores == Chores::by_seed && Rng(seed ^ 0x63686f726573ULL).chance(0.67),
                    inquiries == Inquiries::by_seed && Rng(seed ^ 0x61736b73ULL).chance(0.5), late, verdict.shape);
      driver.run();
      verdict.cancels = driver.cancels();
    });
  });
  constexpr std::uint64_t kEventsMax = 2'000'000;
  auto& failures = world.failures;
  if (!world.settle(kEventsMax)) {
    failures.push_back(fmt::format("still busy after {} events ({} us); at work:\n{}", kEventsMax,
                                   world.network.now() / 1000, world.leaks()));
  } else if (!host->program_ended()) {
    failures.push_back("the program waits for ever; left over:\n" + world.leaks());
  } else {
    const auto frames = world.network.stats().frames;
    world.network.run_until(world.network.now() + 10 * kSecond);
    if (world.network.stats().frames != frames) failures.push_back("an idle job sends");
    if (auto leaks = world.leaks(); !leaks.empty()) failures.push_back("left over:\n" + leaks);
    for (const auto& [rank, count] : book.objects)
      if (world.alive(rank) && count != 0)
        failures.push_back(fmt::format("{} actor objects live on rank {}", count, rank));
    if (failures.empty()) {
      if (auto wrong = world.shut_down(); !wrong.empty()) failures.push_back(wrong);
    }
  }
  verdict.failures = failures;
  verdict.events = world.network.stats().events;
  verdict.frames = world.network.stats().frames;
  verdict.runs = book.runs;
  verdict.calls = book.calls;
  verdict.deaths = world.deaths;
  verdict.joins = world.joins;
  verdict.traffic = world.traffic();
  verdict.messages = world.messages;
  return verdict;
}

}  // namespace trireme::sim
