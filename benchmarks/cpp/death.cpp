// kill -9 of the rank that runs a call: how long until its caller is told.
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

#include "benchmarks/cpp/common.hpp"

namespace {

using namespace trireme::bench;

struct Victim {
  long process() { return getpid(); }
  int forever() {
    for (;;) pause();
  }
};

std::optional<double> caller(const Arguments&) {
  expect(trireme::rank_count() > 1, "two ranks are needed: mpirun --enable-recovery -n 2");
  const auto victim = trireme::spawn_with<Victim>(actor_on_rank(1));
  const auto process = static_cast<pid_t>(trireme::get(victim.call<&Victim::process>()));
  const auto never = victim.call<&Victim::forever>();
  std::this_thread::sleep_for(std::chrono::milliseconds(100));  // it runs, and this rank has gone to sleep
  bool told = false;
  const double seconds = seconds_of([&] {
    kill(process, SIGKILL);
    try {
      trireme::get(never);
    } catch (const trireme::Exception&) {
      told = true;
    }
  });
  expect(told, "the call of a dead rank returned");
  return seconds * 1e3;
}

}  // namespace

int main(int argc, char** argv) {
  trireme::Runtime runtime(argc, argv);
  Program program;
  program.add("caller", "ms", caller);
  return program.run(argc, argv);
}
