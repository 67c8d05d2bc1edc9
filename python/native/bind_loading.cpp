// The references of the value that a thread is unpickling: what load_ref(index) in its pickle finds.
#include "python/native/bind.hpp"

namespace trireme::python::bind {

namespace {

/// A list or tuple of Ref, owned; null outside of the package's loads.
thread_local PyObject* loading = nullptr;

PyObject* set_loading(PyObject*, PyObject* refs) {
  auto* before = loading;
  loading = refs == Py_None ? nullptr : Py_NewRef(refs);
  return before != nullptr ? before : Py_NewRef(Py_None);
}

PyObject* loading_ref(PyObject*, PyObject* index) {
  if (loading == nullptr) {
    auto* pickle = PyImport_ImportModule("pickle");
    auto* type = pickle != nullptr ? PyObject_GetAttrString(pickle, "UnpicklingError") : nullptr;
    if (type != nullptr)
      PyErr_SetString(type,
                      "this pickle holds a trireme reference or actor handle; it can be read only where the runtime "
                      "delivers it (arguments, results, put)");
    Py_XDECREF(type);
    Py_XDECREF(pickle);
    return nullptr;
  }
  return PyObject_GetItem(loading, index);
}

PyObject* load_ref(PyObject* self, PyObject* index) {
  auto* ref = loading_ref(self, index);
  if (ref == nullptr || is_object_ref(ref)) return ref;
  const auto held = py::reinterpret_steal<py::object>(ref);
  try {
    return make_object_ref(reference(held));
  } catch (...) {
    raise_current();
    return nullptr;
  }
}

PyMethodDef of_module[] = {
    {"_set_loading", &set_loading, METH_O,
     "The references (or None) of what this thread unpickles from now on. Gives those of before."},
    {"_loading_ref", &loading_ref, METH_O, "The reference with that number in the value being unpickled."},
    {nullptr, nullptr, 0, nullptr}};
// Pickles name it as the package's.
PyMethodDef of_package = {"load_ref", &load_ref, METH_O,
                          "ObjectRef of the reference with that number in the value being unpickled."};

}  // namespace

void bind_loading(py::module_& module) {
  if (PyModule_AddFunctions(module.ptr(), of_module) != 0) throw py::error_already_set();
  const auto name = py::str("trireme._object_ref");
  module.add_object("load_ref", py::reinterpret_steal<py::object>(PyCFunction_NewEx(&of_package, nullptr, name.ptr())));
}

}  // namespace trireme::python::bind
