// Ranks that run different builds: each Runtime refuses to start and names the rank that differs.
#include <stdlib.h>

#include <cstdio>
#include <cstring>

#include "trireme/runtime.hpp"

int main(int argc, char** argv) {
  const char* rank = std::getenv("PMIX_RANK");
  const bool other = rank != nullptr && std::strcmp(rank, "1") == 0;
  setenv("TRIREME_BUILD_ID", other ? "the-new-build" : "the-old-build", 1);
  try {
    trireme::Runtime runtime(argc, argv);
  } catch (const trireme::Exception& error) {
    const std::string text = error.what();
    const bool named = text.find("another build") != std::string::npos && text.find("rank 1") != std::string::npos;
    std::printf("%s: %s\n", error.code() == trireme::Errc::build_mismatch && named ? "refused" : "FAILED",
                text.c_str());
    return error.code() == trireme::Errc::build_mismatch && named ? 0 : 1;
  }
  std::printf("FAILED: it started\n");
  return 1;
}
