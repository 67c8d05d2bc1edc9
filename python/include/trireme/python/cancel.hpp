#pragma once

#include <stdexcept>

namespace trireme::python {

/// Ends an exported function or method that was cancelled; thrown by check_cancelled(), to be let through.
class Cancelled : public std::runtime_error {
 public:
  Cancelled() : std::runtime_error("it was cancelled") {}
};

/// Whether trireme.cancel() asked the exported function or method that this thread runs to end. Nothing else ends it:
/// one that takes long asks now and then. False outside of them, and in threads that they start.
///
/// Threading: any thread, a few nanoseconds.
bool cancel_requested() noexcept;
/// The same as an exception. What the caller then gets is TaskCancelledError. Errors: Cancelled.
void check_cancelled();

}  // namespace trireme::python
