#pragma once

#include <array>
#include <deque>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/fetcher.hpp"
#include "core/rank_core.hpp"
#include "objstore/arena.hpp"
#include "objstore/store.hpp"
#include "tests/sim/host.hpp"
#include "transport/sim/network.hpp"

namespace trireme::sim {

class Clerk;

/// What a seed decides about the machine.
struct WorldOptions {
  transport::SimOptions network;
  std::vector<std::uint32_t> node_of;  ///< ranks of one node map each other's arenas
  std::uint32_t cores = 1;
  double late_posts = 0;
  Nanos task_max = 20 * kMicrosecond;
  std::uint64_t arena_bytes = 4U << 20U;
  double slots = 1;  ///< amount of the custom resource "slot" of every rank
  objstore::TransferOptions transfer;
  /// The last ranks of `network.ranks` are seats: they come when the program's time is due, see World::join().
  std::uint32_t seats = 0;

  static WorldOptions of_seed(std::uint64_t seed);
  /// Some seats, each on a node of its own, as the seed says.
  void add_seats(std::uint64_t seed);
  std::string text() const;
};

/// A job in one thread: RankCores with arena, store and transfers over the simulated network.
class World {
 public:
  World(WorldOptions options, std::uint64_t seed);
  ~World();

  struct Node {
    Node();
    ~Node();
    std::unique_ptr<objstore::Arena> arena;
    std::unique_ptr<objstore::Store> store;
    std::unique_ptr<transport::Router> router;
    std::unique_ptr<SimHost> host;
    std::unique_ptr<core::RankCore> core;
    std::unique_ptr<core::TransferFetcher> fetcher;
    std::unique_ptr<Clerk> clerk;
    bool dead = false;
    bool begun = true;
  };

  /// Seats included.
  std::uint32_t size() const { return static_cast<std::uint32_t>(nodes.size()); }
  Node& at(Rank rank) { return *nodes[rank]; }
  bool alive(Rank rank) const { return nodes[rank] != nullptr && !nodes[rank]->dead; }
  /// The rank, maybe one that comes later, is going to be killed: see SimHost::doomed.
  void doom(Rank rank);
  /// Nothing happens to a rank that is not there.
  void kill(Rank rank);
  /// The rank of a seat comes: what Session and Doorkeeper do. One at a time; the next waits.
  void join(Rank rank);
  /// Runs until nothing happens any more. False when that does not come.
  bool settle(std::uint64_t events_max);

  /// Empty when nothing of the program is left anywhere; else what leaked, per rank.
  std::string leaks();
  /// Rank 0 ends the job. Empty when every living rank left.
  std::string shut_down();

  WorldOptions options;
  transport::SimNetwork network;
  std::vector<std::unique_ptr<Node>> nodes;
  std::uint32_t deaths = 0;
  std::uint32_t joins = 0;  ///< ranks that came and began
  bool deaths_planned = false;
  std::vector<std::string> failures;
  std::array<std::uint64_t, 40> messages{};  ///< received, by type
  std::string traffic() const;

 private:
  scheduler::RankInfo info_of(Rank rank) const;
  void make_node(Rank rank, const core::World& known);
  void begin(Rank rank, const std::vector<Bytes>& notes);
  void next_join();

  std::uint64_t seed_;
  std::set<Rank> doomed_;
  std::deque<Rank> at_the_door_;
  bool joining_ = false;
};

}  // namespace trireme::sim
