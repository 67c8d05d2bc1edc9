#pragma once

#include <boost/serialization/string.hpp>
#include <boost/serialization/vector.hpp>
#include <cstdint>
#include <string>
#include <trireme/trireme.hpp>
#include <vector>

namespace trireme::tune {

/// What one member measures with the others: every variant at every size, in turns.
struct Plan {
  std::vector<std::string> variants;  ///< thresholds, a group each
  std::vector<std::uint64_t> sizes;   ///< bytes
  bool broadcast = false;             ///< instead of an all-reduce
  bool fixed_order = false;
  int rounds = 9;

  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& variants& sizes& broadcast& fixed_order& rounds;
  }
};

/// Seconds an operation, medians of the rounds; by size, then by variant.
using Times = std::vector<std::vector<double>>;

/// Every member of the group named `name` calls it with the same plan.
/// Errors: ml::CollectiveError.
Times measure(const std::string& name, std::uint32_t member, std::uint32_t members, const Plan& plan);
/// The node of the calling rank.
std::string node_here();

}  // namespace trireme::tune
