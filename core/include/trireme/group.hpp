#pragma once

#include <memory>
#include <vector>

#include "trireme/actor.hpp"

namespace trireme {

/// Resources set aside in several ranks at once, so that what belongs together is placed together.
///
/// Bundles are reserved all or none. ready() resolves when they are; a group that can never be placed is an error
/// there. Tasks and actors go in with `options.placement = group.on(bundle)`. The last copy of the handle removes the
/// group.
///
/// Threading: any thread. Errors: Exception unschedulable (asked, exists), invalid_argument.
class PlacementGroup {
 public:
  /// `labels`: empty, or per bundle what the labels of its rank must be; all conditions hold.
  PlacementGroup(GroupStrategy strategy, std::vector<Resources> bundles,
                 const std::vector<std::vector<LabelRule>>& labels = {});
  Ref<detail::Nothing> ready() const;
  /// `bundle` -1: any that has room.
  Placement on(int bundle = -1) const;
  void remove();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace trireme
