#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "python/native/wire.hpp"
#include "trireme/python/value.hpp"

namespace trireme::python::cross {

/// The value that a packed value (wire.hpp) holds: the part of pickle's protocol that the package uses for what may
/// cross. Arrays in it point into `blob`, which `keep` keeps, where their elements are aligned there.
///
/// Errors: ConversionError, which names the class or the operation that it does not know.
Value read_value(BytesView blob, const std::shared_ptr<const void>& keep);

/// A value for pack(): `data` is the pickle, `arrays` its out-of-band buffers.
struct Written {
  Bytes data;
  std::vector<AnyArray> arrays;
};
Written write_value(const Value& value);
/// What calls `module.name(*arguments)` where it is read. Arguments without arrays.
Bytes write_call(const std::string& module, const std::string& name, const Value& arguments);

}  // namespace trireme::python::cross
