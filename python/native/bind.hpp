#pragma once

#include <Python.h>
#include <pybind11/pybind11.h>
#include <structmember.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "python/native/api.hpp"

/// The module `_native`: what python/trireme/_native.pyi promises. Types that are made per call are written for the
/// interpreter directly, the others with pybind11.
///
/// Threading: with the interpreter's lock, unless said otherwise.
namespace trireme::python::bind {

namespace py = pybind11;

/// Without the interpreter's lock, for as long as it lives.
class Unlocked {
 public:
  explicit Unlocked(bool really = true) : state_(really ? PyEval_SaveThread() : nullptr) {}
  ~Unlocked() {
    if (state_ != nullptr) PyEval_RestoreThread(state_);
  }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  PyThreadState* state_;
};

/// Runs signal handlers, on the main thread; for Api's blocking calls, without the lock.
const Api::Check& signals();

/// Makes the exception being handled Python's.
void raise_current() noexcept;
void bind_errors(py::module_& module);
/// An Errc by its enumerator's name.
std::string_view errc_name(Errc code);

// References and values (bind_values.cpp).
void bind_values(py::module_& module);
void bind_loading(py::module_& module);
void bind_fork(py::module_& module);
/// A new Ref; None for null.
py::object to_python(RefPtr ref);
py::object to_python(HeldValue value);
py::object to_python(Got got);
py::list to_python(std::vector<RefPtr> refs);
/// TypeError when it is no Ref.
const RefPtr& reference(py::handle object);
bool is_reference(PyObject* object);
/// Of a Ref, unchecked.
const RefPtr& reference_in(PyObject* ref);
/// For whoever goes through a list of references: a number to tell those seen before. 0 at first.
std::uint64_t& mark_of(PyObject* ref);
/// The package's ObjectRef is a Ref: what fast paths give out.
void set_object_ref_type(PyObject* type);
bool is_object_ref(PyObject* object);
PyObject* make_object_ref(RefPtr ref);
/// Any sequence of Ref.
std::vector<RefPtr> references(py::handle sequence);
std::string id_text(ObjectId id);
/// Who is asked what a reference names: the process's one runtime. Errors: ValueError when there is none.
void set_the_api(std::shared_ptr<Api> api);
std::shared_ptr<Api> the_api();
/// How many references, values and views Python has.
std::size_t live_objects();

/// A bytes-like object's memory, for the duration of a call.
class Contents {
 public:
  /// TypeError, or BufferError when it is not contiguous.
  explicit Contents(PyObject* object);
  Contents(Contents&& other) noexcept;
  Contents& operator=(Contents&&) = delete;
  ~Contents();
  BytesView view() const { return view_; }

 private:
  BytesView view_;
  Py_buffer buffer_{};
};

/// A value to be packed: `data`, `buffers` and `refs` of the package.
class Source {
 public:
  Source(py::handle data, py::handle buffers, py::handle refs);
  Source(Source&&) = default;
  ValueSource get() const { return {data_.view(), views_, refs_}; }
  /// To be handed over without the lock: it is copied for long, or waits for room.
  bool large() const { return bytes_ > kInlineBytesMax / 2; }

 private:
  static constexpr std::size_t kInlineBytesMax = 8U << 10;
  Contents data_;
  std::vector<Contents> buffers_;
  std::vector<BytesView> views_;
  std::vector<RefPtr> refs_;
  std::size_t bytes_ = 0;
};

std::string_view text_of(PyObject* object);

// Options and placement groups (bind_options.cpp).
void bind_options(py::module_& module);
/// Null for None. Valid while the object lives and is not changed.
const CallerOptions* caller_options(py::handle object);
/// Tests of labels as the package writes them (_labels.py): label, whether it must match, values (none: must exist).
using PythonRules = std::vector<std::tuple<std::string, bool, std::vector<std::string>>>;
std::vector<LabelRule> rules_of(const PythonRules& tests);
py::object make_group(GroupHandle handle);
/// By its id, made by whichever process; not counted.
py::object find_group(std::string_view id);

// The runtime (bind_core.cpp).

/// Base of RankCore and WorkerCore.
struct Core {
  std::shared_ptr<Api> api;
  /// References that are ready are got without waiting.
  bool local = false;
};
/// A timeout in seconds as a point on SystemClock. None: without limit.
Nanos deadline_of(py::handle timeout);
void bind_core(py::module_& module);
void bind_calls(py::module_& module);
void bind_rank(py::module_& module);
void bind_worker(py::module_& module);
void bind_cpp(py::module_& module);

}  // namespace trireme::python::bind
