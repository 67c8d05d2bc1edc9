// Actors of one rank: calls between them, their birth and death, and what an idle one costs.
#include <atomic>

#include "benchmarks/cpp/common.hpp"

namespace {

using namespace trireme::bench;

struct Ponger {
  long pong(long left) { return left - 1; }
};

struct Pinger {
  void play(const trireme::Actor<Ponger>& peer, long rounds) {
    for (long left = rounds; left > 0;) left = trireme::get(peer.call<&Ponger::pong>(left));
  }
};

std::optional<double> ping_pong(const Arguments&) {
  const auto pong = trireme::spawn<Ponger>();
  const auto ping = trireme::spawn<Pinger>();
  return nanos_per_op(0.3,
                      [&](std::uint64_t n) { trireme::get(ping.call<&Pinger::play>(pong, static_cast<long>(n))); });
}

// The caller is a thread of the program instead of an actor.
std::optional<double> outside(const Arguments&) {
  const auto pong = trireme::spawn<Ponger>();
  return nanos_per_op(0.3, [&](std::uint64_t n) {
    for (long left = static_cast<long>(n); left > 0;) left = trireme::get(pong.call<&Ponger::pong>(left));
  });
}

struct Sink {
  std::uint64_t seen = 0;
  void take(long) { ++seen; }
  std::uint64_t count() const { return seen; }
};

struct Sender {
  void flood(const trireme::Actor<Sink>& sink, std::uint64_t messages) {
    for (std::uint64_t m = 0; m < messages; ++m) sink.call<&Sink::take>(static_cast<long>(m));
  }
};

std::optional<double> n_to_one(const Arguments& arguments) {
  const std::uint64_t senders = arguments.number("senders", 8);
  const std::uint64_t messages = arguments.number("messages", 100000);
  const double seconds = seconds_of([&] {
    const auto sink = trireme::spawn<Sink>();
    std::vector<trireme::Actor<Sender>> team;
    std::vector<trireme::Ref<trireme::detail::Nothing>> sent;
    for (std::uint64_t i = 0; i < senders; ++i) {
      team.push_back(trireme::spawn<Sender>());
      sent.push_back(team.back().call<&Sender::flood>(sink, messages));
    }
    for (const auto& ref : sent) trireme::get(ref);
    // All messages are in the sink's mailbox now, so this one comes after them.
    expect(trireme::get(sink.call<&Sink::count>()) == senders * messages, "messages that arrived");
  });
  return static_cast<double>(senders * messages) / seconds / 1e6;
}

std::atomic<long> living{0};
std::atomic<long> born{0};

struct Mayfly {
  Mayfly() { born.fetch_add(1, std::memory_order_relaxed); }
  ~Mayfly() {
    if (living.fetch_sub(1, std::memory_order_acq_rel) == 1) living.notify_all();  // pairs with await_deaths()
  }
  Mayfly(const Mayfly&) = delete;
  Mayfly& operator=(const Mayfly&) = delete;
  void hit(long) {}
  int answer() { return 1; }
};

void await_deaths() {
  for (long now = 0; (now = living.load(std::memory_order_acquire)) > 0;) living.wait(now);
}

std::optional<double> life(const Arguments&) {
  return nanos_per_op(0.3, [&](std::uint64_t n) {
    living = static_cast<long>(n);
    for (std::uint64_t i = 0; i < n; ++i) trireme::spawn<Mayfly>().call<&Mayfly::hit>(1L);
    await_deaths();
  });
}

// Made, called once each, the answers awaited; their end is not part of it.
std::optional<double> create(const Arguments& arguments) {
  const std::uint64_t count = arguments.number("count", 1000);
  std::vector<trireme::Actor<Mayfly>> actors;
  std::vector<trireme::Ref<int>> answers;
  actors.reserve(count);
  answers.reserve(count);
  double seconds = 0;
  for (int round = 0; round < 5; ++round) {  // the last one counts
    living = static_cast<long>(count);
    seconds = seconds_of([&] {
      for (std::uint64_t i = 0; i < count; ++i) {
        actors.push_back(trireme::spawn<Mayfly>());
        answers.push_back(actors.back().call<&Mayfly::answer>());
      }
      for (const auto& answer : answers) trireme::get(answer);
    });
    answers.clear();
    actors.clear();
    await_deaths();
  }
  return seconds * 1e6 / static_cast<double>(count);
}

std::optional<double> idle(const Arguments& arguments) {
  const std::uint64_t count = arguments.number("count", 1000000);
  std::vector<trireme::Actor<Mayfly>> actors(count);  // the handles' own memory is there before
  trireme::get(trireme::spawn<Mayfly>().call<&Mayfly::answer>());
  const double before = resident_bytes();
  living = static_cast<long>(count) + 1;
  born = 0;
  for (auto& actor : actors) actor = trireme::spawn<Mayfly>();
  trireme::get(actors.back().call<&Mayfly::answer>());
  for (const auto& actor : actors) {
    if (born.load(std::memory_order_relaxed) == static_cast<long>(count)) break;
    trireme::get(actor.call<&Mayfly::answer>());
  }
  return (resident_bytes() - before) / static_cast<double>(count);
}

}  // namespace

int main(int argc, char** argv) {
  trireme::Runtime runtime(argc, argv);
  Program program;
  program.add("ping_pong", "ns/round trip", ping_pong);
  program.add("outside", "ns/round trip", outside);
  program.add("n_to_one", "M messages/s", n_to_one);
  program.add("life", "ns/actor", life);
  program.add("create", "us/actor", create);
  program.add("idle", "bytes/actor", idle);
  return program.run(argc, argv);
}
