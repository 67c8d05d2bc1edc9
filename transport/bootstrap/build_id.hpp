#pragma once

#include <cstdint>

namespace trireme::transport {

/// Identifies the binary that holds this code, be it an executable or a shared library: a hash of its GNU build id,
/// or of the whole file where the linker wrote none. Ranks of one build agree on it wherever the file is installed.
/// TRIREME_BUILD_ID replaces it (tests of the mismatch).
///
/// Threading: any thread. Errors: none; 0 when the file cannot be read either.
std::uint64_t own_build_id();

}  // namespace trireme::transport
