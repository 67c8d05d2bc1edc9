#pragma once

/// C++ and Python together: functions and classes of a C++ library that Python calls by name.
///
///     #include <trireme/python.hpp>
///
///     double scale(const trireme::python::NdArray<double>& field, double factor);
///
///     const trireme::python::Library library([] { trireme::python::export_function<&scale>("scale"); });
///
/// and in Python, after `trireme.load_library("libfield.so")`:
///
///     trireme.get(trireme.cross_language.cpp_function("scale").remote(array, 2.0))
#include "trireme/python/cancel.hpp"
#include "trireme/python/export.hpp"
#include "trireme/python/ndarray.hpp"
#include "trireme/python/runtime.hpp"
#include "trireme/python/value.hpp"
