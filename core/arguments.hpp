#pragma once

#include "trireme/runtime.hpp"

namespace trireme::core {

/// Takes --trireme-threads=N, --trireme-arena=BYTES and --trireme-resources=LIST out of the arguments.
/// Errors: Exception invalid_argument.
RuntimeOptions argument_options(int& argc, char** argv, RuntimeOptions options);

}  // namespace trireme::core
