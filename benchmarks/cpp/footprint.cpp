// What a rank costs that has nothing to do. With several ranks: the costliest of them.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <thread>

#include "benchmarks/cpp/common.hpp"

namespace {

using namespace trireme::bench;

double resident() { return resident_bytes() / 1e6; }

// Of anonymous memory alone: what is not code and data of libraries that other processes map too.
double anonymous() { return process_status("RssAnon") * 1024 / 1e6; }

double threads() { return process_status("Threads"); }

double cpu_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

template <double (*F)()>
std::vector<double> of_all_ranks() {
  std::vector<trireme::Ref<double>> answers;
  for (trireme::Rank r = 0; r < trireme::rank_count(); ++r) answers.push_back(trireme::submit_with<F>(on_rank(r)));
  return trireme::get(answers);
}

template <double (*F)()>
std::optional<double> largest(const Arguments&) {
  of_all_ranks<F>();
  return std::ranges::max(of_all_ranks<F>());
}

std::optional<double> idle_cpu(const Arguments& arguments) {
  const double seconds = static_cast<double>(arguments.number("milliseconds", 2000)) / 1e3;
  of_all_ranks<&cpu_seconds>();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // until every thread has stopped to look for work
  const auto before = of_all_ranks<&cpu_seconds>();
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  const auto after = of_all_ranks<&cpu_seconds>();
  double most = 0;
  for (std::size_t r = 0; r < before.size(); ++r) most = std::max(most, after[r] - before[r]);
  return 100 * most / seconds;
}

}  // namespace

int main(int argc, char** argv) {
  trireme::Runtime runtime(argc, argv);
  Program program;
  program.add("resident", "MB", largest<&resident>);
  program.add("anonymous", "MB", largest<&anonymous>);
  program.add("threads", "threads", largest<&threads>);
  program.add("cpu", "% of a core", idle_cpu);
  return program.run(argc, argv);
}
