#pragma once

#include <pybind11/pybind11.h>

namespace trireme::python {

/// Defines `DataParallel` and the memory of its gradients. Errors: as `_collective.pyi` says.
void define_data_parallel(pybind11::module_& module);

}  // namespace trireme::python
