#include "core/running.hpp"

#include <utility>

namespace trireme::core {

namespace {

thread_local Running running;

}  // namespace

RunningHolder running_holder() { return running.holder; }
Running set_running(Running now) { return std::exchange(running, now); }
void set_running_holder(RunningHolder holder) { running.holder = holder; }
const RunningCalls::Call* running_call() { return running.call; }
const RunningCalls::Call* set_running_call(const RunningCalls::Call* call) { return std::exchange(running.call, call); }

LentCpu::LentCpu(Host& host) : host_(host), waits_(std::exchange(running, {})) {
  const auto [holders, holder, in_group] = waits_.holder;
  if (holders != nullptr) post(host_, [holders = holders, holder = holder] { holders->lend_cpu(holder); });
}

LentCpu::~LentCpu() {
  const auto [holders, holder, in_group] = waits_.holder;
  if (holders != nullptr) post(host_, [holders = holders, holder = holder] { holders->reclaim_cpu(holder); });
  running = waits_;
}

}  // namespace trireme::core
