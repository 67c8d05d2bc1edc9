#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "scheduler/executor.hpp"
#include "scheduler/progress.hpp"

namespace trireme::scheduler::testing {

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif
#else
inline constexpr bool kThreadSanitizer = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kInstrumented = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool kInstrumented = true;
#else
inline constexpr bool kInstrumented = kThreadSanitizer;
#endif
#else
inline constexpr bool kInstrumented = kThreadSanitizer;
#endif

/// A function as a Work. It must outlive its queue entry: wait_until_released().
struct Job : Work {
  explicit Job(std::function<void()> function, bool may_leave = false)
      : Work(&act, may_leave), body(std::move(function)) {}

  static void act(Work* self, Do what) {
    auto* job = static_cast<Job*>(self);
    if (what == Do::run) {
      job->body();
    } else {
      job->drops.fetch_add(1);
    }
    job->released.store(true);
  }
  void wait_until_released() const {
    while (!released.load()) std::this_thread::yield();
  }

  std::function<void()> body;
  std::atomic<int> drops{0};
  std::atomic<bool> released{false};
};

/// Jobs that all run or are dropped before the scope ends.
struct Jobs : std::vector<std::unique_ptr<Job>> {
  Jobs() = default;
  Jobs(const Jobs&) = delete;
  Jobs& operator=(const Jobs&) = delete;
  ~Jobs() { wait_until_released(); }
  void wait_until_released() const {
    for (const auto& job : *this) job->wait_until_released();
  }
};

/// A started executor that stops at the end of the scope.
struct Pool {
  explicit Pool(ExecutorOptions options, ProgressEngine* progress = nullptr) : executor(std::move(options), progress) {
    executor.start();
  }
  explicit Pool(unsigned threads, ProgressEngine* progress = nullptr) : Pool(with(threads), progress) {}

  static ExecutorOptions with(unsigned threads) {
    ExecutorOptions options;
    options.threads = threads;
    return options;
  }

  /// Runs `body` on a compute thread and returns when it has ended.
  void run(std::function<void()> body) {
    WaitPoint done;
    Job job([&] {
      body();
      done.signal();
    });
    executor.push(&job);
    executor.wait(done);
    job.wait_until_released();
  }

  Executor executor;
};

/// A work that keeps a compute thread busy from its construction until open().
class Gate {
 public:
  explicit Gate(Pool& pool) : job_([this] { wait(); }) {
    pool.executor.push(&job_);
    while (!job_.claimed.load()) std::this_thread::yield();
  }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  ~Gate() {
    open();
    job_.wait_until_released();
  }
  void open() { open_.store(true); }

 private:
  void wait() const {
    while (!open_.load()) std::this_thread::yield();
  }
  std::atomic<bool> open_{false};
  Job job_;
};

inline long fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

/// fib(n) by fork and join, the forked half on the stack of its parent.
struct Fork : Work {
  Fork(Executor& pool, int number) : Work(&act), executor(pool), n(number) {}
  static void act(Work* self, Do) {
    auto* fork = static_cast<Fork*>(self);
    fork->result = compute(fork->executor, fork->n);
    fork->done.signal();
  }
  static long compute(Executor& executor, int n) {
    if (n < 2) return n;
    Fork left(executor, n - 1);
    executor.push(&left);
    const long right = compute(executor, n - 2);
    if (executor.pop_if_newest(&left)) return right + compute(executor, n - 1);
    executor.wait(left.done);
    return right + left.result;
  }

  Executor& executor;
  int n;
  long result = 0;
  WaitPoint done;
};

}  // namespace trireme::scheduler::testing
