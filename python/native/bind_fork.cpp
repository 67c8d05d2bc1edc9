// What a process does first that was forked from the template process.
#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>

#include "python/native/bind.hpp"

namespace trireme::python::bind {

namespace {

/// Puts what is descriptor `theirs` of process `pid` in the place of `ours`.
bool take_over(int pid, int theirs, int ours) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, theirs);
  const int opened = ::open(path, O_WRONLY | O_CLOEXEC);
  if (opened < 0) {
    PyErr_SetFromErrnoWithFilename(PyExc_OSError, path);
    return false;
  }
  const bool done = ::dup2(opened, ours) == ours;
  if (!done) PyErr_SetFromErrno(PyExc_OSError);
  ::close(opened);
  return done;
}

// A function of this module and not four of Python's: each touches pages that a forked process has to be given first.
PyObject* become_worker(PyObject*, PyObject* args) {
  int parent = 0, rank = 0, out = 0, error = 0;
  if (PyArg_ParseTuple(args, "iiii", &parent, &rank, &out, &error) == 0) return nullptr;
  // The signal comes when the thread that forked ends; the template has one thread, which lives as long as it does.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) Py_RETURN_FALSE;
  if (!take_over(rank, out, 1) || !take_over(rank, error, 2)) return nullptr;
  // A session of its own, so that what user code starts in its process group is not another worker's.
  ::setsid();
  Py_RETURN_TRUE;
}

PyMethodDef functions[] = {
    {"become_worker", &become_worker, METH_VARARGS,
     "In a forked process: ends with its parent, writes to the rank's pipes, has a session of its "
     "own. False: the parent has ended already."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

void bind_fork(py::module_& module) {
  if (PyModule_AddFunctions(module.ptr(), functions) != 0) throw py::error_already_set();
}

}  // namespace trireme::python::bind
