#pragma once

#include <cstdio>
#include <cstdlib>

namespace trireme::test {

/// Ends the process so that ctest reports the test as skipped. `missing` names what the machine lacks.
[[noreturn]] inline void skip(const char* missing) {
  std::printf("SKIPPED: missing %s\n", missing);
  std::fflush(nullptr);
  std::_Exit(77);  // SKIP_RETURN_CODE of every trireme_test
}

}  // namespace trireme::test
