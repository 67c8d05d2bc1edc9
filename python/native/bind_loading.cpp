// The references of the value that a thread is unpickling: what load_ref(index) in its pickle finds. A list that holds
// nothing else is read here, without the pickle module.
#include <cstring>
#include <optional>

#include "python/native/bind.hpp"
#include "python/native/pickle_codes.hpp"

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

/// Name and module of load_ref() in pickles.
constexpr std::string_view kModule = "trireme._object_ref", kName = "load_ref";

/// What Python's pickler makes of a list of references that all differ: their numbers. Format: Lib/pickletools.py of
/// CPython.
class ListOfReferences {
 public:
  explicit ListOfReferences(BytesView pickle)
      : at_(reinterpret_cast<const unsigned char*>(pickle.data())), end_(at_ + pickle.size()) {}

  /// Calls `found` with each number in order; false when the pickle holds anything else, or `found` gave false.
  template <class F>
  bool read(F found) {
    if (op() != kProto || (op() | 1) != 5 || op() != kList0) return false;
    memoize();
    for (;;) {
      switch (const int code = op()) {
        case kStop:
          return at_ == end_;
        case kMark:
          for (int inner = op(); inner != kAppends; inner = op()) {
            if (!item(inner, found)) return false;
          }
          break;
        default:
          if (!item(code, found) || op() != kAppend) return false;
      }
    }
  }

 private:
  static constexpr int kNothing = -1;
  bool has(std::size_t bytes) const { return static_cast<std::size_t>(end_ - at_) >= bytes; }
  int op() {
    while (has(9) && *at_ == kFrame) at_ += 9;
    return last_ = at_ == end_ ? int{kNothing} : *at_++;
  }
  void memoize() {
    if (op() == kMemoize)
      ++memoized_;
    else if (last_ != kNothing)
      --at_;
  }
  bool text(std::string_view wanted) {
    if (!has(1 + wanted.size()) || *at_ != wanted.size() || std::memcmp(at_ + 1, wanted.data(), wanted.size()) != 0)
      return false;
    at_ += 1 + wanted.size();
    memoize();
    return true;
  }
  /// load_ref itself, or what an earlier item remembered.
  bool function(int code) {
    if (code == kGet1 && global_) return has(1) && *at_++ == *global_;
    if (code != kText1 || global_ || !text(kModule) || op() != kText1 || !text(kName) || op() != kGlobal ||
        op() != kMemoize)
      return false;
    global_ = memoized_++;
    return true;
  }
  template <class F>
  bool item(int code, F& found) {
    if (!function(code)) return false;
    const int kind = op();
    const std::size_t bytes = kind == kInt1 ? 1 : kind == kInt2 ? 2 : kind == kInt4 ? 4 : 0;
    if (bytes == 0 || !has(bytes)) return false;
    std::size_t number = 0;
    for (std::size_t i = 0; i < bytes; ++i) number |= std::size_t{*at_++} << (8 * i);
    if (op() != kTuple1) return false;
    memoize();
    if (op() != kReduce) return false;
    memoize();
    return found(number);
  }

  const unsigned char* at_;
  const unsigned char* end_;
  int last_ = kNothing;
  unsigned memoized_ = 0;
  std::optional<unsigned> global_;  ///< where load_ref is in the memo
};

PyObject* load_references(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 2 || !PyList_CheckExact(args[1])) Py_RETURN_NONE;
  try {
    const Contents pickle(args[0]);
    const auto size = static_cast<std::size_t>(PyList_GET_SIZE(args[1]));
    const auto list = py::reinterpret_steal<py::object>(PyList_New(static_cast<Py_ssize_t>(size)));
    if (!list) return nullptr;
    std::size_t made = 0;
    const bool all = ListOfReferences(pickle.view()).read([&](std::size_t number) {
      if (number >= size || made == size) return false;
      auto* ref = PyList_GET_ITEM(args[1], static_cast<Py_ssize_t>(number));
      if (!is_object_ref(ref)) return false;
      PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(made++), Py_NewRef(ref));
      return true;
    });
    if (!all || made != size) Py_RETURN_NONE;
    return Py_NewRef(list.ptr());
  } catch (...) {
    raise_current();
    return nullptr;
  }
}

PyMethodDef of_module[] = {
    {"load_references", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(&load_references)), METH_FASTCALL,
     "The value of a pickle that is a list of the given references and nothing else; None for any other."},
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
