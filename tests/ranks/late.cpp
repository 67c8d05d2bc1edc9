// Ranks that take seats of a job that runs: two ranks at the start, two seats (TRIREME_LOCAL_SEATS), a node for each.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <span>
#include <string>
#include <trireme/trireme.hpp>
#include <vector>

extern char** environ;

namespace {

using trireme::Rank;

int failed = 0;

void expect(bool holds, const std::string& what) {
  std::printf("%s: %s\n", holds ? "ok" : "FAILED", what.c_str());
  std::fflush(stdout);
  if (!holds) failed = 1;
}

/// Another process of this program, as that rank.
pid_t start_late(Rank rank, const char* program) {
  const std::string set[] = {"TRIREME_LOCAL_RANK=" + std::to_string(rank),
                             "TRIREME_NODE_ID=late" + std::to_string(rank), "TRIREME_RESOURCES=late=2"};
  std::vector<std::string> kept(std::begin(set), std::end(set));
  for (char** at = environ; *at != nullptr; ++at) {
    const std::string variable = *at;
    const auto name = variable.substr(0, variable.find('='));
    bool replaced = false;
    for (const auto& mine : set) replaced = replaced || mine.rfind(name + "=", 0) == 0;
    if (!replaced) kept.push_back(variable);
  }
  std::vector<char*> environment;
  for (auto& variable : kept) environment.push_back(variable.data());
  environment.push_back(nullptr);
  std::string name = program;
  char* arguments[] = {name.data(), nullptr};
  pid_t pid = 0;
  if (posix_spawn(&pid, "/proc/self/exe", nullptr, nullptr, arguments, environment.data()) != 0) std::abort();
  return pid;
}

Rank where() { return trireme::this_rank(); }
double sum(const trireme::Array<double>& values) { return std::accumulate(values.begin(), values.end(), 0.0); }
/// Gone like a machine.
int die() {
  std::raise(SIGKILL);
  return 0;
}

class Counter {
 public:
  int next() { return ++count_; }
  Rank where() const { return trireme::this_rank(); }

 private:
  int count_ = 0;
};

/// On a rank that is neither 0 nor late.
Rank through(trireme::Actor<Counter> counter) {
  trireme::get(counter.call<&Counter::next>());
  return trireme::get(counter.call<&Counter::where>());
}

trireme::TaskOptions late() {
  trireme::TaskOptions options;
  options.resources.custom["late"] = 1;
  options.max_retries = 0;
  return options;
}

void check(const char* program) {
  expect(trireme::rank_count() == 4, "seats count");
  expect(trireme::rank_alive(1) && !trireme::rank_alive(2) && !trireme::rank_alive(3), "an empty seat is not alive");
  const std::vector<double> ones(500'000, 1.0);
  const auto array = trireme::put(trireme::Array<double>(std::span(ones)));
  const auto waiting = trireme::submit_with<&where>(late());
  const auto pulled = trireme::submit_with<&sum>(late(), array);
  trireme::ActorOptions there;
  there.resources.custom["late"] = 1;
  auto counter = trireme::spawn_with<Counter>(there);
  const auto first = counter.call<&Counter::next>();
  expect(!waiting.ready() && !first.ready(), "what fits no rank waits");

  const auto two = start_late(2, program);
  expect(trireme::get(first) == 1, "an actor that waited runs");
  expect(trireme::get(waiting) == 2, "a task that waited ran on the rank that joined");
  expect(trireme::get(pulled) == 500'000, "an array goes there");
  expect(trireme::rank_alive(2), "it is alive");
  trireme::TaskOptions beside;
  beside.placement = trireme::Placement::on(1);
  expect(trireme::get(trireme::submit_with<&through>(beside, counter)) == 2, "another rank calls an actor there");

  try {
    trireme::get(trireme::submit_with<&die>(late()));
    expect(false, "a task whose rank dies gives a value");
  } catch (const trireme::Exception& error) {
    expect(error.code() == trireme::Errc::worker_lost, std::string("its rank died: ") + error.what());
  }
  waitpid(two, nullptr, 0);
  expect(!trireme::rank_alive(2), "it is dead for the others");
  try {
    trireme::get(counter.call<&Counter::next>());
    expect(false, "an actor outlives its rank");
  } catch (const trireme::Exception& error) {
    expect(error.code() == trireme::Errc::actor_died, std::string("so is its actor: ") + error.what());
  }

  const auto again = trireme::submit_with<&where>(late());
  // A seat is used once.
  int status = 0;
  waitpid(start_late(2, program), &status, 0);
  expect(WIFEXITED(status) && WEXITSTATUS(status) != 0, "a seat that was taken stays taken");
  expect(!again.ready(), "what needs a late rank waits again");
  start_late(3, program);
  expect(trireme::get(again) == 3, "the next seat is taken");
}

}  // namespace

int main(int argc, char** argv) try {
  trireme::Runtime runtime(argc, argv);
  check(argv[0]);
  return failed;
} catch (const trireme::Exception& error) {
  std::fprintf(stderr, "late: %s\n", error.what());
  return 1;
}
