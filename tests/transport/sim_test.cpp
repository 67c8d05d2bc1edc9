#include <doctest/doctest.h>

#include <string>

#include "tests/transport/support.hpp"
#include "transport/router.hpp"
#include "transport/sim/network.hpp"

namespace trireme::transport::testing {
namespace {

/// Ranks that are polled when woken, as a simulation drives them.
struct Driven {
  explicit Driven(SimOptions options) : network(options), handlers(options.ranks) {
    for (Rank r = 0; r < options.ranks; ++r) {
      routers.push_back(std::make_unique<Router>(r, options.ranks));
      routers[r]->add_default_backend(network.make_backend(r));
      network.on_wake(r, [this, r] { routers[r]->poll(handlers[r]); });
    }
  }
  void send(Rank from, Rank to, BytesView message) {
    routers[from]->send(to, message);
    routers[from]->flush();
  }
  SimNetwork network;
  std::vector<Messages> handlers;
  std::vector<std::unique_ptr<Router>> routers;
};

std::string trace_of(std::uint64_t seed) {
  Driven sim({.ranks = 5, .seed = seed});
  std::string trace;
  for (std::uint32_t i = 0; i < 200; ++i) {
    const auto from = static_cast<Rank>(sim.network.rng().below(5));
    const auto to = static_cast<Rank>(sim.network.rng().below(5));
    if (from != to) sim.send(from, to, pattern(i, sim.network.rng().below(3000)));
    if (i == 120) sim.network.kill(3);
    sim.network.step();
  }
  while (sim.network.step()) {
  }
  for (Rank r = 0; r < 5; ++r) {
    trace += std::to_string(sim.handlers[r].messages.size()) + ":";
    for (const auto& [from, message] : sim.handlers[r].messages)
      trace += std::to_string(from) + "/" + std::to_string(message.size()) + " ";
    for (const auto& [peer, why] : sim.handlers[r].lost) trace += "lost" + std::to_string(peer) + " ";
  }
  return trace + std::to_string(sim.network.now()) + " " + std::to_string(sim.network.stats().events);
}

TEST_CASE("the same seed gives the same run, another seed another") {
  CHECK(trace_of(7) == trace_of(7));
  CHECK(trace_of(7) != trace_of(8));
}

TEST_CASE("a killed rank is reported once to everyone after the detection delay and delivers nothing afterwards") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    Driven sim({.ranks = 4, .seed = seed, .detect_min = 5 * kMicrosecond, .detect_max = 20 * kMicrosecond});
    for (std::uint32_t i = 0; i < 20; ++i) {
      sim.send(1, 0, pattern(i, 500));
      sim.send(0, 1, pattern(i, 500));
    }
    sim.network.kill(1);
    const Nanos died = sim.network.now();
    CHECK_FALSE(sim.network.alive(1));
    sim.network.run_until(died + 4 * kMicrosecond);
    CHECK(sim.handlers[2].lost.empty());
    CHECK(sim.network.run_until_idle());
    for (const Rank r : {0U, 2U, 3U}) {
      REQUIRE(sim.handlers[r].lost.size() == 1);
      CHECK(sim.handlers[r].lost[0].first == 1);
      CHECK_FALSE(sim.routers[r]->alive(1));
    }
    CHECK(sim.handlers[1].messages.empty());
    CHECK(sim.handlers[1].lost.empty());
    // What did arrive is a prefix.
    const auto& got = sim.handlers[0].messages;
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i].second == pattern(i, 500));
    sim.send(0, 2, pattern(1, 5));
    sim.network.run_until_idle();
    CHECK(sim.handlers[2].messages.size() == 1);
  }
}

TEST_CASE("a paused rank gets its messages and timers when it resumes, a dead one never") {
  Driven sim({.ranks = 3, .seed = 3});
  int timers = 0;
  sim.network.schedule(1, 10 * kMicrosecond, [&] { ++timers; });
  sim.network.schedule(2, 10 * kMicrosecond, [&] { timers += 100; });
  sim.network.pause(1);
  sim.network.kill(2);
  sim.send(0, 1, pattern(1, 100));
  sim.network.run_until_idle();
  CHECK(sim.handlers[1].messages.empty());
  CHECK(timers == 0);
  sim.network.resume(1);
  sim.network.run_until_idle();
  CHECK(sim.handlers[1].messages.size() == 1);
  CHECK(timers == 1);
}

TEST_CASE("timers run in order of time, then of scheduling, and the clock stands at each") {
  SimNetwork network({.ranks = 1});
  std::string order;
  network.schedule(20, [&] { order += network.now() == 20 ? "c" : "?"; });
  network.schedule(10, [&] {
    order += "a";
    network.schedule(network.now(), [&] { order += network.now() == 10 ? "b" : "?"; });
  });
  network.schedule(20, [&] { order += "d"; });
  network.run_until(15);
  CHECK(order == "ab");
  CHECK(network.now() == 15);
  CHECK(network.run_until_idle());
  CHECK(order == "abcd");
  CHECK_FALSE(network.step());
}

TEST_CASE("latency, distance and bandwidth add up on the virtual clock") {
  SimOptions options{.ranks = 2, .latency = 1000, .jitter = 0, .bytes_per_ns = 0.5, .straggle_share = 0};
  options.distance = [](Rank, Rank) { return Nanos{500}; };
  SimNetwork network(options);
  auto a = network.make_backend(0);
  auto b = network.make_backend(1);
  REQUIRE(a->send(1, Bytes(100)) == SendStatus::sent);
  REQUIRE(a->send(1, Bytes(100)) == SendStatus::sent);
  network.step();
  CHECK(network.now() == 1700);
  network.step();
  CHECK(network.now() == 1900);  // the second leaves behind the first
}

TEST_CASE("frames overtake each other by option, and never without it") {
  for (const bool reorder : {false, true}) {
    SimNetwork network({.ranks = 2, .seed = 5, .reorder = reorder});
    auto a = network.make_backend(0);
    auto b = network.make_backend(1);
    Frames sink;
    for (std::uint8_t i = 0; i < 100; ++i) REQUIRE(a->send(1, Bytes{std::byte{i}}) == SendStatus::sent);
    network.run_until_idle();
    b->poll(sink);
    REQUIRE(sink.frames.size() == 100);
    bool ordered = true;
    for (std::uint8_t i = 0; i < 100; ++i) ordered = ordered && sink.frames[i].second[0] == std::byte{i};
    CHECK(ordered == !reorder);
  }
}

TEST_CASE("a get copies at its virtual completion, and fails when the target died before") {
  SimNetwork network({.ranks = 3, .seed = 2});
  std::vector<std::unique_ptr<Backend>> backends;
  Bytes memory[3] = {Bytes(64), Bytes(64), Bytes(64)};
  for (Rank r = 0; r < 3; ++r) {
    backends.push_back(network.make_backend(r));
    CHECK(backends[r]->expose(memory[r], -1).ok());
  }
  Frames sink;
  Bytes into(8), into_dead(8);
  Errc alive = Errc::unknown, dead = Errc::unknown;
  backends[0]->get(1, 8, into, [&](Status status) { alive = status.ok() ? Errc::ok : status.error().code; });
  backends[0]->get(2, 8, into_dead, [&](Status status) { dead = status.ok() ? Errc::ok : status.error().code; });
  memory[1][8] = std::byte{77};
  memory[2][8] = std::byte{77};
  network.kill(2);
  network.run_until_idle();
  backends[0]->poll(sink);
  CHECK(alive == Errc::ok);
  CHECK(into[0] == std::byte{77});
  CHECK(dead == Errc::peer_lost);
  CHECK(into_dead[0] == std::byte{0});
}

TEST_CASE("100,000 ranks fit: routers and backends are small until they talk") {
  constexpr std::uint32_t kRanks = 100'000;
  SimNetwork network({.ranks = kRanks, .tell_everyone = false});
  std::vector<std::unique_ptr<Router>> routers;
  Messages handler;
  for (Rank r = 0; r < kRanks; ++r) {
    routers.push_back(std::make_unique<Router>(r, kRanks));
    routers[r]->add_default_backend(network.make_backend(r));
    network.on_wake(r, [&routers, &handler, r] { routers[r]->poll(handler); });
  }
  for (Rank r = 0; r < kRanks; r += 10) {
    routers[r]->send((r + 12'345) % kRanks, pattern(r, 32));
    routers[r]->flush();
  }
  network.kill(12'345);
  CHECK(network.run_until_idle());
  CHECK(handler.messages.size() == kRanks / 10 - 1);
  REQUIRE(handler.lost.size() == 1);  // only the rank that had talked to it
  CHECK_FALSE(routers[0]->alive(12'345));
}

}  // namespace
}  // namespace trireme::transport::testing
