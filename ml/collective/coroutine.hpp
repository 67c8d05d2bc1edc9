#pragma once

#include <coroutine>
#include <exception>
#include <utility>

#include "base/block_cache.hpp"

namespace trireme::ml {

/// Refers to a condition that outlives it: any callable without arguments that returns bool.
class Condition {
 public:
  template <class F>
  Condition(const F& holds)
      : holds_([](const void* state) { return static_cast<bool>((*static_cast<const F*>(state))()); }),
        state_(&holds) {}
  bool operator()() const { return holds_(state_); }

 private:
  bool (*holds_)(const void*);
  const void* state_;
};

/// The wait of a suspended algorithm: it goes on when `ready` says so.
struct Suspended {
  bool (*ready)(void* state) = nullptr;
  void* state = nullptr;
  std::coroutine_handle<> handle;
};

/// An algorithm that waits without holding its thread: a coroutine that starts when awaited or resumed first.
/// Destroying it destroys what it awaits. Threading: one owner.
class [[nodiscard]] Task {
 public:
  struct promise_type;
  using Handle = std::coroutine_handle<promise_type>;
  struct Final {
    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(Handle done) const noexcept;
    void await_resume() const noexcept {}
  };
  struct promise_type : CachedBlock {  // the frame too
    std::coroutine_handle<> caller;
    Task get_return_object() { return Task(Handle::from_promise(*this)); }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    Final final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const noexcept { std::terminate(); }  // out of memory only
  };

  Task() = default;
  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Task& operator=(Task&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }
  explicit operator bool() const { return static_cast<bool>(handle_); }
  bool done() const { return handle_.done(); }
  void start() { handle_.resume(); }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) noexcept {
    handle_.promise().caller = caller;
    return handle_;
  }
  void await_resume() const noexcept {}

 private:
  Handle handle_;
};

inline std::coroutine_handle<> Task::Final::await_suspend(Handle done) const noexcept {
  const auto caller = done.promise().caller;
  return caller ? caller : std::noop_coroutine();
}

/// `co_await Until(slot, predicate)`: suspends until the predicate holds, noting the wait in `slot`.
template <class Predicate>
class Until {
 public:
  Until(Suspended& slot, Predicate predicate) : slot_(slot), predicate_(std::move(predicate)) {}
  bool await_ready() { return predicate_(); }
  void await_suspend(std::coroutine_handle<> handle) {
    slot_ = {[](void* self) { return static_cast<Until*>(self)->predicate_(); }, this, handle};
  }
  void await_resume() { slot_ = {}; }

 private:
  Suspended& slot_;
  Predicate predicate_;
};

}  // namespace trireme::ml
