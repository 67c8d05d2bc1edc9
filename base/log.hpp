#pragma once

#include <string_view>

#include "base/ids.hpp"

namespace trireme {

enum class LogLevel : int { debug = 0, info = 1, warning = 2, error = 3, off = 4 };

/// Writes one line to standard error: time, level, rank, text. Level from TRIREME_LOG (debug, info, warning, error,
/// off; default warning).
///
/// Threading: any thread. Errors: none.
void log(LogLevel level, std::string_view text);
bool log_enabled(LogLevel level);
/// Shown in every line from now on.
void set_log_rank(Rank rank);

}  // namespace trireme

/// Formats (fmt syntax, include <fmt/format.h>) only when the level is on.
#define TRIREME_LOG(level, ...)                                             \
  do {                                                                      \
    if (::trireme::log_enabled(::trireme::LogLevel::level))                 \
      ::trireme::log(::trireme::LogLevel::level, fmt::format(__VA_ARGS__)); \
  } while (false)
