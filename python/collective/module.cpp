// `trireme._collective`: groups for Python processes, which hang on a rank through shared memory and so have no
// transport of their own. python/trireme/_collective.pyi says what is in it.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "python/collective/data_parallel.hpp"
#include "python/collective/group.hpp"

namespace py = pybind11;

namespace trireme::python {
namespace {

using ml::CollectiveError;
using ml::Communicator;
using ml::ReduceOp;

ReduceOp reduction(int op, const Arrays& arrays) {
  if (op < 0 || op >= static_cast<int>(ml::kReduceOps))
    throw py::value_error("op is 0 to 4: sum, product, min, max, mean");
  const auto found = static_cast<ReduceOp>(op);
  const bool logical = found == ReduceOp::min || found == ReduceOp::max || found == ReduceOp::product;
  if (!logical && std::any_of(arrays.begin(), arrays.end(), [](const auto& array) { return array->is_bool; }))
    throw py::type_error("bool is reduced by MIN (and), MAX (or) or PRODUCT (and)");
  return found;
}

/// Defines `name` and `start_name`, whose calls differ in waiting only. `prepare` turns Python's arguments into the
/// arrays and a pair of calls.
template <class... Arguments, class Prepare, class... Extra>
void define(py::class_<Group, std::shared_ptr<Group>>& group, const char* name, Prepare prepare,
            const Extra&... extra) {
  group.def(
      name,
      [prepare](Group& self, Arguments... arguments) {
        const auto prepared = prepare(arguments...);
        self.run([&](Communicator& communicator) { prepared.run(communicator); });
      },
      extra...);
  group.def((std::string("start_") + name).c_str(),
            [prepare](Group& self, Arguments... arguments) {
              const auto prepared = prepare(arguments...);
              return self.start(prepared.arrays,
                                [&](Communicator& communicator) { return prepared.start(communicator); });
            },
            extra...);
}

template <class Run, class Start>
struct Prepared {
  Arrays arrays;
  Run run;
  Start start;
};
template <class Run, class Start>
Prepared(Arrays, Run, Start) -> Prepared<Run, Start>;

void define_operations(py::class_<Group, std::shared_ptr<Group>>& group) {
  define<py::object, int>(
      group, "all_reduce",
      [](const py::object& array, int op) {
        const Arrays held{Array::of(array, true, "the array")};
        const auto data = held[0]->buffer();
        const auto how = reduction(op, held);
        return Prepared{held, [=](Communicator& c) { c.all_reduce(data, how); },
                        [=](Communicator& c) { return c.start_all_reduce(data, how); }};
      },
      py::arg("array"), py::arg("op") = 0);
  define<py::object, std::uint32_t, int>(
      group, "reduce",
      [](const py::object& array, std::uint32_t root, int op) {
        const Arrays held{Array::of(array, true, "the array")};
        const auto data = held[0]->buffer();
        const auto how = reduction(op, held);
        return Prepared{held, [=](Communicator& c) { c.reduce(data, root, how); },
                        [=](Communicator& c) { return c.start_reduce(data, root, how); }};
      },
      py::arg("array"), py::arg("root"), py::arg("op") = 0);
  define<py::object, std::uint32_t>(
      group, "broadcast",
      [](const py::object& array, std::uint32_t root) {
        const Arrays held{Array::of(array, true, "the array")};
        const auto data = held[0]->buffer();
        return Prepared{held, [=](Communicator& c) { c.broadcast(data, root); },
                        [=](Communicator& c) { return c.start_broadcast(data, root); }};
      },
      py::arg("array"), py::arg("root"));
  define<py::object, py::object>(
      group, "all_gather",
      [](const py::object& mine, const py::object& all) {
        const Arrays held{Array::of(mine, false, "the array"), Array::of(all, true, "the result")};
        const auto part = held[0]->buffer();
        const auto whole = held[1]->buffer();
        return Prepared{held, [=](Communicator& c) { c.all_gather(part, whole); },
                        [=](Communicator& c) { return c.start_all_gather(part, whole); }};
      },
      py::arg("mine"), py::arg("all"));
  define<py::object, py::object, int>(
      group, "reduce_scatter",
      [](const py::object& all, const py::object& mine, int op) {
        const Arrays held{Array::of(all, false, "the array"), Array::of(mine, true, "the result")};
        const auto whole = held[0]->buffer();
        const auto part = held[1]->buffer();
        const auto how = reduction(op, held);
        return Prepared{held, [=](Communicator& c) { c.reduce_scatter(whole, part, how); },
                        [=](Communicator& c) { return c.start_reduce_scatter(whole, part, how); }};
      },
      py::arg("all"), py::arg("mine"), py::arg("op") = 0);
  define<py::object, py::object>(
      group, "all_to_all",
      [](const py::object& from, const py::object& to) {
        const Arrays held{Array::of(from, false, "the array"), Array::of(to, true, "the result")};
        const auto source = held[0]->buffer();
        const auto target = held[1]->buffer();
        return Prepared{held, [=](Communicator& c) { c.all_to_all(source, target); },
                        [=](Communicator& c) { return c.start_all_to_all(source, target); }};
      },
      py::arg("source"), py::arg("target"));
  define<py::object, std::uint32_t, std::uint32_t>(
      group, "send",
      [](const py::object& array, std::uint32_t to, std::uint32_t tag) {
        const Arrays held{Array::of(array, false, "the array")};
        const auto data = held[0]->buffer();
        return Prepared{held, [=](Communicator& c) { c.send(data, to, tag); },
                        [=](Communicator& c) { return c.start_send(data, to, tag); }};
      },
      py::arg("array"), py::arg("to"), py::arg("tag") = 0);
  define<py::object, std::uint32_t, std::uint32_t>(
      group, "recv",
      [](const py::object& array, std::uint32_t from, std::uint32_t tag) {
        const Arrays held{Array::of(array, true, "the array")};
        const auto data = held[0]->buffer();
        return Prepared{held, [=](Communicator& c) { c.recv(data, from, tag); },
                        [=](Communicator& c) { return c.start_recv(data, from, tag); }};
      },
      py::arg("array"), py::arg("source"), py::arg("tag") = 0);
  define<>(group, "barrier", [] {
    return Prepared{Arrays{}, [](Communicator& c) { c.barrier(); }, [](Communicator& c) { return c.start_barrier(); }};
  });
}

}  // namespace
}  // namespace trireme::python

PYBIND11_MODULE(_collective, module) {
  using namespace trireme::python;
  static PyObject* error_type =
      PyErr_NewExceptionWithDoc("trireme._collective.CollectiveError",
                                "An operation failed on every member. `code` is an Errc by name, `member` the one to "
                                "blame or -1.",
                                PyExc_RuntimeError, nullptr);
  module.attr("CollectiveError") = py::handle(error_type);
  py::register_exception_translator([](std::exception_ptr raised) {
    try {
      if (raised) std::rethrow_exception(raised);
    } catch (const CollectiveError& error) {
      py::object instance = py::handle(error_type)(error.what());
      std::string code(trireme::to_string(error.code()));
      std::replace(code.begin(), code.end(), ' ', '_');
      instance.attr("code") = code;
      instance.attr("member") = error.member();
      PyErr_SetObject(error_type, instance.ptr());
    }
  });
  py::class_<PyWork>(module, "Work").def("wait", &PyWork::wait).def("test", &PyWork::test);
  py::class_<Group, std::shared_ptr<Group>> group(module, "Communicator");
  group
      .def(py::init<std::uint32_t, std::uint32_t, const py::function&, const std::string&, double, bool>(),
           py::arg("rank"), py::arg("size"), py::arg("exchange"), py::arg("name") = "group",
           py::arg("timeout") = 1800.0, py::arg("fixed_order") = false)
      .def_property_readonly("rank", [](Group& self) { return self.get().rank(); })
      .def_property_readonly("size", [](Group& self) { return self.get().size(); })
      .def_property_readonly("name", [](Group& self) { return self.get().name(); })
      .def_property_readonly("broken", [](Group& self) { return self.get().broken(); })
      .def("describe", [](Group& self) { return self.get().describe(); })
      .def("close", &Group::close);
  define_operations(group);
  define_data_parallel(module);
}
