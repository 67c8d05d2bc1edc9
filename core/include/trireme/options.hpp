#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/ids.hpp"

namespace trireme {

class PlacementGroup;

/// How a placement group's bundles are spread over nodes.
enum class GroupStrategy : std::uint8_t { pack, spread, strict_pack, strict_spread };

/// A condition on the labels of a rank: `wanted`, that it has the label with one of the values (empty: with any), else
/// that it does not.
struct LabelRule {
  std::string label;
  std::vector<std::string> values;
  bool wanted = true;
  bool operator==(const LabelRule&) const = default;
};

/// What a task or an actor holds while it runs. Units: cores, devices, bytes, and whatever custom names count.
struct Resources {
  std::optional<double> cpus;  ///< tasks: 1 unless set; actors: 0
  double gpus = 0;             ///< fractions share a device
  std::uint64_t memory = 0;
  std::map<std::string, double> custom;
};

/// Where a task or an actor may run. Default: near its arguments, stolen by idle ranks.
struct Placement {
  enum class Kind : std::uint8_t { automatic, spread, rank, node, group };
  Kind kind = Kind::automatic;
  Rank rank = kNoRank;      ///< Kind::rank
  std::string node;         ///< Kind::node: node id as trireme::topology() shows it
  bool soft = false;        ///< rank and node: go elsewhere when it is lost or can never fit
  std::uint64_t group = 0;  ///< Kind::group, with the owner below
  Rank group_owner = kNoRank;
  int bundle = -1;  ///< -1: any bundle of the group
  /// All must hold for the rank, whatever the kind; an error with Kind::group, where each bundle has its own.
  std::vector<LabelRule> labels;

  static Placement spread() {
    Placement placement;
    placement.kind = Kind::spread;
    return placement;
  }
  static Placement on(Rank rank, bool soft = false) {
    Placement placement;
    placement.kind = Kind::rank;
    placement.rank = rank;
    placement.soft = soft;
    return placement;
  }
  static Placement on_node(std::string node, bool soft = false) {
    Placement placement;
    placement.kind = Kind::node;
    placement.node = std::move(node);
    placement.soft = soft;
    return placement;
  }
};

struct TaskOptions {
  Resources resources;
  Placement placement;
  /// How often the task runs again when the rank that ran it dies. An exception is a result, not a reason to retry.
  int max_retries = 3;
};

struct ActorOptions {
  Resources resources;
  Placement placement;
  /// Other programs of the job find it under this name with actor<T>(name). Must be free.
  std::string name;
  /// Method calls that may run at once; more than 1 gives up the order of calls.
  int max_concurrency = 1;
  /// Lives until kill() or the end of the job, whatever happens to its handles.
  bool detached = false;
};

}  // namespace trireme
