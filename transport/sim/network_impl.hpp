#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "transport/sim/network.hpp"

namespace trireme::transport {

/// What waits in a rank for its next poll.
struct SimArrival {
  enum class Kind : std::uint8_t { frame, lost, left, get_done };
  Kind kind = Kind::frame;
  Rank peer = kNoRank;
  std::uint32_t size = 0;
  std::unique_ptr<std::byte[]> bytes;
  GetDone done;
  Errc result = Errc::ok;
};

struct SimRank {
  SimNetwork::Callback wake;
  std::span<std::byte> exposed;
  std::vector<SimArrival> inbox;
  std::vector<SimNetwork::Callback> deferred;  ///< timers that fell due during a pause
  std::unordered_set<Rank> gone;               ///< peers that are lost, left or forgotten, as this rank sees it
  std::vector<Rank> contacts;                  ///< ranks that exchanged something with this one
  Nanos egress_free = 0;                       ///< when what was sent so far has left
  Nanos died = kForever;
  bool attached = false;  ///< its backend exists
  bool closed = false;    ///< left in an orderly way
  bool paused = false;
};

/// One direction between two ranks that have exchanged a frame.
struct SimLink {
  std::size_t in_flight = 0;
  bool starved = false;  ///< the sender was told would_block and wants to hear of credit
  Nanos last_arrival = 0;
};

struct SimNetwork::Impl {
  explicit Impl(SimOptions given);

  struct Event {
    enum class Kind : std::uint8_t { call, rank_call, frame, get, lost, left, credit };
    Kind kind = Kind::call;
    Rank to = kNoRank;    // rank_call: the rank; get: who reads
    Rank from = kNoRank;  // get: who is read
    Nanos sent = 0;
    std::uint64_t offset = 0;
    std::span<std::byte> into;
    std::uint32_t size = 0;
    std::unique_ptr<std::byte[]> bytes;
    Callback call;
    GetDone done;
  };
  struct Due {
    Nanos at;
    std::uint64_t order;  // equal times happen in the order they were scheduled
    std::uint32_t slot;
    bool operator>(const Due& other) const { return std::pair(at, order) > std::pair(other.at, other.order); }
  };

  SimRank& rank(Rank rank);
  const SimRank* find(Rank rank) const { return ranks[rank].get(); }
  bool running(Rank rank) const;
  SimLink& link(Rank from, Rank to);

  void push(Nanos at, Event event);
  bool step();
  void handle(Event event);
  void arrive(Rank at, SimArrival arrival);
  void finish_get(Event& event);
  void tell_peers(Rank about, Event::Kind kind, Nanos delay_min, Nanos delay_max);
  Nanos delay(Rank from, Rank to, std::size_t bytes);
  Nanos leave(Rank from, std::size_t bytes);

  SendStatus send(Rank from, Rank to, BytesView frame);
  void get(Rank reader, Rank from, std::uint64_t offset, std::span<std::byte> into, GetDone done);
  int poll(Rank rank, Sink& sink);
  void close(Rank rank);

  SimOptions options;
  Rng rng;
  Nanos now = 0;
  std::uint64_t order = 0;
  std::vector<Due> heap;
  std::deque<Event> slots;
  std::vector<std::uint32_t> free_slots;
  std::vector<std::unique_ptr<SimRank>> ranks;
  std::unordered_map<std::uint64_t, SimLink> links;
  Stats stats;
};

}  // namespace trireme::transport
