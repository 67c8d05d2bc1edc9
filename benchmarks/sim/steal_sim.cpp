#include "steal_sim.hpp"

#include <algorithm>
#include <memory>
#include <vector>

#include "base/check.hpp"

namespace trireme::sim {
namespace {

/// Header of a frame: addresses, number, length.
constexpr std::uint64_t kFrameBytes = 32;

struct Event {
  enum class Kind : std::uint8_t { start, dry, arrive, handle, task_done, timer };
  Kind kind;
  std::uint32_t rank = 0;
  std::uint32_t message = 0;
};

struct Message {
  Rank from = kNoRank, to = kNoRank;
  Bytes bytes;
  std::vector<Task> tasks;
};

class Simulation;

class SimRank final : public scheduler::StealHost {
 public:
  SimRank(Simulation& sim, Rank self);

  std::uint32_t stealable() override;
  std::uint32_t give(Rank thief, std::uint32_t count, BytesView free) override;
  void send(Rank to, BytesView message) override;
  bool alive(Rank) const override { return true; }
  void free_resources(Bytes&) override {}
  void set_waiting(bool waiting) override { waiting_ = waiting; }

  void run_tasks();
  void task_done();
  void handle(Message& message);
  void maybe_hungry(bool always);

  Simulation& sim_;
  scheduler::StealProtocol protocol_;
  TaskQueue queue_;
  std::vector<Task> gift_;     // taken by give(), leaves with the next send()
  Nanos egress_free_ = 0;      // when what was sent so far has left
  Nanos progress_free_ = 0;    // when the messages that arrived so far are handled
  Nanos timer_at_ = kForever;  // of the timer event under way
  Rank self_;
  std::uint32_t idle_;  // cores
  bool waiting_ = false;
  bool ran_ = false;
};

class Simulation {
 public:
  explicit Simulation(const StealSetup& given) : setup(given), rng(given.seed) {
    const auto& machine = setup.machine;
    tasks = std::uint64_t{machine.ranks} * machine.cores * setup.workload.tasks_per_core;
    TRIREME_CHECK(tasks <= UINT32_MAX, "more tasks than a queue can count");
    ranks.reserve(machine.ranks);
    for (Rank rank = 0; rank < machine.ranks; ++rank) ranks.push_back(std::make_unique<SimRank>(*this, rank));
  }

  StealOutcome run();

  void post(Rank from, Rank to, BytesView bytes, std::vector<Task>&& gift) {
    std::uint32_t slot;
    if (free_slots.empty()) {
      slot = static_cast<std::uint32_t>(messages.size());
      messages.emplace_back();
    } else {
      slot = free_slots.back();
      free_slots.pop_back();
    }
    auto& message = messages[slot];
    message.from = from;
    message.to = to;
    message.bytes.assign(bytes.begin(), bytes.end());
    std::uint64_t size = bytes.size() + kFrameBytes;
    for (const auto& task : gift) size += std::uint64_t{task.count} * setup.workload.task_bytes;
    message.tasks = std::move(gift);
    auto& sender = *ranks[from];
    const auto now = events.now();
    sender.egress_free_ =
        std::max(sender.egress_free_, now) + static_cast<Nanos>(static_cast<double>(size) / setup.machine.bytes_per_ns);
    events.add(sender.egress_free_ + setup.machine.latency(from, to) + setup.machine.handle,
               {Event::Kind::arrive, to, slot});
    ++outcome.messages;
    outcome.bytes += size;
  }

  void handle(const Event& event) {
    // Handling may post messages and so move the slots.
    auto message = std::move(messages[event.message]);
    ranks[event.rank]->handle(message);
    message.tasks.clear();
    messages[event.message] = std::move(message);
    free_slots.push_back(event.message);
  }

  StealSetup setup;
  Rng rng;
  EventQueue<Event> events;
  std::vector<std::unique_ptr<SimRank>> ranks;
  std::vector<Message> messages;
  std::vector<std::uint32_t> free_slots;
  std::uint64_t tasks = 0, done = 0, ranks_ran = 0;
  Nanos work = 0, started = 0, ended = 0;
  StealOutcome outcome;
};

scheduler::Victims victims_of(const Machine& machine, Rank self) {
  using scheduler::RankSet;
  const auto block = [&](std::uint32_t size) {
    const auto first = self / size * size;
    return RankSet::range(first, std::min(size, machine.ranks - first));
  };
  return {
      self, machine.ranks, {block(machine.ranks_per_node), block(machine.ranks_per_node * machine.nodes_per_switch)}};
}

SimRank::SimRank(Simulation& sim, Rank self)
    : sim_(sim),
      protocol_(victims_of(sim.setup.machine, self), *this, sim.setup.options, sim.rng.next()),
      self_(self),
      idle_(sim.setup.machine.cores) {}

std::uint32_t SimRank::stealable() { return queue_.size() - std::min(queue_.size(), idle_); }

std::uint32_t SimRank::give(Rank, std::uint32_t count, BytesView) {
  const auto before = queue_.size();
  queue_.take_oldest(std::min(count, stealable()), gift_);
  return before - queue_.size();
}

void SimRank::send(Rank to, BytesView message) {
  sim_.post(self_, to, message, std::move(gift_));
  gift_.clear();
}

void SimRank::run_tasks() {
  const auto& workload = sim_.setup.workload;
  while (idle_ > 0 && queue_.size() > 0) {
    --idle_;
    const auto task = queue_.pop_newest();
    expand(workload, task, queue_, sim_.rng);
    auto length = workload.task;
    if (workload.spread > 0)
      length = static_cast<Nanos>(static_cast<double>(length) * (1 + workload.spread * (2 * sim_.rng.uniform() - 1)));
    sim_.work += length;
    sim_.events.add(sim_.events.now() + length, {Event::Kind::task_done, self_, 0});
    if (!ran_) {
      ran_ = true;
      if (++sim_.ranks_ran * 100 >= sim_.ranks.size() * 95 && sim_.outcome.all_started == 0)
        sim_.outcome.all_started = sim_.events.now() - sim_.started;
    }
    if (waiting_) protocol_.on_local_work(stealable(), sim_.events.now());
  }
}

void SimRank::maybe_hungry(bool always) {
  if (queue_.size() > 0 || idle_ == 0) return;
  if (sim_.setup.hungry_when_all_idle && idle_ < sim_.setup.machine.cores) return;
  if (always) protocol_.on_local_idle(sim_.events.now());
}

void SimRank::task_done() {
  ++idle_;
  ++sim_.done;
  sim_.ended = sim_.events.now();
  run_tasks();
  maybe_hungry(true);
}

void SimRank::handle(Message& message) {
  const bool gift = !message.tasks.empty();
  for (const auto& task : message.tasks) queue_.push(task);
  if (gift) {
    run_tasks();
    protocol_.on_local_work(stealable(), sim_.events.now());
  }
  const auto status = protocol_.on_message(message.from, message.bytes, sim_.events.now());
  TRIREME_CHECK(status.ok(), "the protocol understands itself");
  // Cores that found nothing in the gift run dry again.
  if (gift) maybe_hungry(true);
}

StealOutcome Simulation::run() {
  const auto& machine = setup.machine;
  // All ranks run dry within 10 microseconds of each other, then the work appears.
  for (Rank rank = 0; rank < machine.ranks; ++rank)
    events.add(static_cast<Nanos>(rng.below(10 * kMicrosecond)), {Event::Kind::dry, rank, 0});
  if (setup.workload.shape != Shape::ramp)
    events.add(setup.start_after, {Event::Kind::start, 0, 0});
  else
    for (Rank rank = 0; rank < machine.ranks; ++rank) events.add(setup.start_after, {Event::Kind::start, rank, 0});
  started = setup.start_after;
  std::uint64_t messages_at_end = 0;
  while (!events.empty()) {
    const auto event = events.next();
    auto& rank = *ranks[event.rank];
    const auto now = events.now();
    if (event.kind == Event::Kind::timer) rank.timer_at_ = kForever;
    switch (event.kind) {
      case Event::Kind::dry:
        if (!rank.ran_) rank.protocol_.on_local_idle(now);
        break;
      case Event::Kind::start: {
        if (outcome.messages_before == 0) outcome.messages_before = outcome.messages;
        const auto first = initial_task(setup.workload, event.rank, machine.ranks, tasks);
        if (first.count == 0) break;
        rank.queue_.push(first);
        rank.run_tasks();
        rank.protocol_.on_local_work(rank.stealable(), now);
        break;
      }
      case Event::Kind::arrive: {
        // The event's time already counts the handling of this message alone; what it waits for comes on top.
        auto at = std::max(now, rank.progress_free_ + machine.handle);
        if (machine.poll_busy > 0 && rank.idle_ == 0) {
          // Ticks of different ranks are out of step.
          const auto phase = static_cast<Nanos>(event.rank * 7919ULL % static_cast<std::uint64_t>(machine.poll_busy));
          const auto tick = (now - phase + machine.poll_busy - 1) / machine.poll_busy * machine.poll_busy + phase;
          at = std::max(at, tick);
        }
        rank.progress_free_ = at;
        if (at == now)
          handle(event);
        else
          events.add(at, {Event::Kind::handle, event.rank, event.message});
        break;
      }
      case Event::Kind::handle:
        handle(event);
        break;
      case Event::Kind::task_done:
        rank.task_done();
        if (done == tasks) messages_at_end = outcome.messages;
        break;
      case Event::Kind::timer:
        rank.protocol_.on_timer(now);
        break;
    }
    // A timer that was set off too early does no harm; one per rank is under way.
    if (const auto deadline = rank.protocol_.next_deadline(); deadline < rank.timer_at_) {
      rank.timer_at_ = deadline;
      events.add(deadline, {Event::Kind::timer, event.rank, 0});
    }
  }
  TRIREME_CHECK(done == tasks, "every task ran");
  outcome.tasks = tasks;
  outcome.events = events.handled();
  outcome.makespan = ended - started;
  outcome.efficiency =
      static_cast<double>(work) / (static_cast<double>(outcome.makespan) * machine.ranks * machine.cores);
  outcome.messages_after = outcome.messages - messages_at_end;
  outcome.quiet_after = events.now() - ended;
  outcome.cpu_in_messages =
      static_cast<double>(outcome.messages) * static_cast<double>(machine.handle) / static_cast<double>(work);
  for (const auto& rank : ranks) {
    const auto& stats = rank->protocol_.stats();
    outcome.stats.requests_sent += stats.requests_sent;
    outcome.stats.gifts_received += stats.gifts_received;
    outcome.stats.empties_received += stats.empties_received;
    outcome.stats.registrations_sent += stats.registrations_sent;
    outcome.stats.gifts_sent += stats.gifts_sent;
    outcome.stats.pushes_sent += stats.pushes_sent;
    outcome.stats.tasks_given += stats.tasks_given;
    outcome.stats.offers_sent += stats.offers_sent;
  }
  return outcome;
}

}  // namespace

StealOutcome simulate_steal(const StealSetup& setup) { return Simulation(setup).run(); }

}  // namespace trireme::sim
