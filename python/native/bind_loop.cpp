#include <cstring>
#include <memory>
#include <span>
#include <utility>

#include "python/native/bind_plain.hpp"
#include "python/native/bind_worker.hpp"

/// The part of a worker's main loop that needs no Python of the package: calls with plain arguments and one result.
/// What the package's Worker.execute() does for every call, this does for those, in the same order.
namespace trireme::python::bind {

namespace {

/// The pickle in a packed value (wire.hpp) without buffers; false for any other.
bool pickle_in(BytesView blob, BytesView& data) {
  if (blob.empty()) return data = {}, true;
  std::uint32_t buffers = 0;
  if (blob.size() < 16) return false;
  std::memcpy(&buffers, blob.data(), sizeof buffers);
  if (buffers != 0) return false;
  data = blob.subspan(16);
  return true;
}

/// The arguments as the package pickled them; false when they need the package.
bool plain_arguments(const WorkItem& item, BytesView& data) {
  // Of references, only those that come resolved.
  if (item.args.refs.size() != item.deps.size() || !item.gpus.empty()) return false;
  for (const auto& dep : item.deps) {
    if (!std::holds_alternative<HeldValue>(dep)) return false;
  }
  return pickle_in(item.args.blob, data) && (item.deps.empty() || !data.empty());
}

py::object load(BytesView data) {
  auto value = py::reinterpret_steal<py::object>(load_plain(data));
  if (value) return value;
  static const auto& loads = *new py::object(py::module_::import("pickle").attr("loads"));
  const auto pickle = py::bytes(reinterpret_cast<const char*>(data.data()), data.size());
  value = py::reinterpret_steal<py::object>(PyObject_CallOneArg(loads.ptr(), pickle.ptr()));
  if (!value) throw py::error_already_set();
  return value;
}

/// What a reference among the arguments came to.
py::object resolved(const HeldValue& value) {
  BytesView data;
  if (value.refs.empty() && pickle_in(value.blob, data)) return data.empty() ? py::none() : load(data);
  static const auto& unpack = *new py::object(py::module_::import("trireme._serialization").attr("unpack"));
  return unpack(to_python(value));
}

/// Errors: error_already_set.
py::object call_function(const py::object& function, BytesView data, std::span<const Got> deps) {
  PyObject* result = nullptr;
  if (data.empty()) {
    result = PyObject_CallNoArgs(function.ptr());
  } else if (const auto call = load(data); PyTuple_CheckExact(call.ptr())) {
    result = PyObject_Call(function.ptr(), call.ptr(), nullptr);
  } else {
    // [args, kwargs, positions]
    const py::list args(py::object(call[py::int_(0)]));
    const py::dict named(py::object(call[py::int_(1)]));
    const py::list positions(py::object(call[py::int_(2)]));
    for (std::size_t i = 0; i < deps.size() && i < positions.size(); ++i) {
      const py::object at = positions[i];
      auto value = resolved(std::get<HeldValue>(deps[i]));
      if (PyLong_Check(at.ptr()))
        args[at.cast<std::size_t>()] = value;
      else
        named[at] = value;
    }
    result = PyObject_Call(function.ptr(), py::tuple(args).ptr(), named.ptr());
  }
  if (result == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

/// True: the result is on its way. False with an exception, false without: it is the package's.
bool finish_plain(WorkerCore& core, std::uint64_t token, PyObject* result) {
  static Bytes scratch;
  scratch.clear();
  const bool dumped =
      PyTuple_CheckExact(result)
          ? dump_tuple({PySequence_Fast_ITEMS(result), static_cast<std::size_t>(PyTuple_GET_SIZE(result))}, scratch)
          : dump_atom(result, scratch);
  // What may have to wait for room is handed over without the interpreter's lock.
  if (!dumped || scratch.size() > kInlineBytesMax / 2) return false;
  ValueSource value;
  value.data = scratch;
  core.worker->finish(token, {&value, 1});
  return true;
}

/// The exception that is set, with its traceback, no longer set.
py::object take_error() {
  PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  if (trace != nullptr) PyException_SetTraceback(value, trace);
  Py_XDECREF(type);
  Py_XDECREF(trace);
  return py::reinterpret_steal<py::object>(value);
}

}  // namespace

namespace {

bool run_known(WorkerCore& core, WorkItem& item) {
  BytesView data;
  if (core.plain.empty() || item.kind == WorkItem::Kind::cancel || item.kind == WorkItem::Kind::create ||
      item.streaming || !plain_arguments(item, data))
    return false;
  const auto at = core.plain.find(std::string(reinterpret_cast<const char*>(item.meta.data()), item.meta.size()));
  if (at == core.plain.end()) return false;
  const auto& known = at->second;
  if (core.current.ptr() != known.work.ptr()) core.enter(known.work);
  const auto token = item.token;
  auto* records = core.records;
  const auto record = records != nullptr ? records->begin(core.kind, known.name, item.attempt, token) : 0;
  core.running.store(token, std::memory_order_relaxed);
  py::object result;
  try {
    if (core.worker->cancelled() == token)
      PyErr_SetNone(PyExc_KeyboardInterrupt);
    else
      result = call_function(known.function, data, item.deps);
  } catch (...) {
    raise_current();
  }
  if (result && records != nullptr) records->end(record);
  core.running.store(0, std::memory_order_relaxed);
  if (result) {
    if (finish_plain(core, token, result.ptr())) return true;
    const auto token_object = py::reinterpret_steal<py::object>(PyLong_FromUnsignedLongLong(token));
    PyObject* const call[] = {token_object.ptr(), result.ptr()};
    if (py::reinterpret_steal<py::object>(PyObject_Vectorcall(core.deliver.ptr(), call, 2, nullptr))) return true;
  }
  const auto error = take_error();
  if (records != nullptr) records->end(record, Py_TYPE(error.ptr())->tp_name);
  const auto work = known.work;
  core.failed(to_task(std::move(item)), work, error);
  return true;
}

}  // namespace

bool run_plain(WorkerCore& core, WorkItem& item) {
  const bool ran = run_known(core, item);
  if (core.wrote) core.end_output();
  return ran;
}

namespace {

/// A buffer that the package mapped, as Records.
struct HeldRecords {
  explicit HeldRecords(PyObject* memory) {
    if (PyObject_GetBuffer(memory, &buffer, PyBUF_WRITABLE) != 0) throw py::error_already_set();
    const auto size = static_cast<std::size_t>(buffer.len);
    if (size < Records::kHeaderBytes + sizeof(Records::Record) ||
        reinterpret_cast<std::uintptr_t>(buffer.buf) % alignof(Records::Record) != 0) {
      PyBuffer_Release(&buffer);
      throw py::value_error("Records() needs aligned memory for at least one record");
    }
    records = std::make_unique<Records>(std::span(static_cast<std::byte*>(buffer.buf), size));
  }
  ~HeldRecords() { PyBuffer_Release(&buffer); }
  HeldRecords(const HeldRecords&) = delete;
  HeldRecords& operator=(const HeldRecords&) = delete;
  Py_buffer buffer{};
  std::unique_ptr<Records> records;
};

}  // namespace

void bind_records(py::module_& module) {
  py::class_<HeldRecords>(module, "Records", "A ring of records of tasks in shared memory.")
      .def(py::init([](py::handle memory) { return std::make_unique<HeldRecords>(memory.ptr()); }), py::arg("memory"))
      .def(
          "begin",
          [](HeldRecords& self, std::uint32_t kind, py::handle name, std::uint32_t attempt, std::uint64_t token) {
            return self.records->begin(kind, text_of(name.ptr()), attempt, token);
          },
          py::arg("kind"), py::arg("name"), py::arg("attempt"), py::arg("token"))
      .def(
          "end",
          [](HeldRecords& self, std::uint64_t number, py::handle error) {
            self.records->end(number, text_of(error.ptr()));
          },
          py::arg("number"), py::arg("error") = "");
}

void set_records(WorkerCore& core, py::object held, std::uint32_t kind) {
  core.records = held.is_none() ? nullptr : held.cast<HeldRecords&>().records.get();
  core.records_of = std::move(held);
  core.kind = kind;
}

}  // namespace trireme::python::bind
