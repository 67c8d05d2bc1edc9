#pragma once

#include <string>

#include "tests/sim/program.hpp"

/// Tasks that do in another rank what the program otherwise does in rank 0: names, groups, actors that end.
namespace trireme::sim {

/// A placement group of another rank, and a bundle of it.
struct Booth {
  std::uint64_t group = 0;
  std::uint32_t owner = 0;
  std::int32_t bundle = -1;
};
Booth booth_in(const PlacementGroup& group, int bundle);
Placement at_booth(const Booth& booth);
/// What a task of one bundle holds.
Resources one_desk();

Actor<Account> open_named(Order order, std::uint64_t key, std::string name);
Actor<Account> find_named(Order order, std::string name);
void end_account(Order order, Actor<Account> account);
Ref<Blob> leaf_in_group(Order order, Booth booth);
/// What other ranks own, lent on to `rank`.
Ref<Blob> sum_elsewhere(Order order, Ref<Blob> what, std::uint32_t rank);
/// An actor in a bundle, and a call of it.
Ref<Blob> account_in_group(Order order, Booth booth, std::uint64_t key);

}  // namespace trireme::sim
