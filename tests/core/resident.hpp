#pragma once

#include <unistd.h>

#include <cstddef>
#include <fstream>

namespace trireme::test {

/// Memory of this process that is in RAM, in bytes.
inline std::size_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  std::size_t total = 0, resident = 0;
  in >> total >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace trireme::test
