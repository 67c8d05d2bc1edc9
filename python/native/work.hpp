#pragma once

#include <memory>
#include <utility>

#include "core/context.hpp"

namespace trireme::python {

/// Runs `step` on a compute thread, where it may wait.
template <class F>
void push_work(core::Host& host, F step) {
  struct Step final : scheduler::Work {
    explicit Step(F f) : Work(&Step::act), step(std::move(f)) {}
    F step;
    static void act(scheduler::Work* work, Do) {
      const std::unique_ptr<Step> self(static_cast<Step*>(work));
      self->step();
    }
  };
  host.push(new Step(std::move(step)));
}

/// Runs `then` once the value is in this rank: at once, or on the thread that brings it. Must not block.
template <class F>
void when_ready(const detail::CellRef& cell, F then) {
  struct Ready final : detail::Waiter {
    explicit Ready(F f) : then(std::move(f)) {
      fire = [](Waiter* waiter) {
        const std::unique_ptr<Ready> self(static_cast<Ready*>(waiter));
        self->then();
      };
    }
    F then;
  };
  detail::on_ready(cell.get(), new Ready(std::move(then)));
}

}  // namespace trireme::python
