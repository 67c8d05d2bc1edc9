#include "base/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cstdlib>
#include <string>

namespace trireme {
namespace {

spdlog::logger& logger() {
  // Leaked on purpose: threads may still log while static objects are destroyed.
  static spdlog::logger* instance = [] {
    auto* made = new spdlog::logger("trireme", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    const char* asked = std::getenv("TRIREME_LOG");
    const std::string level = asked != nullptr ? asked : "warning";
    made->set_level(level == "debug"   ? spdlog::level::debug
                    : level == "info"  ? spdlog::level::info
                    : level == "error" ? spdlog::level::err
                    : level == "off"   ? spdlog::level::off
                                       : spdlog::level::warn);
    made->set_pattern("%H:%M:%S.%e trireme %l: %v");
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
    case LogLevel::off:
      return spdlog::level::off;
  }
  return spdlog::level::off;
}

}  // namespace

void log(LogLevel level, std::string_view text) { logger().log(to_spdlog(level), text); }

bool log_enabled(LogLevel level) { return logger().should_log(to_spdlog(level)); }

void set_log_rank(Rank rank) { logger().set_pattern("%H:%M:%S.%e trireme rank " + std::to_string(rank) + " %l: %v"); }

}  // namespace trireme
