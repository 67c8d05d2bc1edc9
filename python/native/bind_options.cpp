#include <pybind11/stl.h>

#include <charconv>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "python/native/bind.hpp"

namespace trireme::python::bind {

namespace {

/// A placement group as Python holds it.
struct Group {
  Group(GroupHandle h, bool is_counted) : handle(std::move(h)), counted(is_counted) {}
  ~Group() {
    // Nobody is left to hear of it, and a runtime that ended has no groups any more.
    if (!counted) return;
    try {
      remove();
    } catch (...) {
    }
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;
  void remove() {
    if (!std::exchange(removed, true)) the_api()->remove_group(handle.id);
  }

  py::object ready() const {
    if (handle.ready == nullptr) {
      detail::ErrorInfo info;
      info.code = Errc::not_found;
      info.message =
          "whether a placement group is ready is known in the process that made it: send the reference that "
          "ready() gives there as an argument";
      throw Exception(std::move(info));
    }
    return to_python(handle.ready);
  }

  GroupHandle handle;
  const bool counted;  ///< goes with its last copy
  bool removed = false;
};

/// The package's Options, and what the runtime reads in them.
struct Options {
  std::optional<double> num_cpus;
  double num_gpus = 0;
  std::uint64_t memory = 0;
  std::map<std::string, double> resources;
  bool spread = false;
  std::int64_t rank = -1;
  std::string node;
  bool soft = false;
  PythonRules labels;
  std::shared_ptr<Group> group;
  int bundle = -1;
  std::int32_t max_retries = 3;
  std::string name;
  bool detached = false;
  std::int32_t max_restarts = 0;
  std::int32_t max_task_retries = 0;
  std::string env_key;
  std::string env;
  std::optional<CallerOptions> compiled;  ///< until an attribute is set

  const CallerOptions& compile() {
    if (compiled) return *compiled;
    CallerOptions out;
    out.call.resources.cpus = num_cpus;
    out.call.resources.gpus = num_gpus;
    out.call.resources.memory = memory;
    out.call.resources.custom = resources;
    if (group != nullptr) {
      out.call.placement.kind = Placement::Kind::group;
      out.call.placement.group = group->handle.id.index;
      out.call.placement.group_owner = group->handle.id.owner;
      out.call.placement.bundle = bundle;
    } else if (!node.empty()) {
      out.call.placement = Placement::on_node(node, soft);
    } else if (rank >= 0) {
      out.call.placement = Placement::on(static_cast<Rank>(rank), soft);
    } else if (spread) {
      out.call.placement = Placement::spread();
    }
    out.call.placement.labels = rules_of(labels);
    out.call.max_retries = max_retries;
    out.call.name = name;
    out.call.detached = detached;
    out.max_restarts = max_restarts;
    out.max_task_retries = max_task_retries;
    out.env_key = env_key;
    out.env = env;
    return compiled.emplace(std::move(out));
  }
};

template <class T>
void attribute(py::class_<Options>& type, const char* name, T Options::*member) {
  type.def_property(
      name, [member](const Options& self) { return self.*member; },
      [member](Options& self, T value) {
        self.*member = std::move(value);
        self.compiled.reset();
      });
}

}  // namespace

std::vector<LabelRule> rules_of(const PythonRules& tests) {
  std::vector<LabelRule> rules;
  for (const auto& [label, wanted, values] : tests) rules.push_back({label, values, wanted});
  return rules;
}

const CallerOptions* caller_options(py::handle object) {
  if (object.is_none()) return nullptr;
  return &object.cast<Options&>().compile();
}

py::object make_group(GroupHandle handle) { return py::cast(std::make_shared<Group>(std::move(handle), true)); }

py::object find_group(std::string_view text) {
  GroupHandle handle;
  const auto* end = text.data() + text.size();
  bool good = text.size() == 24;
  if (good) {
    const auto* split = text.data() + 8;
    good = std::from_chars(text.data(), split, handle.id.owner, 16).ptr == split &&
           std::from_chars(split, end, handle.id.index, 16).ptr == end && handle.id;
  }
  if (!good) throw py::value_error("a placement group's id is 24 hexadecimal digits, not '" + std::string(text) + "'");
  return py::cast(std::make_shared<Group>(std::move(handle), false));
}

void bind_options(py::module_& module) {
  py::class_<Group, std::shared_ptr<Group>>(module, "Group",
                                            "A placement group; removed when the last copy is gone, or by remove().")
      .def("ready", &Group::ready, "A reference that becomes ready when all bundles are reserved.")
      .def("remove", &Group::remove)
      .def_property_readonly("id", [](const Group& self) { return id_text(self.handle.id); });

  py::class_<Options> options(module, "Options",
                              "How a task or actor is placed and what happens when its process dies. All writable.");
  options.def(py::init<>());
  attribute(options, "num_cpus", &Options::num_cpus);
  attribute(options, "num_gpus", &Options::num_gpus);
  attribute(options, "memory", &Options::memory);
  attribute(options, "resources", &Options::resources);
  attribute(options, "spread", &Options::spread);
  attribute(options, "rank", &Options::rank);
  attribute(options, "node", &Options::node);
  attribute(options, "soft", &Options::soft);
  attribute(options, "labels", &Options::labels);
  attribute(options, "group", &Options::group);
  attribute(options, "bundle", &Options::bundle);
  attribute(options, "max_retries", &Options::max_retries);
  attribute(options, "name", &Options::name);
  attribute(options, "detached", &Options::detached);
  attribute(options, "max_restarts", &Options::max_restarts);
  attribute(options, "max_task_retries", &Options::max_task_retries);
  attribute(options, "env_key", &Options::env_key);
  attribute(options, "env", &Options::env);
}

}  // namespace trireme::python::bind
