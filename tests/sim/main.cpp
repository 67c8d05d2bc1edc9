/// trireme_sim_tests [--seed N | --first N --count N] [--no-deaths] [--no-errands] [--no-visits]
///                   [--no-joins | --joins] [--no-chores] [--no-inquiries] [--verbose]
///
/// Runs the protocol of core over random programs on the simulated network, one program per seed. TRIREME_SIM_SEED does
/// what --seed does. A seed that fails is printed with its program; the exit status is 1.

#include <fmt/format.h>

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "core/message.hpp"
#include "tests/sim/driver.hpp"

namespace trireme::sim {
namespace {

/// Seeds that once failed, with what they found.
struct Regression {
  std::uint64_t seed;
  const char* what;
  Errands errands = Errands::none;
  Visits visits = Visits::none;
  Joins joins = Joins::none;
  Chores chores = Chores::none;
  Inquiries inquiries = Inquiries::none;
};
constexpr Regression kRegressions[] = {
    {16, "calls that ended with an error stayed in the table of pending calls"},
    {37, "the watch on a subscribed cell kept it when its result lay elsewhere"},
    {113, "tasks for a placement group that was removed never ended"},
    {262, "idle ranks passed one task on in circles"},
    {306, "a task that ran elsewhere kept its arguments: an actor that kept its result was never freed"},
    {622, "the giver's note arrived, the task was lost with the giver"},
    {1132, "a message that a timer sent to its own rank lay until the next event"},
    {1236, "as 622, with one death"},
    {12833, "a value came between the last handle's end and its count: the reference was never freed"},
    {241, "cancel() of a task that had run, its value not fetched yet, made it an error", Errands::by_seed},
    {269, "the owner of an actor died, and the actor's coroutine went on in an object that was gone", Errands::by_seed},
    {321, "who looked up an actor whose owner died meanwhile waited for ever", Errands::by_seed, Visits::by_seed},
    {3676, "calls that reached an actor's rank after its owner's death waited for ever", Errands::by_seed,
     Visits::by_seed},
    {1711, "a reference lent while its owner died was held for ever", Errands::by_seed},
    {361, "what was cancelled before a rank joined ran there", Errands::by_seed, Visits::none, Joins::always},
    {427, "as 361", Errands::by_seed, Visits::none, Joins::always},
    {523, "a task that was cancelled before a rank joined began there", Errands::by_seed, Visits::none, Joins::always},
    {832, "as 523", Errands::by_seed, Visits::none, Joins::always},
    {104047, "a placement group waited for ever: its owner took the rank that had room for full", Errands::by_seed,
     Visits::by_seed, Joins::by_seed, Chores::by_seed},
    {14150, "an errand that had just ended was looked for, and taken for one that never began", Errands::by_seed,
     Visits::by_seed, Joins::by_seed, Chores::by_seed, Inquiries::by_seed},
    {25626, "a chore that had ended was not here any more, and its outcome not yet on its way", Errands::by_seed,
     Visits::by_seed, Joins::by_seed, Chores::by_seed, Inquiries::by_seed},
    {33612, "a task that ran again after a death opened its actor again, as it must", Errands::by_seed, Visits::by_seed,
     Joins::by_seed, Chores::by_seed, Inquiries::by_seed},
};

char current_seed[64];

/// A broken invariant ends the process: its seed must be known.
void name_seed(int signal) {
  const auto ignored = write(STDERR_FILENO, current_seed, std::strlen(current_seed));
  (void)ignored;
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void print(std::uint64_t seed, const Verdict& verdict, bool all) {
  if (verdict.failures.empty() && !all) return;
  fmt::print("seed {}: {}\n", seed, verdict.world);
  for (const auto& line : verdict.shape) fmt::print("    {}\n", line);
  for (const auto& failure : verdict.failures) fmt::print("  FAILED: {}\n", failure);
  fmt::print("  messages by type: {}\n", verdict.traffic);
  fmt::print(
      "  {} events, {} frames, {} runs, {} calls, {} deaths, {} joins; again with: trireme_sim_tests --seed {}\n",
      verdict.events, verdict.frames, verdict.runs, verdict.calls, verdict.deaths, verdict.joins, seed);
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  std::uint64_t first = 1, count = 100;
  bool verbose = false, regressions = false;
  auto deaths = Deaths::by_seed;
  auto errands = Errands::by_seed;
  auto visits = Visits::by_seed;
  auto joins = Joins::by_seed;
  auto chores = Chores::by_seed;
  auto inquiries = Inquiries::by_seed;
  const auto one = [&](const char* text) {
    first = std::strtoull(text, nullptr, 10);
    count = 1;
    verbose = true;
  };
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const auto value = [&] { return ++i < argc ? argv[i] : "1"; };
    if (arg == "--seed")
      one(value());
    else if (arg == "--first")
      first = std::strtoull(value(), nullptr, 10);
    else if (arg == "--count")
      count = std::strtoull(value(), nullptr, 10);
    else if (arg == "--no-deaths")
      deaths = Deaths::none;
    else if (arg == "--no-errands")
      errands = Errands::none;
    else if (arg == "--no-visits")
      visits = Visits::none;
    else if (arg == "--no-joins")
      joins = Joins::none;
    else if (arg == "--joins")
      joins = Joins::always;
    else if (arg == "--no-chores")
      chores = Chores::none;
    else if (arg == "--no-inquiries")
      inquiries = Inquiries::none;
    else if (arg == "--regressions")
      regressions = true;
    else if (arg == "--verbose")
      verbose = true;
    else {
      fmt::print(stderr,
                 "unknown argument {}; there are --seed N, --first N, --count N, --no-deaths, --no-errands, "
                 "--no-visits, --no-joins, --joins, --no-chores, --no-inquiries, --regressions, --verbose\n",
                 arg);
      return 2;
    }
  }
  if (const char* seed = std::getenv("TRIREME_SIM_SEED"); seed != nullptr) one(seed);
  std::signal(SIGABRT, name_seed);
  std::signal(SIGSEGV, name_seed);
  std::uint64_t failed = 0, events = 0, runs = 0, calls = 0, died = 0, joined = 0;
  Cancels cancels;
  decltype(Verdict::messages) messages{};
  const auto each = [&](std::uint64_t seed, Errands errands, Visits visits, Joins joins, Chores chores,
                        Inquiries inquiries) {
    std::snprintf(current_seed, sizeof current_seed, "crashed: trireme_sim_tests --seed %llu\n",
                  static_cast<unsigned long long>(seed));
    const auto verdict = run_seed(seed, deaths, errands, visits, joins, chores, inquiries);
    print(seed, verdict, verbose);
    failed += verdict.failures.empty() ? 0 : 1;
    events += verdict.events;
    runs += verdict.runs;
    calls += verdict.calls;
    died += verdict.deaths;
    for (std::size_t type = 0; type < messages.size(); ++type) messages[type] += verdict.messages[type];
    joined += verdict.joins;
    cancels.never_began += verdict.cancels.never_began;
    cancels.interrupted += verdict.cancels.interrupted;
    cancels.value += verdict.cancels.value;
  };
  if (regressions) {
    for (const auto& known : kRegressions)
      each(known.seed, known.errands, known.visits, known.joins, known.chores, known.inquiries);
  } else {
    for (std::uint64_t seed = first; seed < first + count; ++seed)
      each(seed, errands, visits, joins, chores, inquiries);
  }
  fmt::print("{} seeds failed; {} events, {} runs of tasks and calls, {} of them calls in order, {} deaths, {} joins\n",
             failed, events, runs, calls, died, joined);
  fmt::print("of what was cancelled, {} never began, {} were interrupted, {} ended all the same\n", cancels.never_began,
             cancels.interrupted, cancels.value);
  // That many programs leave no message of the protocol out.
  constexpr std::uint64_t kEnough = 500;
  if (count >= kEnough && errands == Errands::by_seed && visits == Visits::by_seed) {
    for (const auto type : core::message_types()) {
      if (messages.at(static_cast<std::size_t>(type)) != 0) continue;
      fmt::print("FAILED: no program of these seeds sends a message of type {}: extend the programs\n",
                 static_cast<int>(type));
      ++failed;
    }
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace trireme::sim

int main(int argc, char** argv) { return trireme::sim::run(argc, argv); }
