// `trireme._nccl`: groups of Python processes whose arrays lie in GPU memory. Apart from `_collective`, which must load
// where there is no CUDA. python/trireme/_nccl.pyi says what is in it.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "python/collective/array.hpp"
#include "python/collective/exchange.hpp"
#include "trireme/ml/nccl.hpp"

namespace py = pybind11;

namespace trireme::python {
namespace {

using ml::NcclGroup;
using ml::ReduceOp;
using Arrays = std::vector<std::shared_ptr<Array>>;

ReduceOp reduction(int op, const Array& array) {
  if (op < 0 || op >= static_cast<int>(ml::kReduceOps))
    throw py::value_error("op is 0 to 4: sum, product, min, max, mean");
  const auto found = static_cast<ReduceOp>(op);
  if (array.is_bool && (found == ReduceOp::sum || found == ReduceOp::mean))
    throw py::type_error("bool is reduced by MIN (and), MAX (or) or PRODUCT (and)");
  return found;
}

/// Where an operation is queued: a cudaStream_t as a number, and what `__dlpack__` is told.
struct Stream {
  explicit Stream(std::optional<std::uintptr_t> given)
      : handle(reinterpret_cast<void*>(given.value_or(0))), exported(given ? -1 : kLegacyDefault) {}
  static constexpr std::int64_t kLegacyDefault = 1;
  void* handle;
  std::int64_t exported;
};

/// Threading: one thread, under the GIL, which is released while NCCL or the host waits.
class PyNccl {
 public:
  PyNccl(std::uint32_t rank, std::uint32_t size, const py::function& exchange, const std::string& name, double timeout,
         int device)
      : device_(device) {
    PythonExchange through_python(exchange);
    const ml::NcclOptions options{.name = name, .timeout_ns = nanoseconds(timeout), .device = device};
    try {
      const py::gil_scoped_release unlocked;
      group_ = std::make_unique<NcclGroup>(rank, size, through_python.as_exchange(), options);
    } catch (const ml::CollectiveError&) {
      through_python.rethrow();
      throw;
    }
  }
  ~PyNccl() { close(); }

  NcclGroup& get() {
    if (!group_) throw ml::CollectiveError(Errc::shutdown, -1, "the group was closed");
    return *group_;
  }
  void close() {
    auto group = std::move(group_);
    const py::gil_scoped_release unlocked;
    group.reset();
  }
  std::shared_ptr<Array> array(const py::object& object, const Stream& stream, const char* what = "the array") {
    get();
    return Array::on_device(object, what, device_, stream.exported);
  }
  template <class Call>
  auto unlocked(Call call) {
    NcclGroup& group = get();
    const py::gil_scoped_release released;
    return call(group);
  }

 private:
  const int device_;
  std::unique_ptr<NcclGroup> group_;
};

/// What was queued on a stream, and the arrays that it works on.
class PyNcclWork {
 public:
  PyNcclWork(std::shared_ptr<PyNccl> group, Stream stream, Arrays arrays)
      : group_(std::move(group)), stream_(stream), arrays_(std::move(arrays)) {}
  void wait() {
    if (done_) return;
    group_->unlocked([&](NcclGroup& group) { group.wait(stream_.handle); });
    end();
  }
  bool test() {
    if (!done_ && group_->unlocked([&](NcclGroup& group) { return group.test(stream_.handle); })) end();
    return done_;
  }

 private:
  void end() {
    done_ = true;
    arrays_.clear();
  }
  std::shared_ptr<PyNccl> group_;
  Stream stream_;
  Arrays arrays_;
  bool done_ = false;
};

using Handle = std::optional<std::uintptr_t>;
using Self = std::shared_ptr<PyNccl>;

template <class Call>
std::unique_ptr<PyNcclWork> queue(const Self& self, const Stream& stream, Arrays arrays, Call call) {
  self->unlocked([&](NcclGroup& group) { call(group); });
  return std::make_unique<PyNcclWork>(self, stream, std::move(arrays));
}

void define_operations(py::class_<PyNccl, Self>& group) {
  group.def(
      "all_reduce",
      [](const Self& self, const py::object& array, int op, Handle handle) {
        const Stream stream(handle);
        const auto data = self->array(array, stream);
        const auto how = reduction(op, *data);
        return queue(self, stream, {data},
                     [&](NcclGroup& group) { group.all_reduce(data->buffer(), how, stream.handle); });
      },
      py::arg("array"), py::arg("op"), py::arg("stream"));
  group.def(
      "reduce",
      [](const Self& self, const py::object& array, std::uint32_t root, int op, Handle handle) {
        const Stream stream(handle);
        const auto data = self->array(array, stream);
        const auto how = reduction(op, *data);
        return queue(self, stream, {data},
                     [&](NcclGroup& group) { group.reduce(data->buffer(), root, how, stream.handle); });
      },
      py::arg("array"), py::arg("root"), py::arg("op"), py::arg("stream"));
  group.def(
      "broadcast",
      [](const Self& self, const py::object& array, std::uint32_t root, Handle handle) {
        const Stream stream(handle);
        const auto data = self->array(array, stream);
        return queue(self, stream, {data},
                     [&](NcclGroup& group) { group.broadcast(data->buffer(), root, stream.handle); });
      },
      py::arg("array"), py::arg("root"), py::arg("stream"));
  group.def(
      "all_gather",
      [](const Self& self, const py::object& mine, const py::object& all, Handle handle) {
        const Stream stream(handle);
        const auto part = self->array(mine, stream);
        const auto whole = self->array(all, stream, "the result");
        return queue(self, stream, {part, whole},
                     [&](NcclGroup& group) { group.all_gather(part->buffer(), whole->buffer(), stream.handle); });
      },
      py::arg("mine"), py::arg("all"), py::arg("stream"));
  group.def(
      "reduce_scatter",
      [](const Self& self, const py::object& all, const py::object& mine, int op, Handle handle) {
        const Stream stream(handle);
        const auto whole = self->array(all, stream);
        const auto part = self->array(mine, stream, "the result");
        const auto how = reduction(op, *whole);
        return queue(self, stream, {whole, part}, [&](NcclGroup& group) {
          group.reduce_scatter(whole->buffer(), part->buffer(), how, stream.handle);
        });
      },
      py::arg("all"), py::arg("mine"), py::arg("op"), py::arg("stream"));
  group.def(
      "all_to_all",
      [](const Self& self, const py::object& from, const py::object& to, Handle handle) {
        const Stream stream(handle);
        const auto source = self->array(from, stream);
        const auto target = self->array(to, stream, "the result");
        return queue(self, stream, {source, target},
                     [&](NcclGroup& group) { group.all_to_all(source->buffer(), target->buffer(), stream.handle); });
      },
      py::arg("source"), py::arg("target"), py::arg("stream"));
  group.def(
      "send",
      [](const Self& self, const py::object& array, std::uint32_t to, Handle handle) {
        const Stream stream(handle);
        const auto data = self->array(array, stream);
        return queue(self, stream, {data}, [&](NcclGroup& group) { group.send(data->buffer(), to, stream.handle); });
      },
      py::arg("array"), py::arg("to"), py::arg("stream"));
  group.def(
      "recv",
      [](const Self& self, const py::object& array, std::uint32_t from, Handle handle) {
        const Stream stream(handle);
        const auto data = self->array(array, stream);
        return queue(self, stream, {data}, [&](NcclGroup& group) { group.recv(data->buffer(), from, stream.handle); });
      },
      py::arg("array"), py::arg("source"), py::arg("stream"));
  group.def(
      "barrier",
      [](const Self& self, Handle handle) {
        self->unlocked([&](NcclGroup& group) { group.barrier(Stream(handle).handle); });
      },
      py::arg("stream"));
}

}  // namespace
}  // namespace trireme::python

PYBIND11_MODULE(_nccl, module) {
  using namespace trireme::python;
  // One type for both modules, so that a program catches one.
  // Never dropped: the interpreter may be gone before what is static here.
  static py::handle error_type =
      py::object(py::module_::import("trireme._collective").attr("CollectiveError")).release();
  py::register_local_exception_translator([](std::exception_ptr raised) {
    try {
      if (raised) std::rethrow_exception(raised);
    } catch (const trireme::ml::CollectiveError& error) {
      py::object instance = error_type(error.what());
      std::string code(trireme::to_string(error.code()));
      std::replace(code.begin(), code.end(), ' ', '_');
      instance.attr("code") = code;
      instance.attr("member") = error.member();
      PyErr_SetObject(error_type.ptr(), instance.ptr());
    }
  });
  module.def("device_count", &trireme::ml::NcclGroup::devices);
  py::class_<PyNcclWork>(module, "Work").def("wait", &PyNcclWork::wait).def("test", &PyNcclWork::test);
  py::class_<PyNccl, Self> group(module, "Communicator");
  group
      .def(py::init<std::uint32_t, std::uint32_t, const py::function&, const std::string&, double, int>(),
           py::arg("rank"), py::arg("size"), py::arg("exchange"), py::arg("name"), py::arg("timeout"),
           py::arg("device"))
      .def_property_readonly("rank", [](PyNccl& self) { return self.get().rank(); })
      .def_property_readonly("size", [](PyNccl& self) { return self.get().size(); })
      .def("close", &PyNccl::close);
  define_operations(group);
}
