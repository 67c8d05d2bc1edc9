#include "python/collective/data_parallel.hpp"

#include <pybind11/stl.h>

#include <stdexcept>
#include <string>

#include "python/collective/group.hpp"
#include "trireme/ml/data_parallel.hpp"

namespace py = pybind11;

namespace trireme::python {
namespace {

/// `ml::DataParallel` over the memory of Python's arrays.
///
/// Threading: under the GIL, which only wait() and what is collective release; no call may come while one of those
/// waits. Lifetime: holds its group and its parameters. Dropping it does not wait: the group keeps what it still uses.
class PyDataParallel {
 public:
  PyDataParallel(std::shared_ptr<Group> group, const std::vector<py::object>& parameters, std::size_t bucket_bytes)
      : group_(std::move(group)) {
    std::vector<ml::Buffer> buffers;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      parameters_.push_back(Array::of(parameters[i], true, ("parameter " + std::to_string(i)).c_str()));
      buffers.push_back(parameters_.back()->buffer());
    }
    ml::Communicator& communicator = group_->get();
    const py::gil_scoped_release unlocked;
    parallel_ = std::make_shared<ml::DataParallel>(communicator, std::move(buffers),
                                                   ml::DataParallelOptions{.bucket_bytes = bucket_bytes});
  }
  ~PyDataParallel() {
    if (parallel_->under_way()) group_->keep(std::move(parallel_));
  }
  PyDataParallel(const PyDataParallel&) = delete;
  PyDataParallel& operator=(const PyDataParallel&) = delete;

  void broadcast() {
    waiting([](ml::DataParallel& parallel) { parallel.broadcast(); });
  }
  void wait() {
    waiting([](ml::DataParallel& parallel) { parallel.wait(); });
  }
  void ready(std::size_t parameter, const py::object& gradient) {
    ml::DataParallel& parallel = usable();
    if (gradient.is_none()) return parallel.ready(parameter);
    parallel.ready(parameter, Array::of(gradient, false, "the gradient")->buffer());
  }
  const ml::DataParallel& get() const { return *parallel_; }

 private:
  ml::DataParallel& usable() {
    static_cast<void>(group_->get());  // throws when it was closed
    if (waiting_) throw std::runtime_error("DataParallel is for one thread, and another one waits in it");
    return *parallel_;
  }
  template <class Call>
  void waiting(Call call) {
    ml::DataParallel& parallel = usable();
    struct Mark {
      bool& mark;
      explicit Mark(bool& of) : mark(of) { mark = true; }
      ~Mark() { mark = false; }
    };
    const Mark mark(waiting_);
    const py::gil_scoped_release unlocked;
    call(parallel);
  }

  std::shared_ptr<Group> group_;
  Arrays parameters_;
  std::shared_ptr<ml::DataParallel> parallel_;
  bool waiting_ = false;
};

/// Where a gradient lies in its bucket, as bytes; keeps the buckets.
struct GradientMemory {
  std::shared_ptr<PyDataParallel> owner;
  ml::Buffer memory;
};

}  // namespace

void define_data_parallel(py::module_& module) {
  py::class_<GradientMemory>(module, "GradientMemory", py::buffer_protocol()).def_buffer([](GradientMemory& gradient) {
    const auto bytes = gradient.memory.count * ml::bytes_of(gradient.memory.type);
    return py::buffer_info(static_cast<std::uint8_t*>(gradient.memory.data), static_cast<py::ssize_t>(bytes));
  });
  py::class_<PyDataParallel, std::shared_ptr<PyDataParallel>>(module, "DataParallel")
      .def(py::init<std::shared_ptr<Group>, const std::vector<py::object>&, std::size_t>(), py::arg("group"),
           py::arg("parameters"), py::arg("bucket_bytes") = ml::DataParallelOptions{}.bucket_bytes)
      .def("broadcast", &PyDataParallel::broadcast)
      .def(
          "gradient",
          [](const std::shared_ptr<PyDataParallel>& self, std::size_t parameter) {
            return GradientMemory{self, self->get().gradient(parameter)};
          },
          py::arg("parameter"))
      .def("ready", &PyDataParallel::ready, py::arg("parameter"), py::arg("gradient") = py::none())
      .def("wait", &PyDataParallel::wait)
      .def(
          "is_ready", [](const PyDataParallel& self, std::size_t parameter) { return self.get().is_ready(parameter); },
          py::arg("parameter"))
      .def(
          "is_averaged",
          [](const PyDataParallel& self, std::size_t parameter) { return self.get().is_averaged(parameter); },
          py::arg("parameter"))
      .def_property_readonly("buckets", [](const PyDataParallel& self) { return self.get().buckets(); });
}

}  // namespace trireme::python
