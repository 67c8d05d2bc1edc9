#include "tests/sim/scene.hpp"

#include <fmt/format.h>

#include "tests/sim/errand.hpp"
#include "tests/sim/inquiry.hpp"
#include "trireme/runtime.hpp"

namespace trireme::sim {

namespace {

TaskOptions on(Rank rank) {
  TaskOptions options;
  options.placement = Placement::on(rank, true);
  return options;
}

/// The corpus names what this makes by id: what is new belongs behind it.
void set_up_first(Scene& scene) {
  Caller caller;
  for (Rank rank = 0; rank < 3; ++rank) {
    ActorOptions options;
    options.placement = Placement::on(rank, true);
    if (rank != 1) options.name = fmt::format("name{}", rank);
    const auto key = ledger->actor_key();
    scene.actors.push_back(spawn_with<Account>(options, std::uint64_t{7}, key, 1U));
    scene.refs.push_back(scene.actors.back().call<&Account::add>(caller.order(key, rank)));
    for (std::uint64_t i = 0; i < 4; ++i) scene.refs.push_back(submit_with<&leaf>(on(rank), new_order(i * 16)));
    scene.refs.push_back(submit_with<&combine>(on(rank), new_order(1), put(make_blob(rank)), make_blob(2)));
  }
  scene.groups.emplace_back(GroupStrategy::spread, std::vector<Resources>{one_desk(), one_desk()});
  for (Rank rank = 0; rank < 3; ++rank) {
    const auto first = scene.refs.front();
    scene.refs.push_back(submit_with<&sum>(on(rank), new_order(5), scene.refs));
    submit_with<&hand_on>(on(rank), new_order(6), first);
    submit_with<&use_account>(on(rank), new_order(8), scene.actors[rank], std::uint64_t{1} + rank);
    submit_with<&tree>(on(rank), new_order(9 + rank, 2));
    auto inside = on(rank);
    inside.placement = scene.groups.back().on();
    inside.resources = one_desk();
    scene.refs.push_back(submit_with<&leaf>(inside, new_order(16)));
  }
  scene.actors[1].kill();
}

/// Names, groups, kills and loans by the other ranks.
void set_up_visits(Scene& scene) {
  ActorOptions there;
  there.placement = Placement::on(1, true);
  for (Rank rank = 1; rank < 3; ++rank) {
    const auto key = ledger->actor_key();
    scene.found.push_back(submit_with<&open_named>(on(rank), new_order(7), key, fmt::format("opened{}", rank)));
    scene.found.push_back(submit_with<&find_named>(on(rank), new_order(0), std::string("name0")));
    scene.found.push_back(submit_with<&find_named>(on(rank), new_order(0), fmt::format("opened{}", 3 - rank)));
    const auto booth = booth_in(scene.groups.back(), -1);
    scene.nested.push_back(submit_with<&leaf_in_group>(on(rank), new_order(32), booth));
    scene.nested.push_back(submit_with<&account_in_group>(on(rank), new_order(33), booth, ledger->actor_key()));
    auto ended = spawn_with<Account>(there, std::uint64_t{7}, ledger->actor_key(), 1U);
    submit_with<&end_account>(on(rank), new_order(0), ended);
    scene.nested.push_back(submit_with<&sum_elsewhere>(on(rank), new_order(34), scene.refs.back(), 3 - rank));
    scene.nested.push_back(submit_with<&branch>(on(rank), new_order(35, 2)));
  }
}

/// A blob that is an object of its own, and pulled in pieces.
std::uint64_t large_value() {
  constexpr std::size_t kWords = 7000;
  std::uint64_t value = 1;
  while (make_blob(value).size() < kWords) ++value;
  return value;
}

/// Large objects, calls that are cancelled, and enough to steal.
void set_up_errands(Scene& scene) {
  const auto large = put(make_blob(large_value()));
  for (Rank rank = 0; rank < 3; ++rank) {
    scene.refs.push_back(submit_with<&sum>(on(rank), new_order(large_value()), std::vector{large, scene.refs.back()}));
    const auto options = on(rank);
    ActorOptions seat;
    seat.placement = options.placement;
    const auto key = ledger->actor_key();
    scene.desks.push_back(open_desk(seat, key, rank == 1));
    Caller caller;
    for (int i = 0; i < 2; ++i) {
      Errand errand;
      errand.chore = rank == 1;
      errand.value = 16;
      errand.time = 20'000;
      errand.ticket = ledger->ticket(TaskOptions{}.max_retries);
      errand.key = errand.ticket;
      scene.refs.push_back(submit_errand(&options, errand, {large}));
      if (i == 1) cancel_errand(scene.refs.back());
      if (i == 0) submit_with<&cancel_for>(on(2), new_order(0), scene.refs.back(), rank == 1);
      errand.call = caller.order(key, errand.value);
      errand.ticket = errand.call.ticket;
      errand.key = errand.ticket;
      scene.refs.push_back(call_desk(scene.desks.back(), errand, {}));
    }
  }
  for (std::uint64_t i = 0; i < 60; ++i) scene.refs.push_back(submit<&leaf>(new_order(i * 16)));
  for (std::uint64_t i = 0; i < 6; ++i) scene.refs.push_back(submit<&tree>(new_order(i, 2)));
}

/// Questions of all ranks to all; what comes of those of rank 2 nobody looks at.
void ask(Scene& scene) {
  for (Rank rank = 0; rank < 3; ++rank) {
    for (Rank to = 0; to < 3; ++to) {
      const Inquiry inquiry{1 + to, rank == 1 ? -1 : 20'000};
      scene.nested.push_back(
          submit_with<&inquire_for>(on(rank), new_order(37), to, inquiry, std::vector{scene.refs.front()}));
    }
    inquire(2, {3 + rank, 30'000}, {scene.refs.back()});
  }
}

/// References of another rank, lent by this one.
void lend(Scene& scene) {
  for (const auto& ref : scene.nested) {
    try {
      const auto inner = get(ref);
      for (Rank rank = 1; rank < 3; ++rank)
        scene.refs.push_back(submit_with<&sum>(on(rank), new_order(36), std::vector{inner}));
      scene.refs.push_back(inner);
    } catch (const Exception&) {
      // Rank 2 is hostile.
    }
  }
}

}  // namespace

void set_up(Scene& scene) {
  set_up_first(scene);
  set_up_visits(scene);
  set_up_errands(scene);
  ask(scene);
  lend(scene);
}

void look_at(const Scene& scene) {
  for (const auto& ref : scene.refs) {
    try {
      get(ref);
    } catch (const Exception&) {
      // What rank 2 had is gone with it, or is what it says.
    }
  }
  for (const auto& ref : scene.found) {
    try {
      get(ref);
    } catch (const Exception&) {
      // Likewise.
    }
  }
}

}  // namespace trireme::sim
