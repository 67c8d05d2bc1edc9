#pragma once

#include <cstdint>
#include <queue>
#include <vector>

#include "base/clock.hpp"
#include "base/ids.hpp"
#include "base/wire.hpp"

namespace trireme::sim {

/// A machine of nodes and switches, ranks numbered block by block.
struct Machine {
  std::uint32_t ranks = 1000;
  std::uint32_t cores = 1;  ///< per rank
  std::uint32_t ranks_per_node = 8;
  std::uint32_t nodes_per_switch = 32;
  Nanos latency_node = 500;
  Nanos latency_switch = 1500;
  Nanos latency_far = 3000;
  double bytes_per_ns = 12.5;  ///< of a rank's way out
  Nanos handle = 1000;         ///< CPU time of the receiver per message
  Nanos poll_busy = 0;         ///< while all cores compute, arrivals wait for the next such tick; 0: none waits

  Nanos latency(Rank from, Rank to) const {
    if (from / ranks_per_node == to / ranks_per_node) return latency_node;
    const auto per_switch = ranks_per_node * nodes_per_switch;
    return from / per_switch == to / per_switch ? latency_switch : latency_far;
  }
};

/// What happens when, in one thread; events of equal time in the order they were added.
template <class What>
class EventQueue {
 public:
  void add(Nanos at, What what) { heap_.push({at, order_++, what}); }
  bool empty() const { return heap_.empty(); }
  /// Takes the next event and advances now().
  What next() {
    const auto event = heap_.top();
    heap_.pop();
    now_ = event.at;
    ++handled_;
    return event.what;
  }
  Nanos now() const { return now_; }
  std::uint64_t handled() const { return handled_; }

 private:
  struct Event {
    Nanos at;
    std::uint32_t order;  // wraps after 4 billion events: equal times may then swap, no more
    What what;
    bool operator<(const Event& other) const { return at != other.at ? at > other.at : order > other.order; }
  };
  std::priority_queue<Event> heap_;
  std::uint32_t order_ = 0;
  std::uint64_t handled_ = 0;
  Nanos now_ = 0;
};

}  // namespace trireme::sim
