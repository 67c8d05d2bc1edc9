#include "base/check.hpp"

#include <cstdio>
#include <cstdlib>

namespace trireme {

void check_failed(const char* expression, const char* file, int line, std::string_view message) {
  std::fprintf(stderr, "trireme: broken invariant at %s:%d: %s (%.*s)\n", file, line, expression,
               static_cast<int>(message.size()), message.data());
  std::abort();
}

}  // namespace trireme
