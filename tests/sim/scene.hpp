#pragma once

#include <vector>

#include "tests/sim/visit.hpp"

/// What is under way in the job that a hostile rank disturbs: references, actors here and there, a group, calls and
/// tasks of every kind, so that ranks send each other messages of every type.
namespace trireme::sim {

struct Scene {
  std::vector<Ref<Blob>> refs;
  std::vector<Ref<Ref<Blob>>> nested;
  std::vector<Ref<Actor<Account>>> found;
  std::vector<Actor<Account>> actors;
  std::vector<Ref<detail::Nothing>> desks;
  std::vector<PlacementGroup> groups;
};

/// Of a job of three ranks; by the program of rank 0.
void set_up(Scene& scene);
/// Waits for everything; what fails fails.
void look_at(const Scene& scene);

}  // namespace trireme::sim
