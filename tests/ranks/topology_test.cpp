// What every rank tells of itself and of its ways to the others.
#include <doctest/doctest.h>

#include <cstdlib>

#include "tests/ranks/everywhere.hpp"

using trireme::Rank;
using namespace trireme::test;

namespace ranks_topology {

trireme::Topology look() { return trireme::topology(); }

}  // namespace ranks_topology
using namespace ranks_topology;

TEST_CASE("every rank knows what it has and how it reaches the others") {
  // Something has been said both ways, so that every way is chosen.
  for (Rank rank = 0; rank < trireme::rank_count(); ++rank) {
    CAPTURE(rank);
    const auto found = trireme::get(trireme::submit_with<&look>(on(rank)));
    CHECK(found.rank == rank);
    CHECK_FALSE(found.host.empty());
    CHECK_FALSE(found.node.empty());
    CHECK_FALSE(found.cpus.empty());
    CHECK(found.threads == 2);  // TRIREME_THREADS of this suite
    CHECK(found.memory_bytes > 0);
    CHECK(found.arena_bytes >= 128U << 20U);
    CHECK(found.text.find(found.host) != std::string::npos);
    REQUIRE(found.peers.size() == trireme::rank_count() - 1);
    for (const auto& peer : found.peers) {
      CAPTURE(peer.rank);
      CHECK(peer.rank != rank);
      CHECK(peer.host == found.host);
      CHECK_FALSE(peer.distance.empty());
      CHECK((peer.node == found.node) != apart());
      CHECK_MESSAGE((peer.transport.find("shared memory") != std::string::npos) != apart(), peer.transport);
      CHECK(found.text.find(peer.transport) != std::string::npos);
    }
    if (!apart() || rank == 0) continue;
    // Rank 0 has asked, so there is a connection, and it says over which device.
    const auto& zero = found.peers.front();
    CHECK(zero.rank == 0);
    CHECK_MESSAGE(zero.transport.find("/") != std::string::npos, zero.transport);
  }
}
