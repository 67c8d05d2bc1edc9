#include "placement_sim.hpp"

#include <memory>
#include <utility>
#include <vector>

#include "base/check.hpp"
#include "scheduler/placement.hpp"
#include "scheduler/placement_queue.hpp"

namespace trireme::sim {
namespace {

using scheduler::ClusterView;
using scheduler::Demand;
using scheduler::PlacementQueue;
using scheduler::ResourcePool;
using scheduler::Resources;

constexpr std::uint64_t kFrameBytes = 32;

struct Event {
  enum class Kind : std::uint8_t { submit, task, bounce, reply, task_done };
  Kind kind;
  Rank rank = 0;           // where it happens
  std::uint32_t slot = 0;  // of the message, or the task of task_done
};

/// A task as it travels and waits; reused for the answers, which carry what the target has free.
struct Message {
  Rank from = kNoRank;
  std::uint32_t bounced = 0;
  std::vector<Rank> avoid;
  Bytes bytes;
};

struct Target {
  explicit Target(const Resources& total) : pool(total), queue(pool) {}
  ResourcePool pool;
  PlacementQueue queue;
};

struct Submitter {
  std::unique_ptr<ClusterView> view;
  std::uint64_t left = 0, out = 0, out_max = 0;
};

class Simulation {
 public:
  explicit Simulation(const PlacementSetup& given) : setup_(given), rng_(given.seed) {
    const auto& machine = setup_.machine;
    Resources total;
    total.set_gpu_units(machine.cores * Resources::kUnit);
    demand_.resources.set_gpu_units(Resources::kUnit);
    std::vector<scheduler::RankInfo> infos(machine.ranks);
    for (Rank rank = 0; rank < machine.ranks; ++rank)
      infos[rank] = {total, std::to_string(rank / machine.ranks_per_node), {}};
    const auto gpus = std::uint64_t{machine.ranks} * machine.cores;
    outcome_.tasks = gpus * setup_.tasks_per_gpu;
    TRIREME_CHECK(setup_.submitters >= 1 && setup_.submitters <= machine.ranks, "submitters are ranks of the job");
    submitters_.resize(setup_.submitters);
    for (std::uint32_t s = 0; s < setup_.submitters; ++s) {
      submitters_[s].view = std::make_unique<ClusterView>(rank_of(s), infos);
      submitters_[s].left = outcome_.tasks / setup_.submitters + (s < outcome_.tasks % setup_.submitters ? 1 : 0);
      submitters_[s].out_max =
          1 + static_cast<std::uint64_t>(static_cast<double>(gpus) * setup_.outstanding / setup_.submitters);
      events_.add(0, {Event::Kind::submit, rank_of(s), 0});
    }
    targets_.reserve(machine.ranks);
    for (Rank rank = 0; rank < machine.ranks; ++rank) targets_.push_back(std::make_unique<Target>(total));
    egress_free_.resize(machine.ranks);
    progress_free_.resize(machine.ranks);
  }

  PlacementOutcome run() {
    std::uint64_t done = 0, messages_at_end = 0;
    Nanos ended = 0;
    while (!events_.empty()) {
      const auto event = events_.next();
      const auto now = events_.now();
      // A message is handled after those that came before it.
      if (event.kind != Event::Kind::submit && event.kind != Event::Kind::task_done) {
        auto& free_at = progress_free_[event.rank];
        if (free_at + setup_.machine.handle > now && !delayed_[event.slot]) {
          free_at += setup_.machine.handle;
          delayed_[event.slot] = true;
          events_.add(free_at, event);
          continue;
        }
        free_at = std::max(free_at, now);
        delayed_[event.slot] = false;
      }
      switch (event.kind) {
        case Event::Kind::submit:
          submit(submitter_of(event.rank));
          break;
        case Event::Kind::task:
          on_task(event.rank, event.slot);
          break;
        case Event::Kind::bounce:
          ++outcome_.bounces;
          learn(event.slot);
          place(submitter_of(event.rank), event.slot);
          break;
        case Event::Kind::reply: {
          learn(event.slot);
          slots_.push_back(event.slot);
          auto& submitter = submitters_[submitter_of(event.rank)];
          --submitter.out;
          submit(submitter_of(event.rank));
          break;
        }
        case Event::Kind::task_done: {
          auto& target = *targets_[event.rank];
          target.pool.release(event.slot);
          started_.clear();
          target.queue.drain(now, started_);
          for (const auto holder : started_) start(event.rank, static_cast<std::uint32_t>(holder));
          answer(event.rank, event.slot, Event::Kind::reply);
          ended = now;
          if (++done == outcome_.tasks) messages_at_end = outcome_.messages;
          break;
        }
      }
    }
    TRIREME_CHECK(done == outcome_.tasks, "every task ran");
    outcome_.makespan = ended;
    outcome_.efficiency =
        static_cast<double>(work_) / (static_cast<double>(ended) * setup_.machine.ranks * setup_.machine.cores);
    outcome_.messages_after = outcome_.messages - messages_at_end;
    outcome_.events = events_.handled();
    return outcome_;
  }

 private:
  Rank rank_of(std::uint32_t submitter) const {
    return static_cast<Rank>(std::uint64_t{submitter} * setup_.machine.ranks / setup_.submitters);
  }
  std::uint32_t submitter_of(Rank rank) const {
    return static_cast<std::uint32_t>((std::uint64_t{rank} * setup_.submitters + setup_.machine.ranks - 1) /
                                      setup_.machine.ranks);
  }

  void submit(std::uint32_t s) {
    auto& submitter = submitters_[s];
    while (submitter.left > 0 && submitter.out < submitter.out_max) {
      --submitter.left;
      ++submitter.out;
      std::uint32_t slot;
      if (slots_.empty()) {
        slot = static_cast<std::uint32_t>(messages_.size());
        messages_.emplace_back();
        delayed_.push_back(false);
      } else {
        slot = slots_.back();
        slots_.pop_back();
      }
      messages_[slot] = {rank_of(s), 0, {}, {}};
      place(s, slot);
    }
  }

  void place(std::uint32_t s, std::uint32_t slot) {
    auto& message = messages_[slot];
    const auto choice = submitters_[s].view->choose(demand_, rng_, message.avoid);
    TRIREME_CHECK(choice.ok(), "every rank has a GPU");
    const Rank to = choice.value().rank;
    submitters_[s].view->assume(to, demand_.resources);
    message.from = rank_of(s);
    message.avoid.push_back(to);
    message.bytes.clear();
    Writer out(message.bytes);
    demand_.encode(out);
    send(rank_of(s), to, slot, Event::Kind::task, setup_.task_bytes);
  }

  void on_task(Rank rank, std::uint32_t slot) {
    auto& message = messages_[slot];
    Reader in(message.bytes);
    const auto demand = Demand::decode(in);
    TRIREME_CHECK(in.done(), "a demand decodes");
    switch (targets_[rank]->queue.offer(slot, demand.resources, {}, message.bounced, events_.now())) {
      case PlacementQueue::Offer::start:
        start(rank, slot);
        return;
      case PlacementQueue::Offer::queued:
        ++outcome_.queued;
        return;
      case PlacementQueue::Offer::bounce:
        ++message.bounced;
        answer(rank, slot, Event::Kind::bounce);
        return;
      case PlacementQueue::Offer::refused:
        TRIREME_CHECK(false, "every rank has a GPU");
    }
  }

  void start(Rank rank, std::uint32_t slot) {
    const auto length =
        static_cast<Nanos>(static_cast<double>(setup_.task) * (1 + setup_.spread * (2 * rng_.uniform() - 1)));
    work_ += length;
    events_.add(events_.now() + length, {Event::Kind::task_done, rank, slot});
  }

  void answer(Rank rank, std::uint32_t slot, Event::Kind kind) {
    auto& message = messages_[slot];
    const Rank to = message.from;
    const auto& queue = targets_[rank]->queue;
    message.bytes.clear();
    Writer out(message.bytes);
    out.varint(rank);
    out.varint(queue.version());
    queue.headroom().encode(out);
    send(rank, to, slot, kind, kind == Event::Kind::bounce ? setup_.task_bytes : 0);
  }

  void learn(std::uint32_t slot) {
    Reader in(messages_[slot].bytes);
    const auto rank = static_cast<Rank>(in.varint());
    const auto version = in.varint();
    const auto available = Resources::decode(in);
    TRIREME_CHECK(in.done(), "an answer decodes");
    submitters_[submitter_of(messages_[slot].from)].view->update(rank, version, available);
  }

  void send(Rank from, Rank to, std::uint32_t slot, Event::Kind kind, std::uint64_t extra) {
    const auto size = messages_[slot].bytes.size() + kFrameBytes + extra;
    auto& free_at = egress_free_[from];
    free_at =
        std::max(free_at, events_.now()) + static_cast<Nanos>(static_cast<double>(size) / setup_.machine.bytes_per_ns);
    events_.add(free_at + setup_.machine.latency(from, to) + setup_.machine.handle, {kind, to, slot});
    ++outcome_.messages;
    outcome_.bytes += size;
  }

  PlacementSetup setup_;
  Rng rng_;
  Demand demand_;
  EventQueue<Event> events_;
  std::vector<Submitter> submitters_;
  std::vector<std::unique_ptr<Target>> targets_;
  std::vector<Nanos> egress_free_, progress_free_;
  std::vector<Message> messages_;
  std::vector<bool> delayed_;
  std::vector<std::uint32_t> slots_;
  std::vector<scheduler::HolderId> started_;
  Nanos work_ = 0;
  PlacementOutcome outcome_;
};

}  // namespace

PlacementOutcome simulate_placement(const PlacementSetup& setup) { return Simulation(setup).run(); }

}  // namespace trireme::sim
