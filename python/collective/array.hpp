#pragma once

#include <pybind11/pybind11.h>

#include <memory>

#include "trireme/ml/types.hpp"

namespace trireme::python {

/// The memory of a Python array, held in place: NumPy arrays and anything else with the buffer protocol, torch tensors
/// and anything else with `__dlpack__` on the CPU. Nothing is copied.
///
/// Threading: made and destroyed under the GIL. Errors: TypeError (no array, no element type, not on the CPU),
/// ValueError (not contiguous, read-only). Lifetime: keeps the memory until it is destroyed.
class Array {
 public:
  /// `writes`: the operation writes into it. `what` names it in errors.
  static std::shared_ptr<Array> of(const pybind11::object& object, bool writes, const char* what);
  virtual ~Array() = default;

  ml::Buffer buffer() const { return {data, count, type}; }
  bool is_bool = false;  ///< travels as uint8

 protected:
  void* data = nullptr;
  std::size_t count = 0;
  ml::DType type = ml::DType::u8;
};

}  // namespace trireme::python
