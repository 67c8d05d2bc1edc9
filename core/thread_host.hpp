#pragma once

#include <memory>
#include <string>

#include "core/running.hpp"
#include "scheduler/executor.hpp"
#include "scheduler/progress.hpp"
#include "transport/shm/backend.hpp"

namespace trireme::core {

/// Tasks that wait outside of the executor, for worker processes, and may be given to other ranks like those inside.
class SideQueue {
 public:
  virtual ~SideQueue() = default;
  virtual std::size_t queued() const = 0;
  virtual std::size_t take_exportable(std::size_t count, std::vector<scheduler::Work*>& out) = 0;
};

/// Host over real threads.
class ThreadHost final : public Host {
 public:
  scheduler::Executor* executor = nullptr;
  scheduler::ProgressEngine* engine = nullptr;
  transport::ShmBackend* shm = nullptr;
  SideQueue* side = nullptr;

  void push(scheduler::Work* work) override { executor->push(work); }
  void push_back_of_line(scheduler::Work* work) override { executor->push_back_of_line(work); }
  bool pop_if_newest(scheduler::Work* work) override { return executor->pop_if_newest(work); }
  bool claim(scheduler::Work* work) override { return executor->claim(work); }
  void post(scheduler::Command* command) override { engine->post(command); }
  bool holds_token() const override { return engine->holds_token(); }
  bool can_wait() const override { return true; }
  bool wait(scheduler::WaitPoint& point, Nanos deadline) override {
    if (point.signalled()) return true;
    const LentCpu lent(*this);
    if (deadline != kForever) return executor->wait_until(point, deadline);
    executor->wait(point);
    return true;
  }
  bool has_stack() const override {
    // Half of a fiber's stack stays for the functions of the last task of a chain.
    constexpr std::size_t kLeftMin = 128 << 10;
    return executor->stack_left() >= kLeftMin;
  }
  void begin_in_place() override { executor->begin_in_place(); }
  void end_in_place() override { executor->end_in_place(); }
  void withhold(unsigned threads) override { executor->withhold(threads); }
  std::size_t queued() const override { return executor->queued() + (side != nullptr ? side->queued() : 0); }
  unsigned idle_threads() const override {
    // Compute threads do not take what waits for worker processes.
    return side != nullptr && side->queued() != 0 ? 0 : executor->idle_threads();
  }
  std::size_t take_exportable(std::size_t count, std::vector<scheduler::Work*>& out) override {
    auto taken = executor->take_exportable(count, out);
    if (side != nullptr && taken < count) taken += side->take_exportable(count - taken, out);
    return taken;
  }
  BytesView peer_memory(Rank rank) const override { return shm == nullptr ? BytesView{} : shm->peer_memory(rank); }
  void fatal(const std::string& why) override;
};

}  // namespace trireme::core
