#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <utility>
#include <vector>

#include "core/refs.hpp"
#include "tests/sim/world.hpp"

namespace trireme::sim {

using core::MessageType;

inline constexpr Rank kLiar = 2;
/// Wire form of a value, see core/refs_values.cpp.
inline constexpr std::uint8_t kLocated = 1, kError = 2;

inline World* world_now = nullptr;  ///< of the Job that runs

/// Three ranks, of which rank 2 is honest code with messages put into its mouth; the program runs on rank 0.
class Job {
 public:
  explicit Job(std::vector<std::uint32_t> node_of = {0, 1, 2}) : world(options(std::move(node_of)), 1) {
    auto& host = *world.at(kLiar).host;
    host.on_traffic = [this, before = host.on_traffic](Rank from, BytesView message) {
      before(from, message);
      heard_.emplace_back(message.begin(), message.end());
    };
  }

  /// The program of rank 0. Afterwards the liar dies, and nothing may be left of what it did.
  void run(const std::function<void()>& program) {
    world_now = &world;
    auto& host = *world.at(0).host;
    world.network.schedule(0, 0, [&] { host.run_program(program); });
    REQUIRE(world.settle(kEventsMax));
    REQUIRE(host.program_ended());
    world.kill(kLiar);
    REQUIRE(world.settle(kEventsMax));
    CHECK(world.leaks() == "");
    CHECK(knows(0, 1));
    CHECK(knows(1, 0));
  }
  /// In the program: rank 2 says this to `to`, and all that follows from it happens.
  void say(Rank to, MessageType type, const std::function<void(Writer&)>& fill) {
    Bytes message{static_cast<std::byte>(type)};
    Writer out(message);
    fill(out);
    as(kLiar, [this, to, message] { world.at(kLiar).router->send(to, message); });
  }
  /// In the program: protocol code of a rank, and all that follows from it.
  void as(Rank rank, const std::function<void()>& what) {
    world.network.schedule(rank, world.network.now(), [this, rank, what] { world.at(rank).host->step(what); });
    settle();
  }
  /// In the program: user code of another rank, to its end.
  void program_of(Rank rank, std::function<void()> what) {
    auto& host = *world.at(rank).host;
    world.network.schedule(rank, world.network.now(), [&host, what = std::move(what)] { host.run_program(what); });
    settle();
    CHECK(host.program_ended());
  }
  void settle() { world.at(0).host->compute(20 * kMillisecond); }

  bool knows(Rank rank, Rank peer) { return world.at(rank).core->context().alive(peer); }
  /// The liar was given the value, or where it lies.
  bool told(ObjectId id) {
    for (const auto& message : heard_) {
      Reader in(message);
      if (in.get<MessageType>() == MessageType::value && in.id() == id && in.get<std::uint8_t>() != kError) return true;
    }
    return false;
  }
  core::Refs& refs(Rank rank) { return world.at(rank).core->refs(); }
  /// As when the protocol had a use for it in its own rank.
  ObjectId id_of(const detail::CellRef& cell) { return refs(0).export_cell(cell.get()).id; }

  World world;

 private:
  static constexpr std::uint64_t kEventsMax = 200'000;
  static WorldOptions options(std::vector<std::uint32_t> node_of) {
    WorldOptions o;
    o.network.ranks = static_cast<std::uint32_t>(node_of.size());
    o.node_of = std::move(node_of);
    o.cores = 2;
    o.network.detect_max = 100 * kMicrosecond;
    return o;
  }
  std::vector<Bytes> heard_;
};

}  // namespace trireme::sim
