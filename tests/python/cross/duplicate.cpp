// Exports a name that library.cpp has too: it cannot be loaded beside it.
#include <trireme/python.hpp>

namespace {
int echo(int value) { return value; }
const trireme::python::Library library([] { trireme::python::export_function<&echo>("echo"); });
}  // namespace
