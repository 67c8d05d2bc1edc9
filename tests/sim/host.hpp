#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "base/rng.hpp"
#include "core/context.hpp"
#include "core/rank_core.hpp"
#include "scheduler/fiber.hpp"
#include "transport/sim/network.hpp"

namespace trireme::sim {

/// Code that may stop in the middle: a task, or the program of rank 0. Runs on a fiber of its own, in virtual time.
class Strand : public std::enable_shared_from_this<Strand> {
 public:
  /// Runs `body` on a pooled fiber until it ends or stops; then returns.
  static void start(std::shared_ptr<Strand> strand);
  /// Goes on where it stopped.
  void resume();
  /// Called on the strand: back to whoever started or resumed it.
  void stop();
  static Strand* running();
  /// The rank is dead and its world ends: its strands never go on, and their stacks are there for others.
  static void drop_all(const core::RankCore* core);
  std::size_t stack_left() const;

  std::function<void()> body;
  std::function<void(Strand&)> back;  ///< after it ended or stopped, on the starter's stack
  core::RankCore* core = nullptr;
  bool ended = false;
  bool computing = false;  ///< stopped in compute(), not in wait()
  bool on_core = false;    ///< holds a virtual compute thread
  scheduler::WaitPoint* point = nullptr;

 private:
  friend struct Stack;
  struct Stack* stack_ = nullptr;
};

/// While it lives, and `on`, what is allocated here is no leak for the address sanitizer, nor what only that refers to.
class Unaccounted {
 public:
  explicit Unaccounted(bool on);
  ~Unaccounted();
  Unaccounted(const Unaccounted&) = delete;
  Unaccounted& operator=(const Unaccounted&) = delete;

 private:
  const bool on_;
};

/// The threads of a simulated rank: a few compute threads whose work takes virtual time, a token, and commands that
/// reach it at once or a little later, as the seed says.
class SimHost final : public core::Host, private transport::MessageHandler {
 public:
  struct Options {
    std::uint32_t cores = 1;
    double late_posts = 0;  ///< share of posts from compute threads that find the token held
    Nanos task_max = 20 * kMicrosecond;
  };
  SimHost(transport::SimNetwork& network, Rank self, Options options, std::uint64_t seed);

  /// Set once both exist.
  core::RankCore* core = nullptr;
  transport::Router* router = nullptr;
  /// Sees every message that this rank gets. May be empty.
  std::function<void(Rank from, BytesView message)> on_traffic;
  std::function<BytesView(Rank)> memory_of;
  std::function<void(const std::string&)> on_fatal;
  bool dead = false;
  /// The rank will be killed, with what its memory holds then: nobody looks for leaks there.
  bool doomed = false;

  /// Protocol code of this rank; then everything it leads to.
  void step(const std::function<void()>& what);
  void poll();
  /// The rank's program: code outside of its compute threads.
  void run_program(std::function<void()> body);
  /// Other code outside of its compute threads: what a worker process does.
  void run_aside(std::function<void()> body);
  /// On a strand: the time that user code takes.
  void compute(Nanos time);
  /// Compute threads found nothing.
  void begin();

  std::size_t blocked() const { return blocked_.size(); }
  bool idle() const { return busy_ == 0 && queue_.empty() && blocked_.empty() && ready_.empty() && commands_.empty(); }
  bool program_ended() const { return program_ended_; }

  void push(scheduler::Work* work) override;
  void push_back_of_line(scheduler::Work* work) override;
  bool pop_if_newest(scheduler::Work* work) override;
  void post(scheduler::Command* command) override;
  bool holds_token() const override { return depth_ > 0; }
  bool can_wait() const override { return true; }
  bool wait(scheduler::WaitPoint& point, Nanos deadline) override;
  bool has_stack() const override;
  void begin_in_place() override {}
  void end_in_place() override {}
  std::size_t queued() const override { return queue_.size(); }
  unsigned idle_threads() const override { return options_.cores - busy_ + picking_; }
  std::size_t take_exportable(std::size_t count, std::vector<scheduler::Work*>& out) override;
  BytesView peer_memory(Rank rank) const override { return memory_of ? memory_of(rank) : BytesView{}; }
  void fatal(const std::string& why) override { on_fatal(why); }

 private:
  Nanos soon(Nanos max) { return network_.now() + static_cast<Nanos>(rng_.below(static_cast<std::uint64_t>(max) + 1)); }
  /// On this rank, at that time.
  void later(Nanos at, std::function<void()> what);
  Nanos task_time();
  void dispatch();
  void pick();
  void core_free();
  void after(Strand& strand);
  void drain();
  Status on_message(Rank from, BytesView message) override;
  void on_lost(Rank peer, std::string_view why) override { core->on_lost(peer, why); }
  void wake_blocked();
  void arm_timer();

  transport::SimNetwork& network_;
  const Rank self_;
  const Options options_;
  Rng rng_;
  std::deque<scheduler::Work*> queue_;
  std::deque<std::shared_ptr<Strand>> ready_;  // waited, may go on
  std::vector<std::shared_ptr<Strand>> blocked_;
  std::uint32_t busy_ = 0;     // compute threads that run something or are about to look for it
  std::uint32_t picking_ = 0;  // of these, those that woke up to look
  bool told_idle_ = false;
  std::deque<scheduler::Command*> commands_;
  bool drain_due_ = false;
  int depth_ = 0;
  Nanos timer_ = kForever;
  bool program_ended_ = true;
};

}  // namespace trireme::sim
