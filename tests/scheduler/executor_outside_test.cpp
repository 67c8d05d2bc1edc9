// Threads outside the pool: they wait, compute in place, and keep compute threads from their cores.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "scheduler/executor.hpp"
#include "tests/scheduler/executor_fixture.hpp"

using namespace trireme;
using namespace trireme::scheduler;
using namespace trireme::scheduler::testing;

TEST_CASE("foreign threads wait and are woken") {
  Pool pool(2);
  const int rounds = kInstrumented ? 200 : 2000;
  std::vector<std::thread> outside;
  std::atomic<int> finished{0};
  for (int t = 0; t < 4; ++t) {
    outside.emplace_back([&] {
      for (int i = 0; i < rounds; ++i) {
        WaitPoint point;
        Job job([&] { point.signal(); });
        pool.executor.push(&job);
        pool.executor.wait(point);
        job.wait_until_released();
        finished.fetch_add(1);
      }
    });
  }
  for (auto& thread : outside) thread.join();
  CHECK(finished.load() == 4 * rounds);
}

TEST_CASE("what a foreign thread ran in place does not pile up while the compute threads are busy") {
  Pool pool(1);
  Gate gate(pool);
  std::vector<int> order;
  Jobs live;
  for (int i = 0; i < 3; ++i) live.push_back(std::make_unique<Job>([&order, i] { order.push_back(i); }));
  Jobs jobs;
  for (int i = 0; i < 5000; ++i) {
    jobs.push_back(std::make_unique<Job>([] { FAIL("claimed by its pusher, must not run"); }));
  }
  std::size_t most = 0;
  for (int i = 0; i < 5000; ++i) {
    if (i % 100 == 0 && i / 100 < 3) pool.executor.push(live[i / 100].get());
    pool.executor.push(jobs[i].get());
    CHECK(pool.executor.claim(jobs[i].get()));
    most = std::max(most, pool.executor.queued());
  }
  CHECK(most <= 512);
  gate.open();
  jobs.wait_until_released();
  live.wait_until_released();
  CHECK(order == std::vector<int>{0, 1, 2});
  for (const auto& job : jobs) CHECK(job->drops.load() == 1);
}

TEST_CASE("a thread retires while a foreign thread computes in its place") {
  Pool pool(1);
  Gate gate(pool);
  std::atomic<int> ran{0};
  Jobs jobs;
  for (int i = 0; i < 10; ++i) jobs.push_back(std::make_unique<Job>([&] { ran.fetch_add(1); }));
  for (auto& job : jobs) pool.executor.push(job.get());
  pool.executor.begin_in_place();
  gate.open();
  // At its next task boundary the only compute thread stands aside, with work queued.
  while (pool.executor.idle_threads() != 1) std::this_thread::yield();
  CHECK(pool.executor.queued() == 10);
  CHECK(ran.load() == 0);
  pool.executor.end_in_place();
  jobs.wait_until_released();
  CHECK(ran.load() == 10);
}

TEST_CASE("a retired thread comes back when works pile up") {
  Pool pool(1);
  Gate gate(pool);
  std::atomic<int> ran{0};
  Jobs jobs;
  for (int i = 0; i < 6000; ++i) jobs.push_back(std::make_unique<Job>([&] { ran.fetch_add(1); }));
  pool.executor.begin_in_place();
  pool.executor.push(jobs[0].get());
  gate.open();
  while (pool.executor.idle_threads() != 1) std::this_thread::yield();
  CHECK(ran.load() == 0);
  // The bracket stays open: only the number of works can bring the thread back.
  for (int i = 1; i < 6000; ++i) pool.executor.push(jobs[i].get());
  while (ran.load() < 1000) std::this_thread::yield();
  pool.executor.end_in_place();
  jobs.wait_until_released();
  CHECK(ran.load() == 6000);
}

TEST_CASE("a foreign thread that waits inside its bracket gives the core back") {
  Pool pool(1);
  pool.executor.begin_in_place();
  for (int i = 0; i < 100; ++i) {
    WaitPoint point;
    Job first([] {});
    Job job([&] { point.signal(); });
    pool.executor.push(&first);
    pool.executor.push(&job);
    pool.executor.wait(point);
    first.wait_until_released();
    job.wait_until_released();
  }
  pool.executor.end_in_place();
}

TEST_CASE("a retired thread still resumes its fibers") {
  Pool pool(1);
  WaitPoint point;
  WaitPoint done;
  std::atomic<bool> waiting{false};
  Job waiter([&] {
    waiting.store(true);
    pool.executor.wait(point);
    done.signal();
  });
  pool.executor.push(&waiter);
  while (!waiting.load()) std::this_thread::yield();
  pool.executor.begin_in_place();
  Job boundary([] {});
  pool.executor.push(&boundary);
  boundary.wait_until_released();
  point.signal();
  while (!done.signalled()) std::this_thread::yield();
  pool.executor.end_in_place();
  waiter.wait_until_released();
}
