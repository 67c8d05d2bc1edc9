#pragma once

#include <cstdlib>
#include <string_view>

namespace trireme::core {

/// Whether what fits no rank of the job waits, with a warning, instead of failing: TRIREME_WAIT_FOR_RESOURCES=1. For
/// programs that were written for a cluster that grows. Read by every rank for what it submits.
inline bool waits_for_resources() {
  const char* value = std::getenv("TRIREME_WAIT_FOR_RESOURCES");
  return value != nullptr && std::string_view(value) == "1";
}

}  // namespace trireme::core
