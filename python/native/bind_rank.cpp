#include <pybind11/stl.h>

#include <memory>
#include <utility>

#include "core/launcher_watch.hpp"
#include "python/native/bind.hpp"
#include "python/native/rank_api.hpp"

namespace trireme::python::bind {

namespace {

struct RankCore : Core {
  RankCore() = default;
  RankCore(const RankCore&) = delete;
  RankCore& operator=(const RankCore&) = delete;
  ~RankCore() {
    if (unused) delete rank_api;
  }
  RankApi* rank_api = nullptr;
  /// Nothing that Python has points into its memory, so that it can be given back.
  bool unused = false;
};

std::unique_ptr<RankCore> make(unsigned threads, std::uint64_t arena_bytes, double gpus,
                               std::map<std::string, double> resources, std::map<std::string, std::string> labels,
                               int zygote_fd, int zygote_pid, int prestart) {
  RankOptions options;
  options.threads = threads;
  options.arena_bytes = arena_bytes;
  options.gpus = gpus;
  options.resources = std::move(resources);
  options.labels = std::move(labels);
  options.zygote_fd = zygote_fd;
  options.zygote_pid = zygote_pid;
  options.prestart = prestart;
  auto core = std::make_unique<RankCore>();
  {
    const Unlocked unlocked;
    core->rank_api = RankApi::create(options).release();
  }
  // Arrays that programs keep lie in its arena: what was in use at the end stays mapped until the process ends.
  core->api = std::shared_ptr<RankApi>(core->rank_api, [](RankApi*) {});
  core->local = true;
  set_the_api(core->api);
  return core;
}

py::list next_logs(RankCore& core) {
  std::vector<LogLine> lines;
  {
    const Unlocked unlocked;
    lines = core.rank_api->next_logs();
  }
  py::list list;
  for (const auto& line : lines) {
    // Programs write what they like.
    const auto decode = [](const std::string& text) {
      return py::reinterpret_steal<py::object>(
          PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
    };
    list.append(py::make_tuple(line.pid, line.stream, decode(line.label), decode(line.text)));
  }
  return list;
}

}  // namespace

void bind_rank(py::module_& module) {
  module.def("watch_launcher", &core::watch_launcher_for_good,
             "Ends this process when its launcher is gone, from now on. False: there is no launcher to see.");
  py::class_<RankCore, Core>(module, "RankCore", "The runtime in the process of a rank.")
      .def(py::init(&make), py::kw_only(), py::arg("threads") = 0, py::arg("arena_bytes") = 0, py::arg("gpus") = -1.0,
           py::arg("resources") = std::map<std::string, double>(),
           py::arg("labels") = std::map<std::string, std::string>(), py::arg("zygote_fd"), py::arg("zygote_pid"),
           py::arg("prestart") = -1, "Joins the job (collective).")
      .def("serve",
           [](RankCore& self) {
             const Unlocked unlocked;
             self.rank_api->serve(signals());
           })
      .def("stop",
           [](RankCore& self) {
             self.unused = live_objects() == 0;
             {
               const Unlocked unlocked;
               self.rank_api->stop();
             }
             set_the_api(nullptr);
           })
      .def("next_logs", &next_logs);
}

}  // namespace trireme::python::bind
