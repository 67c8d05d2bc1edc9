#pragma once

#include <coroutine>
#include <exception>
#include <memory>
#include <optional>

#include "trireme/task.hpp"

namespace trireme {

namespace detail {
/// Queues the coroutine's next step as work on a compute thread.
void resume_later(std::coroutine_handle<> handle);

struct RefAwaiterBase : Waiter {
  explicit RefAwaiterBase(Cell* cell) : cell(cell) {}
  bool await_ready() const { return cell->ready(); }
  void await_suspend(std::coroutine_handle<> caller) {
    handle = caller;
    fire = [](Waiter* self) { resume_later(static_cast<RefAwaiterBase*>(self)->handle); };
    on_ready(cell, this);
  }
  Cell* cell;
  std::coroutine_handle<> handle;
};

template <class T>
struct RefAwaiter : RefAwaiterBase {
  using RefAwaiterBase::RefAwaiterBase;
  T await_resume() const { return Resolved<T>(cell).take(); }
};

template <class T>
struct AsyncPromise;
}  // namespace detail

template <class T>
auto Ref<T>::operator co_await() const {
  detail::require_ref(cell_);
  return detail::RefAwaiter<T>(cell_.get());
}

/// Return type of a task or method that is a coroutine: `co_await` a Ref or another Async, `co_return` the result.
/// While it waits it holds no thread; an actor of concurrency 1 still takes its next call only after it returned.
template <class T>
class [[nodiscard]] Async {
 public:
  using promise_type = detail::AsyncPromise<T>;
  using Handle = std::coroutine_handle<promise_type>;
  explicit Async(Handle handle) : handle_(handle) {}
  Async(Async&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Async& operator=(Async&&) = delete;
  ~Async() {
    if (handle_) handle_.destroy();
  }
  Handle release() { return std::exchange(handle_, nullptr); }

  bool await_ready() const noexcept { return false; }
  std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) noexcept;
  T await_resume();

 private:
  Handle handle_;
};

namespace detail {

struct AsyncFinal {
  bool await_ready() const noexcept { return false; }
  template <class P>
  std::coroutine_handle<> await_suspend(std::coroutine_handle<P> done) noexcept {
    return done.promise().finished(done);
  }
  void await_resume() const noexcept {}
};

template <class T>
struct AsyncPromiseBase {
  using Value = typename ValueOf<T>::type;
  std::suspend_always initial_suspend() noexcept { return {}; }
  AsyncFinal final_suspend() noexcept { return {}; }
  void unhandled_exception() { error = std::current_exception(); }

  std::coroutine_handle<> finished(std::coroutine_handle<> self) noexcept {
    if (caller) return caller;
    // The outermost coroutine: its result is the invocation's.
    if (error) {
      try {
        std::rethrow_exception(error);
      } catch (...) {
        auto* failed = static_cast<Invocation*>(call.get());
        fail_invocation(failed, current_exception_info(failed->function->name));
      }
    } else {
      done(call.get(), &*value);
    }
    const CellRef keep = std::move(call);
    after_async(keep.get());
    self.destroy();
    return std::noop_coroutine();
  }

  static void after_async(Cell* call);
  std::coroutine_handle<> caller;
  CellRef call;
  void (*done)(Cell*, Value*) = nullptr;
  std::optional<Value> value;
  std::exception_ptr error;
};

/// Tells the actor that its running call ended.
void async_call_ended(Cell* call);
template <class T>
void AsyncPromiseBase<T>::after_async(Cell* call) {
  async_call_ended(call);
}

template <class T>
struct AsyncPromise : AsyncPromiseBase<T> {
  Async<T> get_return_object() { return Async<T>(std::coroutine_handle<AsyncPromise>::from_promise(*this)); }
  template <class V>
  void return_value(V&& value) {
    this->value.emplace(std::forward<V>(value));
  }
};
template <>
struct AsyncPromise<void> : AsyncPromiseBase<void> {
  Async<void> get_return_object() { return Async<void>(std::coroutine_handle<AsyncPromise>::from_promise(*this)); }
  void return_void() { value.emplace(); }
};

template <class T, class V>
void start_async(Async<T> body, CellRef call, void (*done)(Cell*, V*)) {
  auto handle = body.release();
  handle.promise().call = std::move(call);
  handle.promise().done = done;
  handle.resume();
}

}  // namespace detail

template <class T>
std::coroutine_handle<> Async<T>::await_suspend(std::coroutine_handle<> caller) noexcept {
  handle_.promise().caller = caller;
  return handle_;
}
template <class T>
T Async<T>::await_resume() {
  if (handle_.promise().error) std::rethrow_exception(handle_.promise().error);
  if constexpr (!std::is_void_v<T>) return std::move(*handle_.promise().value);
}

}  // namespace trireme
