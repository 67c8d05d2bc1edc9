#include "python/native/bind.hpp"

PYBIND11_MODULE(_native, module) {
  using namespace trireme::python::bind;
  module.doc() = "The compiled runtime; see _native.pyi.";
  bind_errors(module);
  bind_values(module);
  bind_loading(module);
  bind_fork(module);
  bind_options(module);
  bind_core(module);
  bind_calls(module);
  bind_rank(module);
  bind_worker(module);
  bind_cpp(module);
}
