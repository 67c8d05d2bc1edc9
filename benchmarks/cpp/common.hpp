#pragma once

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <trireme/trireme.hpp>

#include "benchmarks/harness/harness.hpp"

namespace trireme::bench {

inline void expect(bool right, const char* what) {
  if (right) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  std::_Exit(1);
}

inline TaskOptions on_rank(Rank rank) {
  TaskOptions options;
  options.placement = Placement::on(rank);
  return options;
}

inline ActorOptions actor_on_rank(Rank rank) {
  ActorOptions options;
  options.placement = Placement::on(rank);
  return options;
}

/// A line of /proc/self/status, such as "VmRSS" in KiB or "Threads".
inline double process_status(const std::string& key) {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key + ":")) return std::stod(line.substr(key.size() + 1));
  }
  expect(false, "no such line in /proc/self/status");
  return 0;
}

inline double resident_bytes() { return process_status("VmRSS") * 1024; }

}  // namespace trireme::bench
