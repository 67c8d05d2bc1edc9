#pragma once

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include <doctest/doctest.h>

#include "base/rng.hpp"
#include "scheduler/steal.hpp"

namespace trireme::scheduler::test {

/// Ranks with one core each under StealProtocol, on a virtual network with random delays, in order per pair.
/// Tasks are numbers, so that a lost or doubled one shows.
class StealWorld {
 public:
  using TaskId = std::uint64_t;

  struct Node final : StealHost {
    Node(StealWorld& w, Victims victims, std::uint64_t seed, const StealOptions& options)
        : world(w), self(victims.self()), protocol(std::move(victims), *this, options, seed) {}

    std::uint32_t stealable() override {
      return static_cast<std::uint32_t>(queue.size() - (running || queue.empty() ? 0 : 1));
    }
    std::uint32_t give(Rank thief, std::uint32_t count, BytesView free) override {
      CHECK(free.size() == 1);
      CHECK(std::to_integer<Rank>(free[0]) == thief % 256);
      count = std::min(count, stealable());
      for (std::uint32_t i = 0; i < count; ++i) {
        gift.push_back(queue.front());
        queue.pop_front();
      }
      return count;
    }
    void send(Rank to, BytesView message) override {
      CHECK(to != self);
      world.post(self, to, Bytes(message.begin(), message.end()), std::move(gift));
      gift.clear();
    }
    bool alive(Rank rank) const override { return !known_dead.contains(rank); }
    void free_resources(Bytes& out) override { out.push_back(static_cast<std::byte>(self % 256)); }
    void set_waiting(bool on) override {
      CHECK(on != waiting);
      waiting = on;
    }

    StealWorld& world;
    Rank self;
    StealProtocol protocol;
    std::deque<TaskId> queue;
    std::vector<TaskId> gift;
    std::set<Rank> known_dead;
    bool running = false, waiting = false, dead = false;
    TaskId current = 0;
    Nanos timer_at = kForever;
  };

  StealWorld(std::uint32_t size, std::uint64_t seed, const StealOptions& options = {}) : rng(seed) {
    constexpr std::uint32_t node_size = 4;
    for (Rank rank = 0; rank < size; ++rank) {
      const auto first = rank / node_size * node_size;
      Victims victims(rank, size, {RankSet::range(first, std::min(node_size, size - first))});
      nodes.push_back(std::make_unique<Node>(*this, std::move(victims), rng.next(), options));
    }
  }

  void post(Rank from, Rank to, Bytes bytes, std::vector<TaskId> tasks) {
    ++messages;
    if (nodes[to]->dead) {
      lose(tasks);
      return;
    }
    auto& last = last_arrival[{from, to}];
    last = std::max(last + 1, now + 1 + static_cast<Nanos>(rng.below(50)));
    events.emplace(last, Event{Event::Kind::message, to, from, std::move(bytes), std::move(tasks)});
  }

  void start_idle() {
    for (auto& node : nodes) node->protocol.on_local_idle(now);
  }
  void submit(Rank rank, TaskId task) {
    auto& node = *nodes[rank];
    if (node.dead) return;
    submitted.insert(task);
    node.queue.push_back(task);
    run(node);
    if (node.waiting) node.protocol.on_local_work(node.stealable(), now);
    arm(node);
  }
  void kill(Rank rank) {
    auto& node = *nodes[rank];
    if (node.dead) return;
    node.dead = true;
    for (const auto task : node.queue) lost.insert(task);
    if (node.running) lost.insert(node.current);
    node.queue.clear();
    // What is under way to it is lost; what it sent may still arrive. Everybody hears of it, at different times.
    for (auto at = events.begin(); at != events.end();) {
      const bool to_dead = at->second.to == rank;
      if (to_dead) lose(at->second.tasks);
      at = to_dead ? events.erase(at) : std::next(at);
    }
    for (auto& other : nodes)
      if (!other->dead)
        events.emplace(std::max(now + 1 + static_cast<Nanos>(rng.below(400)), last_arrival[{rank, other->self}] + 1),
                       Event{Event::Kind::lost, other->self, rank, {}, {}});
  }

  /// False when nothing is left to happen.
  bool step() {
    if (events.empty()) return false;
    auto event = std::move(events.begin()->second);
    now = events.begin()->first;
    events.erase(events.begin());
    auto& node = *nodes[event.to];
    if (node.dead) {
      lose(event.tasks);
      return true;
    }
    switch (event.kind) {
      case Event::Kind::message: {
        for (const auto task : event.tasks) node.queue.push_back(task);
        if (!event.tasks.empty()) {
          run(node);
          if (node.waiting) node.protocol.on_local_work(node.stealable(), now);
        }
        const auto status = node.protocol.on_message(event.from, event.bytes, now);
        CHECK(status.ok());
        break;
      }
      case Event::Kind::lost:
        node.known_dead.insert(event.from);
        node.protocol.on_rank_lost(event.from, now);
        break;
      case Event::Kind::timer:
        node.timer_at = kForever;
        node.protocol.on_timer(now);
        break;
      case Event::Kind::done:
        finished.push_back(node.current);
        node.running = false;
        run(node);
        if (!node.running) node.protocol.on_local_idle(now);
        break;
    }
    arm(node);
    return true;
  }
  void arm(Node& node) {
    if (node.protocol.next_deadline() >= node.timer_at) return;
    node.timer_at = node.protocol.next_deadline();
    events.emplace(node.timer_at, Event{Event::Kind::timer, node.self, node.self, {}, {}});
  }
  void run_until(Nanos at) {
    while (!events.empty() && events.begin()->first <= at) step();
    now = at;
  }
  /// Steps until nothing is left; fails after `events_max`.
  void settle(std::uint64_t events_max) {
    std::uint64_t count = 0;
    while (step()) {
      if (++count > events_max) {
        FAIL("the protocol does not fall silent");
        return;
      }
    }
  }
  void run(Node& node) {
    if (node.running || node.queue.empty()) return;
    node.running = true;
    node.current = node.queue.back();
    node.queue.pop_back();
    if (task_length > 0)
      events.emplace(now + 1 + static_cast<Nanos>(rng.below(2 * static_cast<std::uint64_t>(task_length))),
                     Event{Event::Kind::done, node.self, node.self, {}, {}});
  }
  void lose(const std::vector<TaskId>& tasks) { lost.insert(tasks.begin(), tasks.end()); }

  struct Event {
    enum class Kind : std::uint8_t { message, lost, done, timer };
    Kind kind;
    Rank to, from;
    Bytes bytes;
    std::vector<TaskId> tasks;
  };
  Rng rng;
  Nanos now = 0;
  Nanos task_length = 200;  ///< mean; 0: tasks never end
  std::multimap<Nanos, Event> events;
  std::map<std::pair<Rank, Rank>, Nanos> last_arrival;
  std::vector<std::unique_ptr<Node>> nodes;
  std::set<TaskId> submitted, lost;  ///< lost: held by a rank that died, or on the way to it
  std::vector<TaskId> finished;
  std::uint64_t messages = 0;
};

}  // namespace trireme::scheduler::test
