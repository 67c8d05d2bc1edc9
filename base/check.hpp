#pragma once

#include <string_view>

namespace trireme {

/// Prints the broken invariant with its place and stops the process (SIGABRT). Stays on in release builds.
[[noreturn]] void check_failed(const char* expression, const char* file, int line, std::string_view message);

}  // namespace trireme

#define TRIREME_CHECK(condition, message)                                 \
  do {                                                                    \
    if (!(condition)) [[unlikely]]                                        \
      ::trireme::check_failed(#condition, __FILE__, __LINE__, (message)); \
  } while (false)

#ifdef NDEBUG
#define TRIREME_DCHECK(condition, message) ((void)0)
#else
#define TRIREME_DCHECK(condition, message) TRIREME_CHECK(condition, message)
#endif
