#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "python/native/bind.hpp"
#include "python/native/bind_plain.hpp"

/// The calls and reads that programs make most, without the package's Python in between: what is not plain goes to the
/// package's own method.
namespace trireme::python::bind {

namespace {

/// Longer pickles are handed over without the interpreter's lock.
constexpr Py_ssize_t kUnlockFrom = 4 << 10;

/// What a base class of RemoteFunction and ActorMethod knows once the package has armed it.
struct Caller {
  PyObject_HEAD PyObject* weak;
  PyObject* session;  ///< in which the following hold; null: not armed
  PyObject* meta;
  PyObject* name;
  PyObject* options;  ///< null for calls of actors
  PyObject* target;   ///< the actor's Ref; null for tasks
  Py_ssize_t least, most;
  std::vector<RefPtr>* refs;
};

/// The package's module _state: its names, and what it uses to go on.
PyObject* state = nullptr;
PyObject* name_session = nullptr;
PyObject* name_group = nullptr;
PyObject* name_remote = nullptr;
PyObject* pickle_dumps = nullptr;
PyObject* pickle_loads = nullptr;
PyObject* got_other = nullptr;
PyObject* got_many_other = nullptr;
PyObject* protocol = nullptr;

void disarm(Caller* self) {
  Py_CLEAR(self->session);
  Py_CLEAR(self->meta);
  Py_CLEAR(self->name);
  Py_CLEAR(self->options);
  Py_CLEAR(self->target);
  delete std::exchange(self->refs, nullptr);
}

void caller_dealloc(PyObject* self) {
  auto* caller = reinterpret_cast<Caller*>(self);
  if (caller->weak != nullptr) PyObject_ClearWeakRefs(self);
  disarm(caller);
  auto* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* caller_arm(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  auto* caller = reinterpret_cast<Caller*>(self);
  disarm(caller);
  if (count != 8) {
    PyErr_SetString(PyExc_TypeError, "_arm() takes session, meta, name, options, target, refs, least and most");
    return nullptr;
  }
  try {
    if (!PyBytes_CheckExact(args[1])) throw py::type_error("_arm(): meta is bytes");
    text_of(args[2]);
    caller_options(args[3]);
    if (args[4] != Py_None) reference(args[4]);
    auto refs = references(args[5]);
    caller->least = PyLong_AsSsize_t(args[6]);
    caller->most = PyLong_AsSsize_t(args[7]);
    if (PyErr_Occurred() != nullptr) return nullptr;
    caller->refs = new std::vector<RefPtr>(std::move(refs));
  } catch (...) {
    raise_current();
    return nullptr;
  }
  caller->meta = Py_NewRef(args[1]);
  caller->name = Py_NewRef(args[2]);
  caller->options = Py_NewRef(args[3]);
  caller->target = args[4] == Py_None ? nullptr : Py_NewRef(args[4]);
  caller->session = Py_NewRef(args[0]);
  Py_RETURN_NONE;
}

bool holds(const Caller* caller, std::span<PyObject* const> args) {
  const auto count = static_cast<Py_ssize_t>(args.size());
  if (caller->session == nullptr || count < caller->least || count > caller->most) return false;
  if (PyDict_GetItemWithError(state, name_session) != caller->session) return false;
  if (caller->target == nullptr && PyDict_GetItemWithError(state, name_group) != Py_None) return false;
  return std::all_of(args.begin(), args.end(), [](PyObject* arg) { return is_plain(arg) || is_object_ref(arg); });
}

/// The method of the package, with the arguments as Python passes them on.
PyObject* go_on(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  const auto positional = py::reinterpret_steal<py::object>(PyTuple_New(count));
  const auto named = py::reinterpret_steal<py::object>(PyDict_New());
  if (!positional || !named) return nullptr;
  for (Py_ssize_t i = 0; i < count; ++i) PyTuple_SET_ITEM(positional.ptr(), i, Py_NewRef(args[i]));
  if (names != nullptr) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); ++i) {
      if (PyDict_SetItem(named.ptr(), PyTuple_GET_ITEM(names, i), args[count + i]) != 0) return nullptr;
    }
  }
  return PyObject_CallMethodObjArgs(self, name_remote, positional.ptr(), named.ptr(), nullptr);
}

PyObject* caller_remote(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  auto* caller = reinterpret_cast<Caller*>(self);
  const std::span<PyObject* const> given(args, static_cast<std::size_t>(count));
  if ((names != nullptr && PyTuple_GET_SIZE(names) != 0) || !holds(caller, given))
    return PyErr_Occurred() != nullptr ? nullptr : go_on(self, args, count, names);
  // Made while the lock is held, used before it is given up.
  static Bytes scratch;
  static std::vector<std::uint32_t> positions;
  scratch.clear();
  positions.clear();
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (is_object_ref(given[i])) positions.push_back(static_cast<std::uint32_t>(i));
  }
  if (!positions.empty() && !dump_call(given, positions, scratch)) return go_on(self, args, count, names);
  try {
    py::object pickled;
    CallSource source;
    std::vector<RefPtr> refs;
    if (!positions.empty()) {
      refs.reserve(positions.size() + caller->refs->size());
      for (const auto position : positions) refs.push_back(reference_in(given[position]));
      refs.insert(refs.end(), caller->refs->begin(), caller->refs->end());
      source.args.data = scratch;
      source.args.refs = refs;
      source.deps = static_cast<std::uint32_t>(positions.size());
    } else if (count != 0) {
      if (dump_tuple(given, scratch)) {
        source.args.data = scratch;
      } else {
        py::tuple items(count);
        for (Py_ssize_t i = 0; i < count; ++i) PyTuple_SET_ITEM(items.ptr(), i, Py_NewRef(args[i]));
        PyObject* const call[] = {items.ptr(), protocol};
        pickled = py::reinterpret_steal<py::object>(PyObject_Vectorcall(pickle_dumps, call, 2, nullptr));
        if (!pickled) throw py::error_already_set();
        source.args.data = std::as_bytes(
            std::span(PyBytes_AS_STRING(pickled.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(pickled.ptr()))));
      }
    }
    const py::object keep_meta = py::reinterpret_borrow<py::object>(caller->meta);
    source.meta = std::as_bytes(
        std::span(PyBytes_AS_STRING(caller->meta), static_cast<std::size_t>(PyBytes_GET_SIZE(caller->meta))));
    source.name = text_of(caller->name);
    if (positions.empty()) source.args.refs = *caller->refs;
    const auto api = the_api();
    std::vector<RefPtr> made;
    if (pickled && PyBytes_GET_SIZE(pickled.ptr()) > kUnlockFrom) {
      refs = *caller->refs;
      source.args.refs = refs;
      const auto target = caller->target != nullptr ? reference_in(caller->target) : nullptr;
      const std::string name(source.name);
      source.name = name;
      const auto options = py::reinterpret_borrow<py::object>(caller->options);
      const auto* placed = caller_options(options);
      const Unlocked unlocked;
      made = target != nullptr ? api->call(target, source) : api->submit(source, placed);
    } else if (caller->target != nullptr) {
      made = api->call(reference_in(caller->target), source);
    } else {
      made = api->submit(source, caller_options(caller->options));
    }
    return make_object_ref(std::move(made.front()));
  } catch (...) {
    raise_current();
    return nullptr;
  }
}

// --- get

/// The value, when it lies in the reference and holds nothing but a pickle; null, without an exception, when not.
PyObject* value_in(const RefPtr& ref) {
  BytesView blob;
  if (!ref->look(blob)) return nullptr;
  if (blob.empty()) return Py_NewRef(Py_None);
  if (blob.size() < 16) return nullptr;
  std::uint32_t buffers = 0;
  std::memcpy(&buffers, blob.data(), sizeof buffers);
  if (buffers != 0) return nullptr;
  const auto data = blob.subspan(16);
  if (data.empty()) return Py_NewRef(Py_None);
  if (auto* value = load_plain(data)) return value;
  const auto pickle = py::reinterpret_steal<py::object>(
      PyBytes_FromStringAndSize(reinterpret_cast<const char*>(data.data()), static_cast<Py_ssize_t>(data.size())));
  if (!pickle) return nullptr;
  return PyObject_CallOneArg(pickle_loads, pickle.ptr());
}

PyObject* get_one(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 2 || !is_reference(args[0])) {
    PyErr_SetString(PyExc_TypeError, "get_one() takes a reference and a timeout");
    return nullptr;
  }
  try {
    const auto ref = reference_in(args[0]);
    if (auto* value = value_in(ref)) return value;
    if (PyErr_Occurred() != nullptr) return nullptr;
    const auto deadline = deadline_of(args[1]);
    const auto api = the_api();
    py::object got;
    try {
      std::vector<Got> values;
      if (api->settles()) {
        if (!ref->ready()) {
          const Unlocked unlocked;
          api->settle({&ref, 1}, deadline, signals());
        }
        if (auto* value = value_in(ref)) return value;
        if (PyErr_Occurred() != nullptr) return nullptr;
      }
      {
        const Unlocked unlocked;
        values = api->get({&ref, 1}, deadline, signals());
      }
      got = to_python(std::move(values.front()));
    } catch (const TimeoutError&) {
      got = py::none();
    }
    PyObject* const call[] = {args[0], got.ptr(), args[1]};
    return PyObject_Vectorcall(got_other, call, 3, nullptr);
  } catch (...) {
    raise_current();
    return nullptr;
  }
}

/// A list of ObjectRef, else None: then the package says what is wrong with it.
PyObject* get_many(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 2) {
    PyErr_SetString(PyExc_TypeError, "get_many() takes a list and a timeout");
    return nullptr;
  }
  if (!PyList_CheckExact(args[0])) Py_RETURN_NONE;
  try {
    const auto api = the_api();
    if (!api->settles()) Py_RETURN_NONE;
    const auto size = static_cast<std::size_t>(PyList_GET_SIZE(args[0]));
    std::vector<RefPtr> refs;
    refs.reserve(size);
    bool ready = true;
    for (std::size_t i = 0; i < size; ++i) {
      auto* item = PyList_GET_ITEM(args[0], static_cast<Py_ssize_t>(i));
      if (!is_object_ref(item)) Py_RETURN_NONE;
      refs.push_back(reference_in(item));
      ready = ready && refs.back()->ready();
    }
    const auto deadline = deadline_of(args[1]);
    if (!ready) {
      try {
        const Unlocked unlocked;
        api->settle(refs, deadline, signals());
      } catch (const TimeoutError&) {
        return PyObject_CallFunctionObjArgs(got_many_other, args[0], args[1], Py_True, nullptr);
      }
    }
    // An error first, and nothing is read beside it.
    for (const auto& ref : refs) {
      if (ref->failed()) return PyObject_CallFunctionObjArgs(got_many_other, args[0], args[1], Py_False, nullptr);
    }
    py::list list(size);
    for (std::size_t i = 0; i < size; ++i) {
      auto* value = value_in(refs[i]);
      if (value == nullptr && PyErr_Occurred() == nullptr) {
        // The list may have changed meanwhile.
        const auto ref = py::reinterpret_steal<py::object>(make_object_ref(refs[i]));
        PyObject* const call[] = {ref.ptr(), args[1]};
        value = get_one(nullptr, call, 2);
      }
      if (value == nullptr) return nullptr;
      PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i), value);
    }
    return list.release().ptr();
  } catch (...) {
    raise_current();
    return nullptr;
  }
}

// --- wait

/// (ready, rest) of a list of ObjectRef that differ; None when it is anything else.
PyObject* split(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 3 || !PyList_CheckExact(args[0])) Py_RETURN_NONE;
  static std::uint64_t round = 0;
  try {
    const auto wanted = PyLong_AsSsize_t(args[1]);
    if (wanted == -1 && PyErr_Occurred() != nullptr) return nullptr;
    const auto size = PyList_GET_SIZE(args[0]);
    if (wanted < 1 || wanted > size) Py_RETURN_NONE;
    const auto deadline = deadline_of(args[2]);
    ++round;
    Py_ssize_t there = 0;
    for (Py_ssize_t i = 0; i < size; ++i) {
      auto* item = PyList_GET_ITEM(args[0], i);
      if (!is_object_ref(item) || std::exchange(mark_of(item), round) == round) Py_RETURN_NONE;
      if (there < wanted && reference_in(item)->ready()) ++there;
    }
    // Somebody else may change the list while the lock is not held.
    auto list = py::reinterpret_borrow<py::object>(args[0]);
    if (there < wanted) {
      std::vector<RefPtr> refs;
      refs.reserve(static_cast<std::size_t>(size));
      for (Py_ssize_t i = 0; i < size; ++i) refs.push_back(reference_in(PyList_GET_ITEM(args[0], i)));
      list = py::reinterpret_steal<py::object>(PyList_GetSlice(args[0], 0, size));
      if (!list) return nullptr;
      const auto api = the_api();
      if (!api->settles()) Py_RETURN_NONE;
      const Unlocked unlocked;
      api->wait(refs, static_cast<std::size_t>(wanted), deadline, signals());
    }
    py::list ready;
    auto rest = py::reinterpret_steal<py::object>(PyList_GetSlice(list.ptr(), 0, 0));
    if (!rest) return nullptr;
    Py_ssize_t from = 0;  // of what goes to the rest in one piece
    const auto keep = [&](Py_ssize_t to) {
      if (from == to) return true;
      if (PyList_GET_SIZE(rest.ptr()) == 0) {
        rest = py::reinterpret_steal<py::object>(PyList_GetSlice(list.ptr(), from, to));
        return static_cast<bool>(rest);
      }
      const auto more = py::reinterpret_steal<py::object>(PyList_GetSlice(list.ptr(), from, to));
      const auto end = PyList_GET_SIZE(rest.ptr());
      return more && PyList_SetSlice(rest.ptr(), end, end, more.ptr()) == 0;
    };
    for (Py_ssize_t i = 0; i < size && PyList_GET_SIZE(ready.ptr()) < wanted; ++i) {
      auto* item = PyList_GET_ITEM(list.ptr(), i);
      if (!reference_in(item)->ready()) continue;
      if (!keep(i) || PyList_Append(ready.ptr(), item) != 0) return nullptr;
      from = i + 1;
    }
    if (!keep(size)) return nullptr;
    return PyTuple_Pack(2, ready.ptr(), rest.ptr());
  } catch (...) {
    raise_current();
    return nullptr;
  }
}

/// A reference to a plain value, put; None for any other.
PyObject* put_plain(PyObject*, PyObject* value) {
  static Bytes scratch;
  scratch.clear();
  try {
    ValueSource source;
    if (!dump_atom(value, scratch)) Py_RETURN_NONE;
    source.data = scratch;
    return make_object_ref(the_api()->put(source, signals()));
  } catch (...) {
    raise_current();
    return nullptr;
  }
}

PyObject* dump_plain_bytes(PyObject*, PyObject* value) {
  Bytes out;
  const bool made =
      PyTuple_CheckExact(value)
          ? dump_tuple({PySequence_Fast_ITEMS(value), static_cast<std::size_t>(PyTuple_GET_SIZE(value))}, out)
          : dump_atom(value, out);
  if (!made) Py_RETURN_NONE;
  return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(out.data()), static_cast<Py_ssize_t>(out.size()));
}

PyObject* load_plain_bytes(PyObject*, PyObject* pickle) {
  if (!PyBytes_CheckExact(pickle)) {
    PyErr_SetString(PyExc_TypeError, "load_plain() takes bytes");
    return nullptr;
  }
  auto* value = load_plain(
      std::as_bytes(std::span(PyBytes_AS_STRING(pickle), static_cast<std::size_t>(PyBytes_GET_SIZE(pickle)))));
  if (value == nullptr) Py_RETURN_NOTIMPLEMENTED;
  return value;
}

PyObject* set_package(PyObject*, PyObject* args) {
  PyObject *module_state = nullptr, *object_ref = nullptr, *dumps = nullptr, *loads = nullptr, *other = nullptr,
           *many = nullptr;
  if (PyArg_ParseTuple(args, "O!OOOOO", &PyDict_Type, &module_state, &object_ref, &dumps, &loads, &other, &many) == 0)
    return nullptr;
  try {
    set_object_ref_type(object_ref);
  } catch (...) {
    raise_current();
    return nullptr;
  }
  const auto keep = [](PyObject*& kept, PyObject* given) { Py_XSETREF(kept, Py_NewRef(given)); };
  keep(state, module_state);
  keep(pickle_dumps, dumps);
  keep(pickle_loads, loads);
  keep(got_other, other);
  keep(got_many_other, many);
  Py_RETURN_NONE;
}

template <class F>
PyCFunction function(F f) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(f));
}

PyMethodDef caller_methods[] = {
    {"remote", function(&caller_remote), METH_FASTCALL | METH_KEYWORDS,
     "remote(*args, **kwargs)\n--\n\nSubmits a task or calls an actor's method, and returns at once: a reference, a "
     "list of\n"
     "`num_returns` references, None for 0, or a generator of references."},
    {"_arm", function(&caller_arm), METH_FASTCALL, "What holds for calls with plain arguments in this session."},
    {nullptr, nullptr, 0, nullptr}};
PyMemberDef caller_members[] = {{"__weaklistoffset__", T_PYSSIZET, offsetof(Caller, weak), READONLY, nullptr},
                                {nullptr, 0, 0, 0, nullptr}};

PyMethodDef functions[] = {
    {"get_one", function(&get_one), METH_FASTCALL, "The value of a reference."},
    {"get_many", function(&get_many), METH_FASTCALL,
     "The values of a list of references; None when it is no such list."},
    {"split", function(&split), METH_FASTCALL, "What wait() returns; None for the package to do it."},
    {"put_plain", &put_plain, METH_O, "A reference to a plain value; None for any other."},
    {"dump_plain", &dump_plain_bytes, METH_O,
     "The pickle of an atom or a tuple of atoms; None for any other. For tests."},
    {"load_plain", &load_plain_bytes, METH_O, "The value of such a pickle; NotImplemented for any other. For tests."},
    {"set_package", &set_package, METH_VARARGS, "What these functions use of the package."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void bind_calls(py::module_& module) {
  PyType_Slot slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(&caller_dealloc)},
                         {Py_tp_methods, caller_methods},
                         {Py_tp_members, caller_members},
                         {Py_tp_new, reinterpret_cast<void*>(&PyType_GenericNew)},
                         {Py_tp_doc, const_cast<char*>("What RemoteFunction and ActorMethod call with.")},
                         {0, nullptr}};
  PyType_Spec spec{"trireme._native.Caller", static_cast<int>(sizeof(Caller)), 0,
                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
  auto* type = PyType_FromSpec(&spec);
  if (type == nullptr) throw py::error_already_set();
  module.add_object("Caller", py::reinterpret_steal<py::object>(type));
  if (PyModule_AddFunctions(module.ptr(), functions) != 0) throw py::error_already_set();
  name_session = PyUnicode_InternFromString("session");
  name_group = PyUnicode_InternFromString("captured_group");
  name_remote = PyUnicode_InternFromString("_remote");
  protocol = PyLong_FromLong(5);
}

}  // namespace trireme::python::bind
