#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "base/clock.hpp"
#include "python/native/bind.hpp"

namespace trireme::python::bind {

Nanos deadline_of(py::handle timeout) {
  if (timeout.is_none()) return kForever;
  const double seconds = PyFloat_AsDouble(timeout.ptr());
  if (seconds == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
  if (std::isnan(seconds)) throw py::value_error("a timeout is a number of seconds or None; this is NaN");
  if (seconds >= 1e9) return kForever;
  return SystemClock::read() + static_cast<Nanos>(std::max(seconds, 0.0) * 1e9);
}

namespace {

/// One task or call: what CallSource points to.
struct Call {
  Call(py::handle meta_object, py::handle data, py::handle buffers, py::handle refs, std::uint32_t deps,
       std::uint32_t returns, py::handle name, std::int64_t streaming)
      : meta(meta_object.ptr()), args(data, buffers, refs) {
    source.meta = meta.view();
    source.args = args.get();
    if (deps > source.args.refs.size()) throw py::value_error("deps counts more references than there are");
    if (returns == 0 || returns > UINT16_MAX) throw py::value_error("returns is at least 1 and at most 65535");
    source.deps = deps;
    source.returns = returns;
    source.name = text_of(name.ptr());
    source.streaming = streaming;
  }
  Contents meta;
  Source args;
  CallSource source;
};

py::list submit(Core& core, py::handle meta, py::handle data, py::handle buffers, py::handle refs, std::uint32_t deps,
                std::uint32_t returns, py::handle options, py::handle name, std::int64_t streaming) {
  const Call call(meta, data, buffers, refs, deps, returns, name, streaming);
  const auto* placed = caller_options(options);
  std::vector<RefPtr> results;
  {
    const Unlocked unlocked(call.args.large());
    results = core.api->submit(call.source, placed);
  }
  return to_python(std::move(results));
}

py::object create_actor(Core& core, py::handle meta, py::handle data, py::handle buffers, py::handle refs,
                        std::uint32_t deps, py::handle options, py::handle name) {
  const Call call(meta, data, buffers, refs, deps, 1, name, -1);
  const auto* placed = caller_options(options);
  if (placed == nullptr) throw py::type_error("create_actor needs options");
  const CallerOptions copy = *placed;  // somebody else may change them meanwhile
  RefPtr actor;
  {
    const Unlocked unlocked;
    actor = core.api->create_actor(call.source, copy, signals());
  }
  return to_python(std::move(actor));
}

py::list call_actor(Core& core, py::handle actor, py::handle meta, py::handle data, py::handle buffers, py::handle refs,
                    std::uint32_t deps, std::uint32_t returns, py::handle name, std::int64_t streaming) {
  const Call call(meta, data, buffers, refs, deps, returns, name, streaming);
  const auto& target = reference(actor);
  std::vector<RefPtr> results;
  {
    const Unlocked unlocked(call.args.large());
    results = core.api->call(target, call.source);
  }
  return to_python(std::move(results));
}

py::object put(Core& core, py::handle data, py::handle buffers, py::handle refs) {
  const Source source(data, buffers, refs);
  RefPtr ref;
  {
    const Unlocked unlocked(source.large());
    ref = core.api->put(source.get(), signals());
  }
  return to_python(std::move(ref));
}

py::list get(Core& core, py::handle sequence, py::handle timeout) {
  const auto refs = references(sequence);
  const auto deadline = deadline_of(timeout);
  const bool ready =
      core.local && std::all_of(refs.begin(), refs.end(), [](const RefPtr& ref) { return ref->ready(); });
  std::vector<Got> got;
  {
    const Unlocked unlocked(!ready);
    got = core.api->get(refs, deadline, signals());
  }
  py::list list(got.size());
  for (std::size_t i = 0; i < got.size(); ++i)
    PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i), to_python(std::move(got[i])).release().ptr());
  return list;
}

py::list wait(Core& core, py::handle sequence, std::size_t count, py::handle timeout) {
  const auto refs = references(sequence);
  const auto deadline = deadline_of(timeout);
  std::vector<bool> ready;
  {
    const Unlocked unlocked;
    ready = core.api->wait(refs, count, deadline, signals());
  }
  py::list list(ready.size());
  for (std::size_t i = 0; i < ready.size(); ++i)
    PyList_SET_ITEM(list.ptr(), static_cast<Py_ssize_t>(i), PyBool_FromLong(ready[i] ? 1 : 0));
  return list;
}

GroupStrategy strategy_of(std::string_view name) {
  if (name == "PACK") return GroupStrategy::pack;
  if (name == "SPREAD") return GroupStrategy::spread;
  if (name == "STRICT_PACK") return GroupStrategy::strict_pack;
  if (name == "STRICT_SPREAD") return GroupStrategy::strict_spread;
  throw py::value_error("a placement group's strategy is PACK, SPREAD, STRICT_PACK or STRICT_SPREAD, not " +
                        std::string(name));
}

/// (label, wanted, values) of each condition.
using PythonLabels = std::vector<PythonRules>;

py::object create_group(Core& core, py::handle strategy, const std::vector<std::map<std::string, double>>& bundles,
                        const PythonLabels& conditions) {
  const auto chosen = strategy_of(text_of(strategy.ptr()));
  std::vector<Resources> resources;
  for (const auto& bundle : bundles) {
    auto& each = resources.emplace_back();
    each.cpus = 0;
    for (const auto& [name, amount] : bundle) {
      if (name == "CPU")
        each.cpus = amount;
      else if (name == "GPU")
        each.gpus = amount;
      else if (name == "memory")
        each.memory = static_cast<std::uint64_t>(amount);
      else
        each.custom[name] = amount;
    }
  }
  GroupLabels labels;
  for (const auto& of_bundle : conditions) labels.push_back(rules_of(of_bundle));
  GroupHandle handle;
  {
    const Unlocked unlocked;
    handle = core.api->create_group(chosen, resources, labels, signals());
  }
  return make_group(std::move(handle));
}

py::object imported(Core& core, Rank rank, py::handle key) {
  const Contents name(key.ptr());
  Bytes blob;
  {
    const Unlocked unlocked;
    blob = core.api->imported(rank, name.view(), signals());
  }
  return py::bytes(reinterpret_cast<const char*>(blob.data()), blob.size());
}

template <std::string (Api::*Ask)(const Api::Check&)>
py::object told(Core& core) {
  std::string text;
  {
    const Unlocked unlocked;
    text = ((*core.api).*Ask)(signals());
  }
  return py::module_::import("json").attr("loads")(text);
}

}  // namespace

void bind_core(py::module_& module) {
  py::class_<Core>(module, "_Core")
      .def_property_readonly("rank", [](const Core& self) { return self.api->rank(); })
      .def_property_readonly("size", [](const Core& self) { return self.api->size(); })
      .def("submit", &submit, py::arg("meta"), py::arg("data"), py::arg("buffers"), py::arg("refs"), py::arg("deps"),
           py::arg("returns"), py::arg("options"), py::arg("name"), py::arg("streaming") = -1)
      .def("create_actor", &create_actor, py::arg("meta"), py::arg("data"), py::arg("buffers"), py::arg("refs"),
           py::arg("deps"), py::arg("options"), py::arg("name"))
      .def("call", &call_actor, py::arg("actor"), py::arg("meta"), py::arg("data"), py::arg("buffers"), py::arg("refs"),
           py::arg("deps"), py::arg("returns"), py::arg("name"), py::arg("streaming") = -1)
      .def("put", &put, py::arg("data"), py::arg("buffers"), py::arg("refs"))
      .def("get", &get, py::arg("refs"), py::arg("timeout"))
      .def("wait", &wait, py::arg("refs"), py::arg("count"), py::arg("timeout"))
      .def(
          "watch", [](Core& self, py::handle ref, std::uint64_t token) { self.api->watch(reference(ref), token); },
          py::arg("ref"), py::arg("token"))
      .def("next_watched",
           [](Core& self) {
             const Unlocked unlocked;
             return self.api->next_watched(signals());
           })
      .def(
          "stream_next",
          [](Core& self, py::handle stream) { return to_python(self.api->stream_next(reference(stream))); },
          py::arg("stream"))
      .def(
          "kill",
          [](Core& self, py::handle actor, bool no_restart) {
            const auto ref = reference(actor);
            const Unlocked unlocked;
            self.api->kill(ref, no_restart);
          },
          py::arg("actor"), py::arg("no_restart"))
      .def(
          "find_actor",
          [](Core& self, const std::string& name) {
            RefPtr actor;
            {
              const Unlocked unlocked;
              actor = self.api->find_actor(name, signals());
            }
            return to_python(std::move(actor));
          },
          py::arg("name"))
      .def(
          "cancel",
          [](Core& self, py::handle object, bool force, bool recursive) {
            const auto ref = reference(object);
            const Unlocked unlocked;
            self.api->cancel(ref, force, recursive);
          },
          py::arg("ref"), py::arg("force"), py::arg("recursive"))
      .def(
          "actor_rank",
          [](Core& self, py::handle actor) {
            const auto ref = reference(actor);
            const Unlocked unlocked;
            return self.api->actor_rank(ref, signals());
          },
          py::arg("actor"))
      .def(
          "identify",
          [](Core& self, py::handle object) {
            const auto ref = reference(object);
            ObjectId id;
            {
              const Unlocked unlocked;
              id = self.api->identify(ref, signals());
            }
            return py::make_tuple(id.owner, id.index);
          },
          py::arg("ref"))
      .def(
          "export",
          [](Core& self, py::handle key, py::handle blob) {
            const Contents name(key.ptr());
            const Contents bytes(blob.ptr());
            const Unlocked unlocked;
            self.api->export_blob(name.view(), bytes.view());
          },
          py::arg("key"), py::arg("blob"))
      .def("imported", &imported, py::arg("rank"), py::arg("key"))
      .def("create_group", &create_group, py::arg("strategy"), py::arg("bundles"), py::arg("labels") = PythonLabels())
      .def(
          "group", [](Core&, py::handle id) { return find_group(text_of(id.ptr())); }, py::arg("id"))
      .def("ranks", &told<&Api::ranks>)
      .def("objects", &told<&Api::objects>);
}

}  // namespace trireme::python::bind
