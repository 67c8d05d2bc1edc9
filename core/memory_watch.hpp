#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "objstore/store.hpp"
#include "scheduler/progress.hpp"

namespace trireme::core {

/// Says so when objects wait long for room in the arena and none of them gets it: what fills it may be held by the very
/// program that waits for them. After 10 s, then after twice as long each time, up to 5 minutes.
///
/// Threading: under the token.
class MemoryWatch final : public scheduler::Pollable {
 public:
  static constexpr Nanos kPatience = 10 * kSecond;
  static constexpr Nanos kRarest = 300 * kSecond;

  MemoryWatch(const objstore::Store& store, const Clock& clock, std::function<void(const std::string&)> say)
      : store_(store), clock_(clock), say_(std::move(say)) {}
  /// An object begins to wait (objstore::StoreOptions::on_waiting).
  void begin();

  int poll() override;
  void flush() override {}
  bool arm() override { return true; }
  void disarm() override {}
  Nanos next_deadline() const override { return due_; }
  std::vector<int> event_fds() const override { return {}; }

 private:
  void look_again_after(Nanos patience);

  const objstore::Store& store_;
  const Clock& clock_;
  const std::function<void(const std::string&)> say_;
  Nanos due_ = kForever;
  Nanos since_ = 0;  // of the wait, or of the last object that got its room
  Nanos patience_ = kPatience;
  std::uint64_t served_ = 0;
};

}  // namespace trireme::core
