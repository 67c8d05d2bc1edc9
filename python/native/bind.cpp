#include "python/native/bind.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <new>
#include <string>

#include "trireme/error.hpp"

namespace trireme::python::bind {

namespace {

PyObject* native_error = nullptr;

bool run_signal_handlers() {
  // Python runs them on the main thread only; the others need not wait for the lock.
  if (::syscall(SYS_gettid) != ::getpid()) return false;
  const auto state = PyGILState_Ensure();
  const bool stop = PyErr_CheckSignals() != 0;
  PyGILState_Release(state);
  return stop;
}

void raise_native(const Exception& error) {
  const std::string_view text = error.what();
  const auto message = py::reinterpret_steal<py::object>(
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
  if (!message) return;
  const auto instance = py::reinterpret_steal<py::object>(PyObject_CallOneArg(native_error, message.ptr()));
  if (!instance) return;
  const auto name = errc_name(error.code());
  const auto code =
      py::reinterpret_steal<py::object>(PyUnicode_FromStringAndSize(name.data(), static_cast<Py_ssize_t>(name.size())));
  if (!code || PyObject_SetAttrString(instance.ptr(), "code", code.ptr()) != 0) return;
  PyErr_SetObject(native_error, instance.ptr());
}

}  // namespace

const Api::Check& signals() {
  static const Api::Check check = run_signal_handlers;
  return check;
}

void raise_current() noexcept {
  try {
    throw;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const Interrupted&) {
    // The handler's own exception is set already.
    if (PyErr_Occurred() == nullptr) PyErr_SetNone(PyExc_KeyboardInterrupt);
  } catch (const TimeoutError& error) {
    PyErr_SetString(PyExc_TimeoutError, error.what());
  } catch (const Exception& error) {
    raise_native(error);
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  } catch (...) {
    PyErr_SetString(PyExc_RuntimeError, "an exception of unknown type");
  }
}

std::string_view errc_name(Errc code) {
  switch (code) {
    case Errc::ok:
      return "ok";
    case Errc::unknown:
      return "unknown";
    case Errc::invalid_argument:
      return "invalid_argument";
    case Errc::not_found:
      return "not_found";
    case Errc::already_exists:
      return "already_exists";
    case Errc::too_large:
      return "too_large";
    case Errc::out_of_memory:
      return "out_of_memory";
    case Errc::would_block:
      return "would_block";
    case Errc::peer_lost:
      return "peer_lost";
    case Errc::object_lost:
      return "object_lost";
    case Errc::owner_died:
      return "owner_died";
    case Errc::actor_died:
      return "actor_died";
    case Errc::task_failed:
      return "task_failed";
    case Errc::unschedulable:
      return "unschedulable";
    case Errc::malformed:
      return "malformed";
    case Errc::build_mismatch:
      return "build_mismatch";
    case Errc::timeout:
      return "timeout";
    case Errc::shutdown:
      return "shutdown";
    case Errc::unavailable:
      return "unavailable";
    case Errc::cancelled:
      return "cancelled";
    case Errc::type_mismatch:
      return "type_mismatch";
    case Errc::worker_lost:
      return "worker_lost";
    case Errc::io:
      return "io";
    case Errc::stream_end:
      return "stream_end";
  }
  return "unknown";
}

void bind_errors(py::module_& module) {
  native_error =
      PyErr_NewExceptionWithDoc("trireme._native.NativeError", "The runtime refused a call. `code` says why, by name.",
                                PyExc_RuntimeError, nullptr);
  if (native_error == nullptr) throw py::error_already_set();
  PyObject_SetAttrString(native_error, "code", py::str("unknown").ptr());
  module.add_object("NativeError", py::reinterpret_borrow<py::object>(native_error));
  py::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const Interrupted&) {
      raise_current();
    } catch (const Exception&) {
      raise_current();
    }
  });
  using detail::ErrorInfo;
  py::class_<ErrorInfo>(module, "Error", "How a task or call failed.")
      .def_property_readonly("code", [](const ErrorInfo& self) { return errc_name(self.code); })
      .def_property_readonly("message", [](const ErrorInfo& self) { return py::str(self.message); })
      .def_property_readonly("type", [](const ErrorInfo& self) { return py::str(self.type); })
      .def_property_readonly(
          "rank",
          [](const ErrorInfo& self) { return self.rank == kNoRank ? -1 : static_cast<std::int64_t>(self.rank); })
      .def_property_readonly("host", [](const ErrorInfo& self) { return py::str(self.host); })
      .def_property_readonly("task", [](const ErrorInfo& self) { return py::str(self.task); })
      .def_property_readonly("payload", [](const ErrorInfo& self) { return py::bytes(self.payload); })
      .def("__repr__", [](const ErrorInfo& self) {
        return "<trireme._native.Error " + std::string(errc_name(self.code)) + ": " + self.message + ">";
      });
}

std::string_view text_of(PyObject* object) {
  Py_ssize_t size = 0;
  const char* text = PyUnicode_AsUTF8AndSize(object, &size);
  if (text == nullptr) throw py::error_already_set();
  return {text, static_cast<std::size_t>(size)};
}

}  // namespace trireme::python::bind
