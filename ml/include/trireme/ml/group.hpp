#pragma once

#include <cstdint>
#include <string>

#include "trireme/ml/communicator.hpp"

namespace trireme::ml {

/// An exchange among tasks, actors or programs of one runtime, who meet at an actor under that name. Everybody passes
/// the same name and size. The actor ends when the last of them has what it came for.
///
/// Errors: timeout, when not all come. Lifetime: for one group; must be gone before the Runtime.
Exchange runtime_exchange(const std::string& name, std::uint32_t rank, std::uint32_t size);

/// A group among tasks, actors or programs of one runtime. Every member calls it; it returns once all have.
///
/// Threading: a member holds its compute thread while it waits in an operation, so there must be a thread for every
///            member that a rank hosts: one member a rank is the rule (TaskOptions::placement).
/// Errors:    throws CollectiveError; timeout when not all members come.
Communicator make_group(const std::string& name, std::uint32_t rank, std::uint32_t size,
                        CommunicatorOptions options = {});

}  // namespace trireme::ml
