#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "trireme/python/convert.hpp"
#include "trireme/runtime.hpp"

namespace trireme::python {

class Reference;

template <class R>
class PyRef;

namespace cross {

/// The arguments of a call of Python: values, and references whose values take their places.
struct Passed {
  Value::List values;
  std::vector<std::pair<std::size_t, std::shared_ptr<Reference>>> references;

  template <class T>
  void add(const T& value) {
    values.push_back(Convert<std::decay_t<T>>::to(value));
  }
  void add(const char* text) { values.emplace_back(std::string(text)); }
  template <class R>
  void add(const PyRef<R>& ref) {
    references.emplace_back(values.size(), ref.reference());
    values.emplace_back();
  }
};
template <class... Args>
Passed pass(const Args&... args) {
  Passed passed;
  (passed.add(args), ...);
  return passed;
}

std::shared_ptr<Reference> call_function(const std::string& name, const Passed& args);
std::shared_ptr<Reference> create_actor(const std::string& name, const Passed& args);
std::shared_ptr<Reference> call_method(const std::shared_ptr<Reference>& actor, const std::string& method,
                                       const Passed& args);
Value get(const std::shared_ptr<Reference>& reference, Duration timeout);
bool is_ready(const std::shared_ptr<Reference>& reference);
void kill(const std::shared_ptr<Reference>& actor);

}  // namespace cross

/// A reference to the result of Python code, which get() turns into an R: one of the types of Convert, or void.
///
/// Threading: like std::shared_ptr. Lifetime: must not outlive the Runtime.
template <class R>
class PyRef {
 public:
  explicit PyRef(std::shared_ptr<Reference> reference) : reference_(std::move(reference)) {}
  /// Blocks. Errors: TaskError with Python's type and text, ActorDiedError, TimeoutError, ConversionError when the
  /// result is no R.
  R get(Duration timeout = Duration::max()) const {
    const auto value = cross::get(reference_, timeout);
    if constexpr (!std::is_void_v<R>) return Convert<R>::from(value);
  }
  bool ready() const { return cross::is_ready(reference_); }
  const std::shared_ptr<Reference>& reference() const { return reference_; }

 private:
  std::shared_ptr<Reference> reference_;
};

/// An actor that is an object of a Python class, in a process of its own. Ends with its last handle, or on kill().
class PyActor {
 public:
  explicit PyActor(std::shared_ptr<Reference> reference) : reference_(std::move(reference)) {}
  /// Calls of one thread run in the order in which they were made.
  template <class R, class... Args>
  PyRef<R> call(const std::string& method, const Args&... args) const {
    return PyRef<R>(cross::call_method(reference_, method, cross::pass(args...)));
  }
  void kill() const { cross::kill(reference_); }

 private:
  std::shared_ptr<Reference> reference_;
};

/// The runtime of a C++ program that also calls Python: trireme::Runtime, and worker processes for Python on every
/// rank.
///
///     trireme::python::Runtime rt(argc, argv);                    // first thing in main()
///     double area = rt.call<double>("shapes:area", 2.0, 3.0).get();
///     auto counter = rt.actor("shapes:Counter", 10);
///     counter.call<long>("add", 1).get();
///
/// "module:name" is a function or class of a module that workers can import: PYTHONPATH, and the folder where the
/// program was started, are searched. A name may have dots ("module:Class.method"); what @trireme.remote made of it is
/// undone.
///
/// Settings: TRIREME_PYTHON, the interpreter (python3), which must find the package `trireme`.
/// Threading: made and destroyed by the main thread, before other threads exist; call() and actor() from any thread.
/// Errors:    those of trireme::Runtime, and unavailable when the interpreter cannot be started.
/// Lifetime:  one at a time per process, in place of a trireme::Runtime.
class Runtime {
 public:
  Runtime(int& argc, char** argv, RuntimeOptions options = {});
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  Rank rank() const;
  std::uint32_t size() const;

  /// Runs the function as a task in a worker of some rank. A PyRef among the arguments arrives as its value.
  template <class R, class... Args>
  PyRef<R> call(const std::string& function, const Args&... args) {
    return PyRef<R>(cross::call_function(function, cross::pass(args...)));
  }
  /// Makes an object of the class in a process of its own.
  template <class... Args>
  PyActor actor(const std::string& python_class, const Args&... args) {
    return PyActor(cross::create_actor(python_class, cross::pass(args...)));
  }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::python
