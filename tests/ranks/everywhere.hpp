#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/core/gate.hpp"
#include "trireme/trireme.hpp"

namespace trireme::test {

/// True when every rank has a node identity of its own (and the ranks talk through UCX).
inline bool apart() { return std::getenv("TRIREME_NODE_ID") != nullptr; }

inline TaskOptions on(Rank rank) {
  TaskOptions options;
  options.placement = Placement::on(rank);
  return options;
}
inline ActorOptions actor_on(Rank rank) {
  ActorOptions options;
  options.placement = Placement::on(rank);
  return options;
}

/// What a rank's protocol still knows of.
struct Counts {
  std::uint64_t objects = 0;  ///< exported or borrowed
  std::uint64_t results = 0;  ///< large ones held for owners elsewhere
  std::uint64_t actors = 0;
  bool operator==(const Counts&) const = default;
};

/// Asks all living ranks until nothing is left anywhere. False, with the report in `left`, when something stays.
bool nothing_left(std::string& left);

}  // namespace trireme::test
