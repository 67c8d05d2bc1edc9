
#include <poll.h>

#include <memory>
#include <string>
#include <utility>

#include "python/native/bind_worker.hpp"

namespace trireme::python::bind {

namespace {

/// A piece of work as Python sees it: attributes only.
struct Task {
  PyObject_HEAD PyObject* kind;
  PyObject* token;
  PyObject* meta;
  PyObject* args;
  PyObject* deps;
  PyObject* returns;
  PyObject* attempt;
  PyObject* streaming;
  PyObject* gpus;
};
PyMemberDef task_members[] = {
    {"kind", T_OBJECT_EX, offsetof(Task, kind), READONLY, "task, create, call or cancel"},
    {"token", T_OBJECT_EX, offsetof(Task, token), READONLY, nullptr},
    {"meta", T_OBJECT_EX, offsetof(Task, meta), READONLY, "as given to submit, create_actor or call"},
    {"args", T_OBJECT_EX, offsetof(Task, args), READONLY, nullptr},
    {"deps", T_OBJECT_EX, offsetof(Task, deps), READONLY, "the first references of the arguments, resolved"},
    {"returns", T_OBJECT_EX, offsetof(Task, returns), READONLY, nullptr},
    {"attempt", T_OBJECT_EX, offsetof(Task, attempt), READONLY, "0 the first time"},
    {"streaming", T_OBJECT_EX, offsetof(Task, streaming), READONLY, "results go out by yield_item()"},
    {"gpus", T_OBJECT_EX, offsetof(Task, gpus), READONLY, "devices it holds"},
    {nullptr, 0, 0, 0, nullptr}};
PyTypeObject* task_type = nullptr;
PyObject* kinds[4] = {};

void task_dealloc(PyObject* self) {
  auto* task = reinterpret_cast<Task*>(self);
  for (auto* each : {task->kind, task->token, task->meta, task->args, task->deps, task->returns, task->attempt,
                     task->streaming, task->gpus})
    Py_XDECREF(each);
  auto* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

}  // namespace

py::object to_task(WorkItem item) {
  auto made = py::reinterpret_steal<py::object>(task_type->tp_alloc(task_type, 0));
  if (!made) throw py::error_already_set();
  auto* task = reinterpret_cast<Task*>(made.ptr());
  const bool work = item.kind != WorkItem::Kind::cancel;
  task->kind = Py_NewRef(kinds[static_cast<int>(item.kind)]);
  task->token = PyLong_FromUnsignedLongLong(item.token);
  task->meta = PyBytes_FromStringAndSize(reinterpret_cast<const char*>(item.meta.data()),
                                         static_cast<Py_ssize_t>(item.meta.size()));
  task->args = work ? to_python(std::move(item.args)).release().ptr() : Py_NewRef(Py_None);
  py::list deps(item.deps.size());
  for (std::size_t i = 0; i < item.deps.size(); ++i)
    PyList_SET_ITEM(deps.ptr(), static_cast<Py_ssize_t>(i), to_python(std::move(item.deps[i])).release().ptr());
  task->deps = deps.release().ptr();
  task->returns = PyLong_FromUnsignedLong(item.returns);
  task->attempt = PyLong_FromUnsignedLong(item.attempt);
  task->streaming = PyBool_FromLong(item.streaming ? 1 : 0);
  py::list gpus(item.gpus.size());
  for (std::size_t i = 0; i < item.gpus.size(); ++i)
    PyList_SET_ITEM(gpus.ptr(), static_cast<Py_ssize_t>(i), PyLong_FromLong(item.gpus[i]));
  task->gpus = gpus.release().ptr();
  if (PyErr_Occurred() != nullptr) throw py::error_already_set();
  return made;
}

namespace {

std::unique_ptr<WorkerCore> make(py::handle command) {
  const Contents text(command.ptr());
  const auto view = text.view();
  auto core = std::make_unique<WorkerCore>();
  core->worker = new WorkerApi(WorkerCommand::parse({reinterpret_cast<const char*>(view.data()), view.size()}));
  core->api = std::shared_ptr<Api>(core->worker, [](Api*) {});
  set_the_api(core->api);
  return core;
}

constexpr unsigned kTakenMax = 64;

py::object next(WorkerCore& core) {
  for (;;) {
    std::optional<WorkItem> item;
    // What has come already is taken without giving up the interpreter's lock, for a while: an event loop or the
    // threads of the actor then get a batch at once, and not a turn for each.
    if (++core.taken % kTakenMax != 0) item = core.worker->try_next();
    if (!item) {
      core.taken = 0;
      const Unlocked unlocked;
      item = core.worker->next(signals());
    }
    if (!item) return py::none();
    if (!run_plain(core, *item)) return to_task(std::move(*item));
    // What it held goes before the next is waited for.
  }
}

/// The next piece of work that has come already; None: there is none.
py::object take(WorkerCore& core) {
  auto item = core.worker->try_next();
  return item ? to_task(std::move(*item)) : py::none();
}

/// See WorkerLink::wait_in_loop(). `timeout` in seconds; None: as long as it takes.
bool wait_in_loop(WorkerCore& core, int descriptor, py::handle timeout) {
  const auto ready = [descriptor] {
    pollfd at{descriptor, POLLIN, 0};
    return ::poll(&at, 1, 0) != 0;
  };
  // Without giving up the interpreter's lock, as next() does.
  const auto seconds = timeout.is_none() ? 1.0 : timeout.cast<double>();
  if (core.worker->has_work() || seconds <= 0 || ready()) return ready();
  const auto deadline = deadline_of(timeout.ptr());
  const Unlocked unlocked;
  return core.worker->wait_in_loop(descriptor, deadline);
}

void set_hooks(WorkerCore& core, py::object enter, py::object deliver, py::object failed, py::object end_output) {
  core.enter = std::move(enter);
  core.deliver = std::move(deliver);
  core.failed = std::move(failed);
  core.end_output = std::move(end_output);
}

void add_plain(WorkerCore& core, py::handle meta, py::object work, py::object function, const std::string& name) {
  const Contents key(meta.ptr());
  const auto view = key.view();
  core.plain.insert_or_assign(std::string(reinterpret_cast<const char*>(view.data()), view.size()),
                              PlainWork{std::move(work), std::move(function), name});
}

void finish(WorkerCore& core, std::uint64_t token, py::handle results) {
  const auto fast = py::reinterpret_steal<py::object>(
      PySequence_Fast(results.ptr(), "a sequence of (data, buffers, refs) was expected"));
  if (!fast) throw py::error_already_set();
  const auto count = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(fast.ptr()));
  std::vector<Source> sources;
  sources.reserve(count);
  bool large = false;
  for (std::size_t i = 0; i < count; ++i) {
    PyObject* result = PySequence_Fast_ITEMS(fast.ptr())[i];
    if (!PyTuple_Check(result) || PyTuple_GET_SIZE(result) != 3)
      throw py::type_error("a result is a tuple (data, buffers, refs)");
    sources.emplace_back(PyTuple_GET_ITEM(result, 0), PyTuple_GET_ITEM(result, 1), PyTuple_GET_ITEM(result, 2));
    large = large || sources.back().large();
  }
  std::vector<ValueSource> values;
  values.reserve(count);
  for (const auto& source : sources) values.push_back(source.get());
  const Unlocked unlocked(large);
  core.worker->finish(token, values);
}

void fail(WorkerCore& core, std::uint64_t token, py::handle message, py::handle type, py::handle payload) {
  // An exception's text may hold what UTF-8 cannot say.
  const auto encoded = [](py::handle text) {
    auto bytes = py::reinterpret_steal<py::object>(PyUnicode_AsEncodedString(text.ptr(), "utf-8", "replace"));
    if (!bytes) throw py::error_already_set();
    return bytes;
  };
  const auto message_bytes = encoded(message);
  const auto type_bytes = encoded(type);
  const auto text = [](const py::object& bytes) {
    return std::string_view(PyBytes_AS_STRING(bytes.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(bytes.ptr())));
  };
  const Contents blob(payload.ptr());
  const Unlocked unlocked;
  core.worker->fail(token, text(message_bytes), text(type_bytes), blob.view());
}

void yield_item(WorkerCore& core, std::uint64_t token, py::handle data, py::handle buffers, py::handle refs) {
  const Source source(data, buffers, refs);
  const Unlocked unlocked;
  core.worker->yield_item(token, source.get(), signals());
}

void bind_task(py::module_& module) {
  PyType_Slot slots[] = {
      {Py_tp_dealloc, reinterpret_cast<void*>(&task_dealloc)},
      {Py_tp_members, task_members},
      {Py_tp_doc, const_cast<char*>("One piece of work for this worker process.")},
      {0, nullptr},
  };
  PyType_Spec spec{"trireme._native.Task", static_cast<int>(sizeof(Task)), 0,
                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};
  auto* type = PyType_FromSpec(&spec);
  if (type == nullptr) throw py::error_already_set();
  task_type = reinterpret_cast<PyTypeObject*>(type);
  module.add_object("Task", py::reinterpret_borrow<py::object>(type));
  const char* names[] = {"task", "create", "call", "cancel"};
  for (int i = 0; i < 4; ++i) kinds[i] = PyUnicode_InternFromString(names[i]);
}

}  // namespace

void bind_worker(py::module_& module) {
  bind_task(module);
  bind_records(module);
  py::class_<WorkerCore, Core>(module, "WorkerCore", "The runtime in a worker process.")
      .def(py::init(&make), py::arg("command"))
      .def_property_readonly("worker_id", [](const WorkerCore& self) { return self.worker->worker_id(); })
      .def_property_readonly("env", [](const WorkerCore& self) { return self.worker->env(); })
      .def("next", &next,
           "The next piece of work that is not plain, once the plain ones before it have run; None: end this process.")
      .def("open_bell",
           [](WorkerCore& self) {
             const Unlocked unlocked;
             self.worker->open_bell(signals());
           })
      .def("wait_in_loop", &wait_in_loop, py::arg("descriptor"), py::arg("timeout"))
      .def("take", &take, "The next piece of work that has come already, or None.")
      .def("told_to_leave", [](WorkerCore& self) { return self.worker->told_to_leave(); })
      .def("set_hooks", &set_hooks, py::arg("enter"), py::arg("deliver"), py::arg("failed"), py::arg("end_output"))
      .def_readwrite("wrote", &WorkerCore::wrote)
      .def("add_plain", &add_plain, py::arg("meta"), py::arg("work"), py::arg("function"), py::arg("name"))
      .def("set_records", &set_records, py::arg("records"), py::arg("kind"))
      .def_property(
          "running", [](const WorkerCore& self) { return self.running.load(std::memory_order_relaxed); },
          [](WorkerCore& self, std::uint64_t token) { self.running.store(token, std::memory_order_relaxed); })
      .def_readwrite("current", &WorkerCore::current)
      .def("finish", &finish, py::arg("token"), py::arg("results"))
      .def("fail", &fail, py::arg("token"), py::arg("message"), py::arg("type"), py::arg("payload"))
      .def("yield_item", &yield_item, py::arg("token"), py::arg("data"), py::arg("buffers"), py::arg("refs"))
      .def("actor",
           [](WorkerCore& self) {
             RefPtr ref;
             {
               const Unlocked unlocked;
               ref = self.worker->myself(signals());
             }
             return to_python(std::move(ref));
           })
      .def("exit_actor", [](WorkerCore& self) { self.worker->exit_actor(); })
      .def(
          "note_interrupted", [](WorkerCore& self, std::uint64_t token) { self.worker->note_interrupted(token); },
          py::arg("token"))
      .def_property_readonly("cancelled", [](const WorkerCore& self) { return self.worker->cancelled(); })
      .def(
          "set_label", [](WorkerCore& self, const std::string& label) { self.worker->set_label(label); },
          py::arg("label"));
}

}  // namespace trireme::python::bind
