// Prints the build id of this program; PROBE_NAME makes the builds differ.
#include <cinttypes>
#include <cstdio>

#include "transport/bootstrap.hpp"

int main(int argc, char**) {
  if (argc > 1) std::puts(PROBE_NAME);
  std::printf("%016" PRIx64 "\n", trireme::transport::local_member().build_id);
  return 0;
}
