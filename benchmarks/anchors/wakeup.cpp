// What it costs to wake someone: round trips between two threads or two processes, by futex, eventfd, pipe, and
// (for the time when nobody sleeps) a spinning flag.
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>

#include "benchmarks/harness/harness.hpp"
#include "benchmarks/harness/process.hpp"

namespace {

using trireme::bench::Arguments;

// Two bells, one a direction. ring(i) wakes the one that waits at bell i; a bell is rung and awaited in turn.

struct Futex {
  struct alignas(64) Word {
    std::atomic<std::uint32_t> rung{0};
    std::uint32_t seen = 0;  // touched only by the one that waits here
  };
  Word words[2];

  void ring(int i) {
    words[i].rung.fetch_add(1, std::memory_order_release);  // pairs with the load in wait()
    syscall(SYS_futex, &words[i].rung, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  }
  void wait(int i) {
    Word& word = words[i];
    while (word.rung.load(std::memory_order_acquire) == word.seen) {  // pairs with fetch_add in ring()
      syscall(SYS_futex, &word.rung, FUTEX_WAIT, word.seen, nullptr, nullptr, 0);
    }
    ++word.seen;
  }
};

struct Spin {
  Futex::Word words[2];

  void ring(int i) { words[i].rung.fetch_add(1, std::memory_order_release); }  // pairs with the load in wait()
  void wait(int i) {
    while (words[i].rung.load(std::memory_order_acquire) == words[i].seen) {  // pairs with fetch_add in ring()
    }
    ++words[i].seen;
  }
};

void must(bool ok, const char* what) {
  if (ok) return;
  std::perror(what);
  std::exit(1);
}

struct Eventfd {
  int fds[2] = {eventfd(0, 0), eventfd(0, 0)};

  void ring(int i) {
    const std::uint64_t one = 1;
    must(write(fds[i], &one, sizeof one) == sizeof one, "write eventfd");
  }
  void wait(int i) {
    std::uint64_t count = 0;
    must(read(fds[i], &count, sizeof count) == sizeof count, "read eventfd");
  }
};

struct Pipe {
  int fds[2][2];

  Pipe() {
    for (auto& pair : fds) must(pipe(pair) == 0, "pipe");
  }
  void ring(int i) { must(write(fds[i][1], "x", 1) == 1, "write pipe"); }
  void wait(int i) {
    char byte = 0;
    must(read(fds[i][0], &byte, 1) == 1, "read pipe");
  }
};

/// Nanoseconds a round trip. `how` is threads or processes; pin=1 puts the two on a core each, pin=2 both on one.
template <typename Bells>
std::optional<double> round_trip(const Arguments& arguments) {
  const bool processes = arguments.text("how", "threads") == "processes";
  const std::uint64_t pin = arguments.number("pin", 1);
  const std::uint64_t rounds = arguments.number("rounds", 5000);
  auto* bells = new (trireme::bench::shared_memory(sizeof(Bells))) Bells;

  double seconds = 0;
  const auto asking = [&] {
    if (pin != 0) trireme::bench::pin_to_core(0);
    const auto rounds_of = [&](std::uint64_t n) {
      for (std::uint64_t i = 0; i < n; ++i) {
        bells->ring(0);
        bells->wait(1);
      }
    };
    rounds_of(rounds / 10);
    seconds = trireme::bench::seconds_of([&] { rounds_of(rounds); });
  };
  const auto answering = [&] {
    if (pin != 0) trireme::bench::pin_to_core(pin == 2 ? 0 : 1);
    for (std::uint64_t i = 0; i < rounds + rounds / 10; ++i) {
      bells->wait(0);
      bells->ring(1);
    }
  };
  if (processes) {
    trireme::bench::run_pair(asking, answering);
  } else {
    std::thread other(answering);
    asking();
    other.join();
  }
  return seconds / static_cast<double>(rounds) * 1e9;
}

}  // namespace

int main(int argc, char** argv) {
  trireme::bench::Program program;
  program.add("futex", "ns/round trip", round_trip<Futex>);
  program.add("eventfd", "ns/round trip", round_trip<Eventfd>);
  program.add("pipe", "ns/round trip", round_trip<Pipe>);
  program.add("spin", "ns/round trip", round_trip<Spin>);
  return program.run(argc, argv);
}
