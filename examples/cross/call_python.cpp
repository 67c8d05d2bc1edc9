// A C++ program that calls a Python function and an actor (statistics_of.py):
//
//     PYTHONPATH=examples/cross build/release/examples/cross/call_python
#include <trireme/python.hpp>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

namespace py = trireme::python;

int main(int argc, char** argv) {
  py::Runtime rt(argc, argv);  // rank 0 returns, the others serve until it ends

  auto log = rt.actor("statistics_of:Log", "waves");
  std::vector<py::PyRef<py::Value>> summaries;
  for (int wave = 1; wave <= 4; ++wave) {
    py::NdArray<double> samples({100'000});
    auto out = samples.writable();
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = wave + std::sin(static_cast<double>(i * wave));
    summaries.push_back(rt.call<py::Value>("statistics_of:summary", samples));
    log.call<long>("add", summaries.back());  // a reference as argument
  }

  for (const auto& summary : summaries) {
    const auto value = summary.get();
    for (const auto& [key, item] : *value.get_if<py::Value::Dict>())
      if (const auto* number = item.get_if<double>())
        std::printf("%s %.3f  ", key.get_if<std::string>()->c_str(), *number);
    std::printf("\n");
  }
  const auto report = log.call<std::string>("report").get();
  std::printf("%s\n", report.c_str());
  return report == "waves: 4 summaries, mean of means 2.500" ? 0 : 1;
}
