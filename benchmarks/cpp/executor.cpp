// The executor alone: many works from one outside thread, the round trip to a sleeping and to a spinning compute
// thread, a wait that changes fibers, and the CPU time of an idle executor with its progress engine.
//
// Usage: executor [threads = 2] [works = 1000000]

#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "scheduler/executor.hpp"
#include "scheduler/progress.hpp"

namespace {

using namespace trireme;
using namespace trireme::scheduler;

/// A transport on which nothing ever happens.
struct Silence : Pollable {
  int poll() override { return 0; }
  void flush() override {}
  bool arm() override { return true; }
  void disarm() override {}
  Nanos next_deadline() const override { return kForever; }
  std::vector<int> event_fds() const override { return {fd}; }
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
};

struct Count : Work {
  Count() : Work(&act) {}
  static void act(Work* self, Do) {
    auto* work = static_cast<Count*>(self);
    if (work->left->fetch_sub(1, std::memory_order_acq_rel) == 1) work->done->signal();
  }
  std::atomic<long>* left = nullptr;
  WaitPoint* done = nullptr;
};

struct Signal : Work {
  explicit Signal(WaitPoint& target) : Work(&act), point(target) {}
  static void act(Work* self, Do) { static_cast<Signal*>(self)->point.signal(); }
  WaitPoint& point;
};

struct Switches : Work {
  Switches(Executor& pool, int number) : Work(&act), executor(pool), rounds(number) {}
  static void act(Work* self, Do) {
    auto* work = static_cast<Switches*>(self);
    const Nanos begin = SystemClock::read();
    for (int i = 0; i < work->rounds; ++i) {
      WaitPoint point;
      Signal other(point);
      work->executor.push(&other);
      work->executor.wait(point);
    }
    work->each = static_cast<double>(SystemClock::read() - begin) / work->rounds;
    work->done.signal();
  }
  Executor& executor;
  int rounds;
  double each = 0;
  WaitPoint done;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Nanos cpu_time() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * kSecond +
         (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1000;
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned threads = argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 2;
  const long works = argc > 2 ? std::atol(argv[2]) : 1'000'000;
  Silence silence;
  ProgressEngine engine(silence);
  ExecutorOptions options;
  options.threads = threads;
  Executor pool(options, &engine);
  engine.start();
  pool.start();

  std::vector<double> pushes, totals;
  for (int repeat = 0; repeat < 7; ++repeat) {
    std::atomic<long> left{works};
    WaitPoint done;
    std::vector<Count> all(static_cast<std::size_t>(works));
    for (Count& work : all) {
      work.left = &left;
      work.done = &done;
    }
    const Nanos begin = SystemClock::read();
    for (Count& work : all) pool.push(&work);
    pushes.push_back(static_cast<double>(SystemClock::read() - begin) / static_cast<double>(works));
    pool.wait(done);
    totals.push_back(static_cast<double>(SystemClock::read() - begin) / static_cast<double>(works));
    while (pool.idle_threads() != threads) std::this_thread::yield();
  }
  std::printf("%ld works from outside: %.1f ns a push, %.1f ns a work until all ran\n", works, median(pushes),
              median(totals));

  for (bool asleep : {false, true}) {
    std::vector<double> trips;
    for (int i = 0; i < 2000; ++i) {
      if (asleep) usleep(300);
      WaitPoint point;
      Signal work(point);
      const Nanos begin = SystemClock::read();
      pool.push(&work);
      pool.wait(point);
      trips.push_back(static_cast<double>(SystemClock::read() - begin));
      while (pool.idle_threads() != threads) std::this_thread::yield();
    }
    std::printf("round trip to a %s thread: %.2f us\n", asleep ? "sleeping" : "spinning", median(trips) / 1000);
  }

  Switches switches(pool, 1'000'000);
  pool.push(&switches);
  pool.wait(switches.done);
  std::printf("push, wait on another fiber, signal, resume: %.1f ns\n", switches.each);

  while (pool.idle_threads() != threads) std::this_thread::yield();
  usleep(10'000);
  const Nanos before = cpu_time();
  const auto wakes = engine.stats().wakes;
  usleep(2'000'000);
  std::printf("idle: %.3f %% of a core, %llu wake-ups of the progress thread in 2 s\n",
              100.0 * static_cast<double>(cpu_time() - before) / 2e9,
              static_cast<unsigned long long>(engine.stats().wakes - wakes));
  pool.stop();
  engine.stop();
}
