// fib(n) by fork and join: the executor's Work against tbb::task_group, the two interleaved.
//
// Usage: fork_join [n = 30] [threads = 2] [repeats = 7]
// Prints nanoseconds of wall time per fork for each, the median over the repeats, and their ratio.

#include <tbb/global_control.h>
#include <tbb/task_arena.h>
#include <tbb/task_group.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "scheduler/executor.hpp"

namespace {

using trireme::Nanos;
using trireme::SystemClock;
using trireme::scheduler::Executor;
using trireme::scheduler::WaitPoint;
using trireme::scheduler::Work;

Executor* executor = nullptr;

long fib(int n);

struct FibWork : Work {
  explicit FibWork(int number) : Work(&act), n(number) {}
  static void act(Work* self, Do what) {
    auto* work = static_cast<FibWork*>(self);
    if (what == Do::drop) return;
    work->result = fib(work->n);
    work->done.signal();
  }
  int n;
  long result = 0;
  WaitPoint done;
};

long fib(int n) {
  if (n < 2) return n;
  FibWork left(n - 1);
  executor->push(&left);
  const long right = fib(n - 2);
  if (executor->pop_if_newest(&left)) return fib(n - 1) + right;
  executor->wait(left.done);
  return left.result + right;
}

long fib_tbb(int n) {
  if (n < 2) return n;
  long left = 0;
  tbb::task_group group;
  group.run([&left, n] { left = fib_tbb(n - 1); });
  const long right = fib_tbb(n - 2);
  group.wait();
  return left + right;
}

long fib_serial(int n) { return n < 2 ? n : fib_serial(n - 1) + fib_serial(n - 2); }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  const int n = argc > 1 ? std::atoi(argv[1]) : 30;
  const unsigned threads = argc > 2 ? static_cast<unsigned>(std::atoi(argv[2])) : 2;
  const int repeats = argc > 3 ? std::atoi(argv[3]) : 7;

  trireme::scheduler::ExecutorOptions options;
  options.threads = threads;
  Executor pool(options, nullptr);
  executor = &pool;
  pool.start();
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
  tbb::task_arena arena(static_cast<int>(threads));

  const long expected = fib_serial(n);
  const double forks = static_cast<double>(fib_serial(n + 1)) - 1;  // calls with n >= 2
  std::vector<double> ours, theirs;
  for (int i = 0; i <= repeats; ++i) {
    Nanos begin = SystemClock::read();
    FibWork root(n);
    pool.push(&root);
    pool.wait(root.done);
    const double mine = static_cast<double>(SystemClock::read() - begin) / forks;
    begin = SystemClock::read();
    long other = 0;
    arena.execute([&] { other = fib_tbb(n); });
    const double tbbs = static_cast<double>(SystemClock::read() - begin) / forks;
    if (root.result != expected || other != expected) {
      std::fprintf(stderr, "wrong result\n");
      return 1;
    }
    if (i == 0) continue;  // warm-up
    ours.push_back(mine);
    theirs.push_back(tbbs);
  }
  std::printf("fib(%d), %u threads: executor %.1f ns, oneTBB %.1f ns a fork, ratio %.2f\n", n, threads, median(ours),
              median(theirs), median(ours) / median(theirs));
  const Executor::Stats stats = pool.stats();
  std::printf("stolen %llu, fibers made %llu, sleeps %llu, wakes %llu\n", static_cast<unsigned long long>(stats.stolen),
              static_cast<unsigned long long>(stats.fibers_made), static_cast<unsigned long long>(stats.sleeps),
              static_cast<unsigned long long>(stats.wakes));
  pool.stop();
}
