#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <exception>

#include "trireme/ml/communicator.hpp"

namespace trireme::python {

/// Seconds to nanoseconds, as a timeout. Errors: ValueError for less than 0 and for no number.
std::int64_t nanoseconds(double seconds);

/// A Python function `exchange(mine, timeout)` (see `_collective.pyi`) as a group of C++ calls it.
///
/// Threading: called without the GIL. Lifetime: outlives what it made.
class PythonExchange {
 public:
  explicit PythonExchange(const pybind11::function& exchange) : exchange_(exchange) {}
  ml::Exchange as_exchange();
  /// Throws what Python raised, if it did: that says more than what the group made of it. Under the GIL.
  void rethrow() const {
    if (raised_) std::rethrow_exception(raised_);
  }

 private:
  const pybind11::function& exchange_;
  std::exception_ptr raised_;
};

}  // namespace trireme::python
