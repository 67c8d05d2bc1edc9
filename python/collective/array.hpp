#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>

#include "trireme/ml/types.hpp"

namespace trireme::python {

/// The memory of a Python array, held in place: NumPy arrays and anything else with the buffer protocol, torch tensors
/// and anything else with `__dlpack__`, on the CPU or on a GPU. Nothing is copied.
///
/// Threading: made and destroyed under the GIL. Errors: TypeError (no array, no element type, not where it should be),
/// ValueError (not contiguous, read-only, another GPU). Lifetime: keeps the memory until it is destroyed.
class Array {
 public:
  /// `writes`: the operation writes into it. `what` names it in errors.
  static std::shared_ptr<Array> of(const pybind11::object& object, bool writes, const char* what);
  /// In the memory of CUDA device `device`. `stream` is given to `__dlpack__`: what the producer queued is done before
  /// what is queued there afterwards; -1: the caller orders them.
  static std::shared_ptr<Array> on_device(const pybind11::object& object, const char* what, int device,
                                          std::int64_t stream);
  virtual ~Array() = default;

  ml::Buffer buffer() const { return {data, count, type}; }
  bool is_bool = false;  ///< travels as uint8

 protected:
  void* data = nullptr;
  std::size_t count = 0;
  ml::DType type = ml::DType::u8;
};

}  // namespace trireme::python
