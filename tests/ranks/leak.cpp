// A rank that keeps to itself what nobody can find any more: that the check at a rank's end tells (tests/support).
#include <cstring>

#include "tests/ranks/everywhere.hpp"

using namespace trireme::test;

namespace {

/// Its own frame, so that no register and no stack still knows the address.
[[gnu::noinline]] void leak_on_purpose() {
  auto* const volatile lost = new char[1000];
  std::memset(lost, 1, 1000);
}

trireme::Rank leak(int) {
  leak_on_purpose();
  return trireme::this_rank();
}

}  // namespace

int main(int argc, char** argv) {
  trireme::Runtime runtime(argc, argv);
  return trireme::get(trireme::submit_with<&leak>(on(1), 0)) == 1 ? 0 : 1;
}
