#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <unordered_map>

#include "python/native/bind.hpp"
#include "python/native/records.hpp"
#include "python/native/worker_api.hpp"

namespace trireme::python::bind {

/// A kind of call that needs nothing but its function: one result, nothing to prepare or to count.
struct PlainWork {
  py::object work;      ///< the package's own
  py::object function;  ///< a bound method, for calls of an actor
  std::string name;
};

/// WorkerCore as Python sees it.
///
/// Threading: `running` from any thread, the rest by the main thread, with the interpreter's lock.
struct WorkerCore : Core {
  /// Kept until the process ends: references and values give back what they hold to it.
  WorkerApi* worker = nullptr;
  /// By the call's `meta`.
  std::unordered_map<std::string, PlainWork> plain;
  py::object current;        ///< the work that the package entered last
  py::object enter, failed;  ///< methods of the package: enter(work), failed(task, work, error)
  py::object deliver;        ///< deliver(token, result): a result that is not plain
  py::object end_output;     ///< what runs has `wrote`: the next is another's
  bool wrote = false;
  Records* records = nullptr;
  py::object records_of;                  ///< what holds them
  std::uint32_t kind = 0;                 ///< in the records: of tasks or of an actor's calls
  unsigned taken = 0;                     ///< since the lock was given up last
  std::atomic<std::uint64_t> running{0};  ///< token of what the main thread runs
};

py::object to_task(WorkItem item);
/// Runs the piece of work here when it is of a known plain kind, with plain arguments; false: it is the package's.
bool run_plain(WorkerCore& core, WorkItem& item);
/// `held`: a Records of the module, or None.
void set_records(WorkerCore& core, py::object held, std::uint32_t kind);
void bind_records(py::module_& module);

}  // namespace trireme::python::bind
