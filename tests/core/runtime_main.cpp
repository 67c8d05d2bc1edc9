// main() of suites that need a Runtime: rank 0 runs the doctest cases, the other ranks serve.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "trireme/runtime.hpp"

int main(int argc, char** argv) {
  try {
    trireme::Runtime runtime(argc, argv);
    return doctest::Context(argc, argv).run();
  } catch (const trireme::Exception& error) {
    std::fprintf(stderr, "FAILED: %s\n", error.what());
    return 1;
  }
}
