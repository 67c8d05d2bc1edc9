#include <pybind11/stl.h>

#include <map>
#include <string>

#include "python/cross/calls.hpp"
#include "python/cross/registry.hpp"
#include "python/native/bind.hpp"
#include "python/native/rank_api.hpp"

/// C++ functions and actor classes by name: what `trireme.cross_language` stands on.
namespace trireme::python::bind {

namespace {

using cross::Registry;

/// Errors: RuntimeError in a worker.
void need_rank(const Core& core) {
  if (dynamic_cast<RankApi*>(core.api.get()) == nullptr)
    throw std::runtime_error(
        "C++ functions and actors are called from the program that runs on rank 0, not from inside Python tasks and "
        "actors: call it there and pass the reference to its result");
}

template <class F>
auto known(F find) {
  try {
    return find();
  } catch (const std::out_of_range& unknown) {
    throw py::value_error(unknown.what());
  }
}

/// The arguments of a call; all references are resolved for it.
struct CppCall {
  CppCall(const Core& core, py::handle data, py::handle buffers, py::handle refs) : source(data, buffers, py::tuple()) {
    need_rank(core);
    parts.args = source.get();
    for (const auto& ref : references(refs)) parts.deps.push_back(cell_of(ref));
  }
  Source source;
  cross::CallParts parts;
};

py::object submit(Core& core, const std::string& name, py::handle data, py::handle buffers, py::handle refs,
                  py::handle options) {
  const CppCall call(core, data, buffers, refs);
  const auto* placed = caller_options(options);
  RefPtr result;
  known([&] {
    const Unlocked unlocked(call.source.large());
    result = reference_of(cross::submit_exported(name, call.parts, placed == nullptr ? nullptr : &placed->call).cell());
  });
  return to_python(std::move(result));
}

py::object create(Core& core, const std::string& name, py::handle data, py::handle buffers, py::handle refs,
                  py::handle options, int max_concurrency) {
  const CppCall call(core, data, buffers, refs);
  const auto* placed = caller_options(options);
  if (placed == nullptr) throw py::type_error("cpp_create needs options");
  const CallOptions copy = placed->call;
  RefPtr actor;
  known([&] {
    const Unlocked unlocked;
    actor = reference_of(cross::create_exported(name, call.parts, copy, max_concurrency).cell());
  });
  return to_python(std::move(actor));
}

py::object call_method(Core& core, py::handle actor, const std::string& method, py::handle data, py::handle buffers,
                       py::handle refs) {
  const CppCall call(core, data, buffers, refs);
  const auto target = cell_of(reference(actor));
  RefPtr result;
  {
    const Unlocked unlocked(call.source.large());
    result = reference_of(cross::call_exported(target, method, call.parts).cell());
  }
  return to_python(std::move(result));
}

using Signature = std::pair<std::string, std::size_t>;

Signature of_callable(const std::string& name, const cross::Callable& callable) {
  return {cross::signature(name, callable.parameters, callable.result), callable.parameters.size()};
}

}  // namespace

void bind_cpp(py::module_& module) {
  module.def(
      "cpp_load",
      [](const std::string& path) {
        const Unlocked unlocked;
        Registry::instance().load(path);
      },
      py::arg("path"));
  module.def("cpp_functions", [] { return Registry::instance().functions(); });
  module.def("cpp_actors", [] { return Registry::instance().actors(); });
  module.def(
      "cpp_signature",
      [](const std::string& name) {
        return of_callable(name, known([&]() -> const auto& { return Registry::instance().function(name); }).callable);
      },
      py::arg("name"), "A function's signature, and how many arguments it takes.");
  module.def(
      "cpp_class",
      [](const std::string& name) {
        const auto& actor = known([&]() -> const auto& { return Registry::instance().actor(name); });
        std::map<std::string, Signature> methods;
        for (const auto& [method, callable] : actor.methods)
          methods[method] = of_callable(name + "." + method, callable);
        return std::make_tuple(cross::signature(name, actor.constructor.parameters, name),
                               actor.constructor.parameters.size(), methods);
      },
      py::arg("name"), "The constructor's signature and number of arguments, and those of the methods by name.");
  module.def("cpp_submit", &submit, py::arg("core"), py::arg("name"), py::arg("data"), py::arg("buffers"),
             py::arg("refs"), py::arg("options"));
  module.def("cpp_create", &create, py::arg("core"), py::arg("name"), py::arg("data"), py::arg("buffers"),
             py::arg("refs"), py::arg("options"), py::arg("max_concurrency"));
  module.def("cpp_call", &call_method, py::arg("core"), py::arg("actor"), py::arg("method"), py::arg("data"),
             py::arg("buffers"), py::arg("refs"));
}

}  // namespace trireme::python::bind
