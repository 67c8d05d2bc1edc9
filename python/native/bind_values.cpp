#include <fmt/format.h>

#include <memory>
#include <optional>

#include "python/native/bind.hpp"
#include "python/native/wire.hpp"

namespace trireme::python::bind {

namespace {

/// References, values and views that Python has.
std::size_t live = 0;

/// C++ state behind the head that every Python object has.
template <class State>
struct Object {
  PyObject_HEAD PyObject* weak;
  State state;

  static State& of(PyObject* self) { return reinterpret_cast<Object*>(self)->state; }
  static PyObject* make(PyTypeObject* type, State state) {
    auto* made = reinterpret_cast<Object*>(type->tp_alloc(type, 0));
    if (made == nullptr) throw py::error_already_set();
    made->weak = nullptr;
    new (&made->state) State(std::move(state));
    ++live;
    return reinterpret_cast<PyObject*>(made);
  }
  static void dealloc(PyObject* self) {
    auto* object = reinterpret_cast<Object*>(self);
    if (object->weak != nullptr) PyObject_ClearWeakRefs(self);
    object->state.~State();
    --live;
    auto* type = Py_TYPE(self);
    type->tp_free(self);
    Py_DECREF(type);
  }
};

struct RefState {
  RefPtr ref;
  std::uint64_t mark = 0;  ///< see mark_of()
};
struct ValueState {
  HeldValue held;
  PackedLayout layout;
  py::object refs;  ///< of `held`, as a list once somebody has asked for them
};
/// Memory that a memoryview shows and keeps.
struct BlockState {
  BytesView bytes;
  std::shared_ptr<const void> keep;
};
using RefObject = Object<RefState>;
using ValueObject = Object<ValueState>;
using BlockObject = Object<BlockState>;

PyTypeObject* ref_type = nullptr;
/// The package's ObjectRef, which is a Ref.
PyTypeObject* object_ref_type = nullptr;
PyTypeObject* value_type = nullptr;
PyTypeObject* block_type = nullptr;
std::shared_ptr<Api>& api_of_process() {
  static auto& api = *new std::shared_ptr<Api>;  // outlives the interpreter, which frees references last
  return api;
}

template <class F>
PyObject* guarded(F body) noexcept {
  try {
    return body();
  } catch (...) {
    raise_current();
    return nullptr;
  }
}

ObjectId identified(PyObject* self) {
  const auto ref = RefObject::of(self).ref;
  ObjectId id;
  if (ref->identified(id)) return id;
  const auto api = the_api();
  const Unlocked unlocked;
  return api->identify(ref, signals());
}

// --- Ref

PyObject* ref_new(PyTypeObject* type, PyObject* args, PyObject* named) {
  PyObject* other = nullptr;
  if (named != nullptr && PyDict_GET_SIZE(named) != 0) {
    PyErr_Format(PyExc_TypeError, "%s() takes no arguments by name", type->tp_name);
    return nullptr;
  }
  if (PyArg_UnpackTuple(args, type->tp_name, 1, 1, &other) == 0) return nullptr;
  return guarded([&] { return RefObject::make(type, {reference(other)}); });
}
PyObject* ref_itself(PyObject* self, void*) { return Py_NewRef(self); }

PyObject* ref_id(PyObject* self, void*) {
  return guarded([self] { return py::str(id_text(identified(self))).release().ptr(); });
}
PyObject* ref_owner(PyObject* self, void*) {
  return guarded([self] { return PyLong_FromUnsignedLong(identified(self).owner); });
}
PyObject* ref_ready(PyObject* self, void*) { return PyBool_FromLong(RefObject::of(self).ref->ready() ? 1 : 0); }
PyObject* ref_of_actor_call(PyObject* self, void*) {
  return PyBool_FromLong(RefObject::of(self).ref->of_actor_call() ? 1 : 0);
}
PyObject* ref_error(PyObject* self, void*) {
  return guarded([self] {
    const auto ref = RefObject::of(self).ref;
    const auto api = the_api();
    std::optional<detail::ErrorInfo> error;
    {
      const Unlocked unlocked;
      error = api->failure(ref, signals());
    }
    return (error ? py::cast(std::move(*error)) : py::object(py::none())).release().ptr();
  });
}
Py_hash_t ref_hash(PyObject* self) {
  // Spreads consecutive keys.
  const auto hash = static_cast<Py_hash_t>((RefObject::of(self).ref->key() * 0x9E3779B97F4A7C15ULL) >> 1U);
  return hash == -1 ? -2 : hash;
}
PyObject* ref_compare(PyObject* self, PyObject* other, int how) {
  if ((how != Py_EQ && how != Py_NE) || !is_reference(other)) Py_RETURN_NOTIMPLEMENTED;
  const bool same = RefObject::of(self).ref->key() == RefObject::of(other).ref->key();
  return PyBool_FromLong(same == (how == Py_EQ) ? 1 : 0);
}
PyObject* ref_repr(PyObject* self) {
  return guarded([self] { return py::str("<trireme._native.Ref " + id_text(identified(self)) + ">").release().ptr(); });
}

PyGetSetDef ref_attributes[] = {
    {"_ref", ref_itself, nullptr, "Itself.", nullptr},
    {"id", ref_id, nullptr, "What it refers to: hexadecimal, unique in the job, the same in every process.", nullptr},
    {"owner", ref_owner, nullptr, "The rank that owns it.", nullptr},
    {"error", ref_error, nullptr, "How it failed, once it is ready and has failed. Never fetches the value.", nullptr},
    {"of_actor_call", ref_of_actor_call, nullptr, "A call of an actor makes it that this process made.", nullptr},
    {"ready", ref_ready, nullptr, "True when get would return at once, as far as this process knows.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

// --- Value

PyObject* view_of(BytesView bytes, const std::shared_ptr<const void>& keep) {
  const auto block = py::reinterpret_steal<py::object>(BlockObject::make(block_type, {bytes, keep}));
  auto* view = PyMemoryView_FromObject(block.ptr());
  if (view == nullptr) throw py::error_already_set();
  return view;
}
PyObject* value_data(PyObject* self, void*) {
  return guarded([self] {
    const auto& value = ValueObject::of(self);
    return view_of(value.held.blob.subspan(value.layout.data, value.layout.data_size), value.held.keep);
  });
}
PyObject* value_buffers(PyObject* self, void*) {
  return guarded([self] {
    const auto& [held, layout, refs] = ValueObject::of(self);
    py::list list(layout.buffers.size());
    for (std::size_t i = 0; i < layout.buffers.size(); ++i) {
      const auto [at, size] = layout.buffers[i];
      PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i), view_of(held.blob.subspan(at, size), held.keep));
    }
    return list.release().ptr();
  });
}
PyObject* value_refs(PyObject* self, void*) {
  return guarded([self] {
    auto& value = ValueObject::of(self);
    if (!value.refs) {
      auto& held = value.held.refs;
      py::list list(held.size());
      for (std::size_t i = 0; i < held.size(); ++i)
        PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i),
                        held[i] != nullptr ? make_object_ref(std::move(held[i])) : Py_NewRef(Py_None));
      held.clear();
      value.refs = std::move(list);
    }
    return Py_NewRef(value.refs.ptr());
  });
}
PyGetSetDef value_attributes[] = {
    {"data", value_data, nullptr, "What was pickled: a read-only memoryview.", nullptr},
    {"buffers", value_buffers, nullptr, "Read-only views of the out-of-band buffers, each keeping them in place.",
     nullptr},
    {"refs", value_refs, nullptr, "The references in it as a list of ObjectRef, always the same.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};

int block_get(PyObject* self, Py_buffer* view, int flags) {
  const auto& bytes = BlockObject::of(self).bytes;
  static std::byte nothing[1];
  void* at = bytes.empty() ? static_cast<void*>(nothing) : const_cast<std::byte*>(bytes.data());
  return PyBuffer_FillInfo(view, self, at, static_cast<Py_ssize_t>(bytes.size()), 1, flags);
}

template <class T>
PyMemberDef weak_member[] = {{"__weaklistoffset__", T_PYSSIZET, offsetof(Object<T>, weak), READONLY, nullptr},
                             {nullptr, 0, 0, 0, nullptr}};

template <class T>
PyTypeObject* make_type(py::module_& module, const char* name, std::vector<PyType_Slot> slots,
                        unsigned flags = Py_TPFLAGS_DISALLOW_INSTANTIATION) {
  slots.push_back({Py_tp_dealloc, reinterpret_cast<void*>(&Object<T>::dealloc)});
  slots.push_back({Py_tp_members, weak_member<T>});
  slots.push_back({0, nullptr});
  PyType_Spec spec{name, static_cast<int>(sizeof(Object<T>)), 0, static_cast<unsigned>(Py_TPFLAGS_DEFAULT) | flags,
                   slots.data()};
  auto* type = PyType_FromSpec(&spec);
  if (type == nullptr) throw py::error_already_set();
  module.add_object(std::string_view(name).substr(std::string_view("trireme._native.").size()).data(),
                    py::reinterpret_borrow<py::object>(type));
  return reinterpret_cast<PyTypeObject*>(type);
}

}  // namespace

void set_the_api(std::shared_ptr<Api> api) { api_of_process() = std::move(api); }

std::shared_ptr<Api> the_api() {
  if (api_of_process() == nullptr) throw py::value_error("no runtime has been started in this process");
  return api_of_process();
}

std::size_t live_objects() { return live; }

std::string id_text(ObjectId id) { return fmt::format("{:08x}{:016x}", id.owner, id.index); }

py::object to_python(RefPtr ref) {
  if (ref == nullptr) return py::none();
  return py::reinterpret_steal<py::object>(RefObject::make(ref_type, {std::move(ref)}));
}

py::list to_python(std::vector<RefPtr> refs) {
  py::list list(refs.size());
  for (std::size_t i = 0; i < refs.size(); ++i)
    PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i), to_python(std::move(refs[i])).release().ptr());
  return list;
}

py::object to_python(HeldValue value) {
  // Nothing, as C++ has it, is the empty value that stands for None.
  auto layout = value.blob.empty() ? PackedLayout() : unpack(value.blob);
  if (!layout) {
    detail::ErrorInfo info;
    info.code = Errc::type_mismatch;
    info.message = "the value was not made by Python: get it as what it is";
    throw Exception(std::move(info));
  }
  return py::reinterpret_steal<py::object>(ValueObject::make(value_type, {std::move(value), std::move(*layout), {}}));
}

py::object to_python(Got got) {
  switch (got.index()) {
    case 1:
      return to_python(std::get<1>(std::move(got)));
    case 2:
      return py::cast(std::get<2>(std::move(got)));
    default:
      return py::none();
  }
}

bool is_reference(PyObject* object) {
  auto* type = Py_TYPE(object);
  return type == object_ref_type || type == ref_type || PyType_IsSubtype(type, ref_type) != 0;
}
bool is_object_ref(PyObject* object) { return Py_TYPE(object) == object_ref_type; }
std::uint64_t& mark_of(PyObject* ref) { return RefObject::of(ref).mark; }
const RefPtr& reference_in(PyObject* ref) { return RefObject::of(ref).ref; }
PyObject* make_object_ref(RefPtr ref) { return RefObject::make(object_ref_type, {std::move(ref)}); }
void set_object_ref_type(PyObject* type) {
  if (!PyType_Check(type) || PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(type), ref_type) == 0)
    throw py::type_error("ObjectRef is a subclass of Ref");
  object_ref_type = reinterpret_cast<PyTypeObject*>(Py_NewRef(type));
  // A class that is written in Python is one whose objects the garbage collector goes through and whose end is more
  // work. These hold no object and have no attributes, so they are made to be what a Ref is. Before the first of them
  // is made.
  if (object_ref_type->tp_basicsize == ref_type->tp_basicsize && object_ref_type->tp_dictoffset == 0 &&
      object_ref_type->tp_del == nullptr && object_ref_type->tp_finalize == nullptr) {
    object_ref_type->tp_flags &= ~Py_TPFLAGS_HAVE_GC;
    object_ref_type->tp_traverse = nullptr;
    object_ref_type->tp_clear = nullptr;
    object_ref_type->tp_free = ref_type->tp_free;
    object_ref_type->tp_dealloc = &RefObject::dealloc;
    PyType_Modified(object_ref_type);
  }
}

const RefPtr& reference(py::handle object) {
  if (!is_reference(object.ptr())) {
    PyErr_Format(PyExc_TypeError, "a reference was expected, this is a %s", Py_TYPE(object.ptr())->tp_name);
    throw py::error_already_set();
  }
  return RefObject::of(object.ptr()).ref;
}

std::vector<RefPtr> references(py::handle sequence) {
  const auto fast =
      py::reinterpret_steal<py::object>(PySequence_Fast(sequence.ptr(), "a sequence of references was expected"));
  if (!fast) throw py::error_already_set();
  const auto size = PySequence_Fast_GET_SIZE(fast.ptr());
  auto** items = PySequence_Fast_ITEMS(fast.ptr());
  std::vector<RefPtr> refs;
  refs.reserve(static_cast<std::size_t>(size));
  for (Py_ssize_t i = 0; i < size; ++i) refs.push_back(reference(items[i]));
  return refs;
}

Contents::Contents(PyObject* object) {
  if (PyBytes_CheckExact(object)) {
    Py_INCREF(object);
    buffer_.obj = object;
    buffer_.buf = nullptr;  // of a bytes object: only counted
    view_ = std::as_bytes(std::span(PyBytes_AS_STRING(object), static_cast<std::size_t>(PyBytes_GET_SIZE(object))));
    return;
  }
  if (PyObject_GetBuffer(object, &buffer_, PyBUF_ANY_CONTIGUOUS) != 0) throw py::error_already_set();
  view_ = {static_cast<const std::byte*>(buffer_.buf), static_cast<std::size_t>(buffer_.len)};
}

Contents::Contents(Contents&& other) noexcept
    : view_(std::exchange(other.view_, {})), buffer_(std::exchange(other.buffer_, {})) {}

Contents::~Contents() {
  if (buffer_.obj == nullptr) return;
  if (buffer_.buf == nullptr && buffer_.len == 0 && PyBytes_CheckExact(buffer_.obj))
    Py_DECREF(buffer_.obj);
  else
    PyBuffer_Release(&buffer_);
}

Source::Source(py::handle data, py::handle buffers, py::handle refs) : data_(data.ptr()), bytes_(data_.view().size()) {
  const auto fast =
      py::reinterpret_steal<py::object>(PySequence_Fast(buffers.ptr(), "a sequence of buffers was expected"));
  if (!fast) throw py::error_already_set();
  const auto size = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(fast.ptr()));
  if (size != 0) {
    buffers_.reserve(size);
    views_.reserve(size);
    for (std::size_t i = 0; i < size; ++i) {
      buffers_.emplace_back(PySequence_Fast_ITEMS(fast.ptr())[i]);
      views_.push_back(buffers_.back().view());
      bytes_ += views_.back().size();
    }
  }
  refs_ = references(refs);
}

void bind_values(py::module_& module) {
  ref_type = make_type<RefState>(module, "trireme._native.Ref",
                                 {{Py_tp_new, reinterpret_cast<void*>(&ref_new)},
                                  {Py_tp_getset, ref_attributes},
                                  {Py_tp_hash, reinterpret_cast<void*>(&ref_hash)},
                                  {Py_tp_richcompare, reinterpret_cast<void*>(&ref_compare)},
                                  {Py_tp_repr, reinterpret_cast<void*>(&ref_repr)},
                                  {Py_tp_doc, const_cast<char*>("A counted reference to an object or an actor.")}},
                                 Py_TPFLAGS_BASETYPE);
  object_ref_type = ref_type;
  value_type = make_type<ValueState>(
      module, "trireme._native.Value",
      {{Py_tp_getset, value_attributes},
       {Py_tp_doc, const_cast<char*>("A value as it lies in the arena or in a message; read-only.")}});
  block_type = make_type<BlockState>(module, "trireme._native._Block",
                                     {{Py_bf_getbuffer, reinterpret_cast<void*>(&block_get)},
                                      {Py_tp_doc, const_cast<char*>("Memory that a memoryview shows.")}});
}

}  // namespace trireme::python::bind
