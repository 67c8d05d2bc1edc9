// CAF (the C++ Actor Framework), 0.17: calls between actors of one process, and their birth and death.
#include <atomic>
#include <caf/all.hpp>
#include <cstdlib>

#include "benchmarks/harness/harness.hpp"

namespace {

using trireme::bench::Arguments;

/// One actor calls another and waits for its answer, `n` times.
caf::behavior ponger() {
  return {[](std::int64_t left) { return left - 1; }};
}

caf::behavior pinger(caf::event_based_actor* self, const caf::actor& peer) {
  return {[self, peer](std::int64_t left) {
    if (left > 0) {
      self->send(peer, left);
    } else {
      self->quit();
    }
  }};
}

std::optional<double> ping_pong(const Arguments&) {
  caf::actor_system_config config;
  caf::actor_system system(config);
  return trireme::bench::nanos_per_op(0.3, [&](std::uint64_t n) {
    const auto pong = system.spawn(ponger);
    const auto ping = system.spawn(pinger, pong);
    caf::anon_send(ping, static_cast<std::int64_t>(n));
    caf::scoped_actor self(system);
    self->wait_for(ping);
    caf::anon_send_exit(pong, caf::exit_reason::user_shutdown);
  });
}

/// Several actors send to one as fast as they can.
caf::behavior sink(caf::event_based_actor* self, std::uint64_t expected) {
  return {[self, expected, seen = std::uint64_t{0}](std::int64_t) mutable {
    if (++seen == expected) self->quit();
  }};
}

std::optional<double> n_to_one(const Arguments& arguments) {
  const std::uint64_t senders = arguments.number("senders", 8);
  const std::uint64_t messages = arguments.number("messages", 100000);
  caf::actor_system_config config;
  caf::actor_system system(config);
  const double seconds = trireme::bench::seconds_of([&] {
    const auto target = system.spawn(sink, senders * messages);
    for (std::uint64_t i = 0; i < senders; ++i) {
      system.spawn([target, messages](caf::event_based_actor* self) {
        for (std::uint64_t m = 0; m < messages; ++m) self->send(target, static_cast<std::int64_t>(m));
      });
    }
    caf::scoped_actor self(system);
    self->wait_for(target);
  });
  return static_cast<double>(senders * messages) / seconds / 1e6;
}

/// An actor is made, gets one message and ends with it.
std::optional<double> life(const Arguments&) {
  caf::actor_system_config config;
  caf::actor_system system(config);
  return trireme::bench::nanos_per_op(0.3, [&](std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) {
      const auto mayfly = system.spawn(
          [](caf::event_based_actor* self) -> caf::behavior { return {[self](std::int64_t) { self->quit(); }}; });
      caf::anon_send(mayfly, std::int64_t{1});
    }
    system.await_all_actors_done();
  });
}

}  // namespace

int main(int argc, char** argv) {
  trireme::bench::Program program;
  program.add("ping_pong", "ns/round trip", ping_pong);
  program.add("n_to_one", "M messages/s", n_to_one);
  program.add("life", "ns/actor", life);
  return program.run(argc, argv);
}
