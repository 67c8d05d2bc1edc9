#include "tests/sim/visit.hpp"

#include "trireme/runtime.hpp"

namespace trireme::sim {

Placement at_booth(const Booth& booth) {
  Placement placement;
  placement.kind = Placement::Kind::group;
  placement.group = booth.group;
  placement.group_owner = booth.owner;
  placement.bundle = booth.bundle;
  return placement;
}

Booth booth_in(const PlacementGroup& group, int bundle) {
  const auto placement = group.on(bundle);
  return {placement.group, placement.group_owner, bundle};
}

Resources one_desk() {
  Resources desk;
  desk.cpus = 0;
  desk.custom["desk"] = 1;
  return desk;
}

Actor<Account> open_named(Order order, std::uint64_t key, std::string name) {
  ledger->ran(order.ticket);
  ledger->opens(key);
  ActorOptions options;
  options.name = std::move(name);
  return spawn_with<Account>(options, order.value, key, 1U);
}

Actor<Account> find_named(Order order, std::string name) {
  ledger->ran(order.ticket);
  return actor<Account>(name);
}

void end_account(Order order, Actor<Account> account) {
  ledger->ran(order.ticket);
  account.kill();
}

Ref<Blob> leaf_in_group(Order order, Booth booth) {
  ledger->ran(order.ticket);
  TaskOptions options;
  options.resources = one_desk();
  options.placement = at_booth(booth);
  options.max_retries = 0;
  return submit_with<&leaf>(options, new_order(order.value, 0, 0));
}

Ref<Blob> sum_elsewhere(Order order, Ref<Blob> what, std::uint32_t rank) {
  ledger->ran(order.ticket);
  TaskOptions options;
  options.placement = Placement::on(rank, true);
  options.max_retries = 0;
  return submit_with<&sum>(options, new_order(order.value, 0, 0), std::vector{std::move(what)});
}

Ref<Blob> account_in_group(Order order, Booth booth, std::uint64_t key) {
  ledger->ran(order.ticket);
  ledger->opens(key);
  ActorOptions options;
  options.resources.cpus = 0;
  options.placement = at_booth(booth);
  Caller caller;
  // A value of 0 would make the constructor throw.
  const auto account = spawn_with<Account>(options, order.value | 1U, key, 1U);
  return account.call<&Account::add>(caller.order(key, order.value));
}

}  // namespace trireme::sim
