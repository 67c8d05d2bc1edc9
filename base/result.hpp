#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "base/check.hpp"

namespace trireme {

/// What went wrong, for programs. Values travel between ranks and builds: never renumber, only append.
enum class Errc : std::uint16_t {
  ok = 0,
  unknown = 1,           ///< a code of a newer build
  invalid_argument = 2,  ///< the caller's input breaks a documented rule
  not_found = 3,         ///< no such function, name, object or rank
  already_exists = 4,    ///< the name is taken
  too_large = 5,         ///< over a documented limit
  out_of_memory = 6,     ///< the arena is full and nothing can be evicted
  would_block = 7,       ///< no credit now, retry after a completion
  peer_lost = 8,         ///< that rank is dead; final for that rank
  object_lost = 9,       ///< no copy of the object is left
  owner_died = 10,       ///< the object's owner is dead
  actor_died = 11,       ///< the actor ended, was killed or its rank died
  task_failed = 12,      ///< user code threw; the message carries type, text, rank and host
  unschedulable = 13,    ///< can never be placed in this job
  malformed = 14,        ///< bytes from a peer break the wire format
  build_mismatch = 15,   ///< ranks run different builds
  timeout = 16,
  shutdown = 17,     ///< the runtime is ending
  unavailable = 18,  ///< a service, launcher or device is not there
  cancelled = 19,
  type_mismatch = 20,  ///< argument or result types differ from the registered ones
  worker_lost = 21,    ///< the rank that ran the task died and no retry is left
  io = 22,             ///< the operating system refused; the message carries errno's text
  stream_end = 23,     ///< the task that yields has returned: there are no more values
};

std::string_view to_string(Errc code);

/// An error with a text that says what was asked, what was found and what to do.
struct Error {
  Errc code = Errc::unknown;
  std::string message;
};

inline Error make_error(Errc code, std::string message) { return {code, std::move(message)}; }

/// A value or an Error. value() on an error is a broken invariant, not an exception.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & {
    TRIREME_CHECK(ok(), error_text());
    return std::get<0>(state_);
  }
  const T& value() const& {
    TRIREME_CHECK(ok(), error_text());
    return std::get<0>(state_);
  }
  T&& value() && {
    TRIREME_CHECK(ok(), error_text());
    return std::move(std::get<0>(state_));
  }
  T& operator*() & { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }

  const Error& error() const {
    TRIREME_CHECK(!ok(), "error() of a Result that holds a value");
    return std::get<1>(state_);
  }

 private:
  std::string_view error_text() const {
    return ok() ? std::string_view{} : std::string_view{std::get<1>(state_).message};
  }
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)), ok_(false) {}

  bool ok() const { return ok_; }
  explicit operator bool() const { return ok_; }
  const Error& error() const {
    TRIREME_CHECK(!ok_, "error() of a Result that holds a value");
    return error_;
  }

 private:
  Error error_;
  bool ok_ = true;
};

using Status = Result<void>;

}  // namespace trireme
