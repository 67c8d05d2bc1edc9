#pragma once

#include <doctest/doctest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <functional>
#include <mutex>
#include <vector>

#include "base/clock.hpp"
#include "scheduler/progress.hpp"

namespace trireme::scheduler::testing {

/// A transport in memory: a mailbox that rings an eventfd when it is armed, and one timer.
/// Any entry by two threads at once is counted in `intrusions`.
class Mailbox : public Pollable {
 public:
  Mailbox() : event_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { REQUIRE(event_ >= 0); }
  ~Mailbox() override { close(event_); }

  /// From any thread: as if a peer had sent it. Rings at most once per arming, as the real ones do.
  void deliver(std::function<void()> message) {
    {
      const std::lock_guard<std::mutex> guard(lock_);
      messages_.push_back(std::move(message));
    }
    if (armed_.exchange(false)) ring();
  }
  void ring() const {
    const std::uint64_t one = 1;
    CHECK(write(event_, &one, sizeof one) == sizeof one);
  }
  bool armed() const { return armed_.load(); }

  // Under the token.
  Nanos deadline = kForever;
  std::function<void()> on_deadline;

  int poll() override {
    const Inside inside(*this);
    int events = 0;
    if (deadline != kForever && SystemClock::read() >= deadline) {
      deadline = kForever;
      ++events;
      on_deadline();
    }
    for (;;) {
      std::function<void()> message;
      {
        const std::lock_guard<std::mutex> guard(lock_);
        if (messages_.empty()) return events;
        message = std::move(messages_.front());
        messages_.pop_front();
      }
      message();
      ++events;
    }
  }
  void flush() override {
    const Inside inside(*this);
    flushes.fetch_add(1);
  }
  bool arm() override {
    const Inside inside(*this);
    armed_.store(true);
    const std::lock_guard<std::mutex> guard(lock_);
    if (messages_.empty()) return true;
    armed_.store(false);
    return false;
  }
  void disarm() override {
    const Inside inside(*this);
    armed_.store(false);
    std::uint64_t ignored = 0;
    static_cast<void>(!read(event_, &ignored, sizeof ignored));
  }
  Nanos next_deadline() const override { return deadline; }
  std::vector<int> event_fds() const override { return {event_}; }

  std::atomic<int> flushes{0};
  std::atomic<int> intrusions{0};

 private:
  struct Inside {
    explicit Inside(Mailbox& box) : mailbox(box) {
      if (mailbox.inside_.fetch_add(1) != 0) mailbox.intrusions.fetch_add(1);
    }
    ~Inside() { mailbox.inside_.fetch_sub(1); }
    Mailbox& mailbox;
  };

  int event_;
  std::mutex lock_;
  std::deque<std::function<void()>> messages_;
  std::atomic<bool> armed_{false};
  std::atomic<int> inside_{0};
};

/// A command that owns a function and deletes itself.
struct Step : Command {
  explicit Step(std::function<void()> function) : body(std::move(function)) {
    run = [](Command* self) {
      auto* step = static_cast<Step*>(self);
      step->body();
      delete step;
    };
  }
  std::function<void()> body;
};

}  // namespace trireme::scheduler::testing
