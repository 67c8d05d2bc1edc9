#include "core/running_calls.hpp"

#include "core/running.hpp"

namespace trireme::core {

RunningCalls::Call::Call(RunningCalls& table, std::uint64_t key)
    : table_(table), key_(key), before_(set_running_call(this)) {
  const std::lock_guard lock(table_.mutex_);
  may_begin_ = !table_.cancelled_.take(key_);
  if (may_begin_) table_.calls_[key_] = this;
}

RunningCalls::Call::~Call() {
  set_running_call(before_);
  if (!may_begin_) return;
  const std::lock_guard lock(table_.mutex_);
  table_.calls_.erase(key_);
}

bool RunningCalls::cancel(std::uint64_t key) {
  const std::lock_guard lock(mutex_);
  const auto at = calls_.find(key);
  if (at == calls_.end()) {
    cancelled_.remember(key);
    return false;
  }
  at->second->asked_.store(true, std::memory_order_relaxed);
  return true;
}

Bytes RunningCalls::note() const {
  const std::lock_guard lock(mutex_);
  return cancelled_.write();
}

std::size_t RunningCalls::running() const {
  const std::lock_guard lock(mutex_);
  return calls_.size();
}

void RunningCalls::hear(BytesView note) {
  const std::lock_guard lock(mutex_);
  cancelled_.read(note);
}

}  // namespace trireme::core
