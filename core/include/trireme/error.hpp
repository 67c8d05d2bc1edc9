#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

#include "base/ids.hpp"
#include "base/result.hpp"

namespace trireme {

namespace detail {
/// An error as it travels between ranks.
struct ErrorInfo {
  Errc code = Errc::unknown;
  std::string message;  ///< what was asked, what was found, what to do; or what() of the user's exception
  std::string type;     ///< the user's exception type (demangled), empty for the runtime's own errors
  Rank rank = kNoRank;  ///< where it happened
  std::string host;
  std::string task;     ///< the function that failed
  std::string payload;  ///< what another language needs to raise its own exception again; opaque here
};
}  // namespace detail

/// What blocking calls throw. what() reads as one line for people; code() is for programs.
class Exception : public std::runtime_error {
 public:
  explicit Exception(detail::ErrorInfo info);
  Errc code() const { return info_.code; }
  Rank rank() const { return info_.rank; }
  const std::string& host() const { return info_.host; }
  /// The text without place and type.
  const std::string& message() const { return info_.message; }
  const detail::ErrorInfo& info() const { return info_; }

 private:
  detail::ErrorInfo info_;
};

/// User code threw in a task, an actor's constructor or a method, here or on another rank.
class TaskError : public Exception {
 public:
  using Exception::Exception;
  /// Demangled type of what was thrown, such as "std::out_of_range".
  const std::string& type() const { return info().type; }
};

/// The actor was killed, its constructor threw, or its rank died.
class ActorDiedError : public Exception {
 public:
  using Exception::Exception;
};

/// The time given to get() passed first.
class TimeoutError : public Exception {
 public:
  using Exception::Exception;
};

namespace detail {
[[noreturn]] void throw_error(const ErrorInfo& info);
/// The exception being handled, with this rank and host filled in.
ErrorInfo current_exception_info(std::string_view task);
}  // namespace detail

}  // namespace trireme
