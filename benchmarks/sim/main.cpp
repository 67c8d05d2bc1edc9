#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <string>

#include <fmt/format.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "placement_sim.hpp"
#include "steal_sim.hpp"

using namespace trireme;
using namespace trireme::sim;

namespace {

using Json = nlohmann::ordered_json;

Json steal_figures(const StealSetup& setup) {
  const auto out = simulate_steal(setup);
  const auto tasks = static_cast<double>(out.tasks);
  return {
      {"tasks", out.tasks},
      {"efficiency", out.efficiency},
      {"makespan_ms", static_cast<double>(out.makespan) / 1e6},
      {"first_task_on_95_percent_ms", static_cast<double>(out.all_started) / 1e6},
      {"messages", out.messages},
      {"messages_per_task", static_cast<double>(out.messages - out.messages_before) / tasks},
      {"messages_per_rank", static_cast<double>(out.messages - out.messages_before) / setup.machine.ranks},
      {"messages_before_work", out.messages_before},
      {"messages_after_work", out.messages_after},
      {"quiet_after_ms", static_cast<double>(out.quiet_after) / 1e6},
      {"bytes", out.bytes},
      {"steals_ok", out.stats.gifts_received - out.stats.pushes_sent},
      {"steals_failed", out.stats.empties_received},
      {"registrations", out.stats.registrations_sent},
      {"pushes", out.stats.pushes_sent},
      {"offers", out.stats.offers_sent},
      {"moves_per_task", static_cast<double>(out.stats.tasks_given) / tasks},
      {"message_cpu_share", out.cpu_in_messages},
      {"events", out.events},
  };
}

Json placement_figures(const PlacementSetup& setup) {
  const auto out = simulate_placement(setup);
  const auto tasks = static_cast<double>(out.tasks);
  return {
      {"tasks", out.tasks},
      {"efficiency", out.efficiency},
      {"makespan_ms", static_cast<double>(out.makespan) / 1e6},
      {"messages", out.messages},
      {"messages_per_task", static_cast<double>(out.messages) / tasks},
      {"messages_after_work", out.messages_after},
      {"bytes", out.bytes},
      {"bounces_per_task", static_cast<double>(out.bounces) / tasks},
      {"queued_per_task", static_cast<double>(out.queued) / tasks},
      {"events", out.events},
  };
}

}  // namespace

int main(int argc, char** argv) {
  StealSetup setup;
  PlacementSetup placement;
  std::string name = "bag";
  auto& machine = setup.machine;
  auto& workload = setup.workload;
  double task_ms = 10, latency_node_us = 0.5, latency_switch_us = 1.5, latency_far_us = 3, handle_us = 1, poll_us = 0;
  double start_after_ms = 1;
  std::string json_file;

  CLI::App app{"Simulates work stealing and placement of Trireme on a virtual machine"};
  app.option_defaults()->always_capture_default();
  const std::map<std::string, Shape> shapes{
      {"bag", Shape::bag}, {"tree", Shape::tree}, {"uts", Shape::uts}, {"ramp", Shape::ramp}};
  app.add_option("--ranks", machine.ranks, "ranks of the job")->check(CLI::Range(1, 1'000'000));
  app.add_option("--cores", machine.cores, "cores per rank")->check(CLI::Range(1, 1024));
  app.add_option("--workload", name,
                 "bag, tree, uts or ramp: stolen; placement: tasks of {GPU: 1}, placed by their submitters")
      ->check(CLI::IsMember({"bag", "tree", "uts", "ramp", "placement"}));
  app.add_option("--submitters", placement.submitters, "of placement; at most --ranks")->check(CLI::PositiveNumber);
  app.add_option("--outstanding", placement.outstanding, "of placement: tasks under way per GPU")
      ->check(CLI::PositiveNumber);
  app.add_option("--tasks-per-core", workload.tasks_per_core)->check(CLI::Range(1, 1'000'000));
  app.add_option("--task-ms", task_ms)->check(CLI::PositiveNumber);
  app.add_option("--spread", workload.spread, "task lengths vary by this share")->check(CLI::Range(0.0, 1.0));
  app.add_option("--skew", workload.skew, "of ramp")->check(CLI::Range(0.0, 1.0));
  app.add_option("--task-bytes", workload.task_bytes, "of a queued task on the wire");
  app.add_option("--ranks-per-node", machine.ranks_per_node)->check(CLI::PositiveNumber);
  app.add_option("--nodes-per-switch", machine.nodes_per_switch)->check(CLI::PositiveNumber);
  app.add_option("--latency-node-us", latency_node_us)->check(CLI::NonNegativeNumber);
  app.add_option("--latency-switch-us", latency_switch_us)->check(CLI::NonNegativeNumber);
  app.add_option("--latency-far-us", latency_far_us)->check(CLI::NonNegativeNumber);
  app.add_option("--gbytes-per-s", machine.bytes_per_ns, "out of one rank")->check(CLI::PositiveNumber);
  app.add_option("--handle-us", handle_us, "receiver's CPU time per message")->check(CLI::NonNegativeNumber);
  app.add_option("--poll-busy-us", poll_us, "a rank whose cores all compute looks at messages this often; 0: at once")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--start-after-ms", start_after_ms, "idle time before the work appears")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--near-tries", setup.options.near_tries);
  app.add_option("--far-tries", setup.options.far_tries);
  app.add_option("--give-max", setup.options.give_max);
  app.add_flag("--all-idle", setup.hungry_when_all_idle, "a rank asks only when none of its cores has work");
  app.add_option("--seed", setup.seed);
  app.add_option("--json", json_file, "writes the figures there; - is standard output");
  // Few ranks with nothing said about submitters: all of them submit.
  auto* submitters = app.get_option("--submitters");
  try {
    app.parse(argc, argv);
    if (submitters->count() == 0) placement.submitters = std::min(placement.submitters, machine.ranks);
    if (placement.submitters > machine.ranks)
      throw CLI::ValidationError("--submitters", fmt::format("asked {} of a job of {} ranks: give at most --ranks",
                                                             placement.submitters, machine.ranks));
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }

  const auto nanos = [](double value, Nanos unit) { return static_cast<Nanos>(value * static_cast<double>(unit)); };
  workload.task = nanos(task_ms, kMillisecond);
  machine.latency_node = nanos(latency_node_us, kMicrosecond);
  machine.latency_switch = nanos(latency_switch_us, kMicrosecond);
  machine.latency_far = nanos(latency_far_us, kMicrosecond);
  machine.handle = nanos(handle_us, kMicrosecond);
  machine.poll_busy = nanos(poll_us, kMicrosecond);
  setup.start_after = nanos(start_after_ms, kMillisecond);

  const auto begin = std::chrono::steady_clock::now();
  Json figures;
  if (name == "placement") {
    placement.machine = machine;
    placement.tasks_per_gpu = workload.tasks_per_core;
    placement.task = workload.task;
    placement.spread = workload.spread;
    placement.task_bytes = workload.task_bytes;
    placement.seed = setup.seed;
    figures = placement_figures(placement);
  } else {
    workload.shape = shapes.at(name);
    figures = steal_figures(setup);
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);

  Json result = {{"workload", name},
                 {"ranks", machine.ranks},
                 {"cores", machine.cores},
                 {"task_ms", task_ms},
                 {"seed", setup.seed}};
  result.update(figures);
  result["seconds"] = seconds;
  result["memory_mb"] = usage.ru_maxrss / 1024;
  if (json_file == "-") {
    fmt::print("{}\n", result.dump());
    return 0;
  }
  for (const auto& [key, value] : result.items()) fmt::print("{:<28} {}\n", key, value.dump());
  if (!json_file.empty()) {
    std::FILE* file = std::fopen(json_file.c_str(), "w");
    if (file == nullptr) {
      fmt::print(stderr, "cannot write {}\n", json_file);
      return 1;
    }
    fmt::print(file, "{}\n", result.dump(2));
    std::fclose(file);
  }
  return 0;
}
