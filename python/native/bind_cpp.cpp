#include <pybind11/stl.h>

#include <map>
#include <string>

#include "python/cross/registry.hpp"
#include "python/native/bind.hpp"

/// C++ functions and actor classes by name: what `trireme.cross_language` stands on.
namespace trireme::python::bind {

namespace {

using cross::Registry;

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
  CppCall(std::string_view library, std::string_view name, py::handle data, py::handle buffers, py::handle refs)
      : values(data, buffers, py::tuple()), deps(references(refs)) {
    source.library = library;
    source.name = name;
    source.args = values.get();
    source.deps = deps;
  }
  Source values;
  std::vector<RefPtr> deps;
  CppSource source;
};

py::object submit(Core& core, const std::string& library, const std::string& name, py::handle data, py::handle buffers,
                  py::handle refs, py::handle options) {
  const CppCall call(library, name, data, buffers, refs);
  const auto* placed = caller_options(options);
  RefPtr result;
  {
    const Unlocked unlocked(call.values.large());
    result = core.api->cpp_submit(call.source, placed);
  }
  return to_python(std::move(result));
}

py::object create(Core& core, const std::string& library, const std::string& name, py::handle data, py::handle buffers,
                  py::handle refs, py::handle options, int max_concurrency) {
  const CppCall call(library, name, data, buffers, refs);
  const auto* placed = caller_options(options);
  if (placed == nullptr) throw py::type_error("cpp_create needs options");
  RefPtr actor;
  {
    const auto copy = *placed;
    const Unlocked unlocked;
    actor = core.api->cpp_create(call.source, copy, max_concurrency);
  }
  return to_python(std::move(actor));
}

py::object call_method(Core& core, py::handle actor, const std::string& method, py::handle data, py::handle buffers,
                       py::handle refs) {
  const CppCall call({}, method, data, buffers, refs);
  const auto target = reference(actor);
  RefPtr result;
  {
    const Unlocked unlocked(call.values.large());
    result = core.api->cpp_call(target, call.source);
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
        const auto& function = known([&]() -> const auto& { return Registry::instance().function(name); });
        const auto [text, count] = of_callable(name, function.callable);
        return std::make_tuple(function.library, text, count);
      },
      py::arg("name"), "A function's library, its signature, and how many arguments it takes.");
  module.def(
      "cpp_class",
      [](const std::string& name) {
        const auto& actor = known([&]() -> const auto& { return Registry::instance().actor(name); });
        std::map<std::string, Signature> methods;
        for (const auto& [method, callable] : actor.methods)
          methods[method] = of_callable(name + "." + method, callable);
        return std::make_tuple(actor.library, cross::signature(name, actor.constructor.parameters, name),
                               actor.constructor.parameters.size(), methods);
      },
      py::arg("name"),
      "Its library, the constructor's signature and number of arguments, and those of the methods by name.");
  module.def("cpp_submit", &submit, py::arg("core"), py::arg("library"), py::arg("name"), py::arg("data"),
             py::arg("buffers"), py::arg("refs"), py::arg("options"));
  module.def("cpp_create", &create, py::arg("core"), py::arg("library"), py::arg("name"), py::arg("data"),
             py::arg("buffers"), py::arg("refs"), py::arg("options"), py::arg("max_concurrency"));
  module.def("cpp_call", &call_method, py::arg("core"), py::arg("actor"), py::arg("method"), py::arg("data"),
             py::arg("buffers"), py::arg("refs"));
}

}  // namespace trireme::python::bind
