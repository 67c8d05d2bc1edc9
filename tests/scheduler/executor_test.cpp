#include "scheduler/executor.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "base/rng.hpp"
#include "tests/scheduler/executor_fixture.hpp"

using namespace trireme;
using namespace trireme::scheduler;
using namespace trireme::scheduler::testing;

TEST_CASE("fork and join gives the serial answer") {
  for (unsigned threads : {1U, 2U, 4U}) {
    CAPTURE(threads);
    Pool pool(threads);
    Fork root(pool.executor, kInstrumented ? 15 : 22);
    pool.executor.push(&root);
    pool.executor.wait(root.done);
    CHECK(root.result == fib(root.n));
  }
}

TEST_CASE("many works from outside all run once") {
  Pool pool(2);
  const int count = kInstrumented ? 20'000 : 200'000;
  std::atomic<int> left{count};
  WaitPoint done;
  Jobs jobs;
  std::vector<std::atomic<int>> ran(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) {
    jobs.push_back(std::make_unique<Job>([&, i] {
      ran[static_cast<std::size_t>(i)].fetch_add(1);
      if (left.fetch_sub(1) == 1) done.signal();
    }));
  }
  for (auto& job : jobs) pool.executor.push(job.get());
  pool.executor.wait(done);
  int wrong = 0;
  for (auto& times : ran) wrong += times.load() != 1 ? 1 : 0;
  CHECK(wrong == 0);
}

TEST_CASE("works that were stolen together are stolen again when their thief is held by the first of them") {
  constexpr int kWorks = 40;
  Pool pool(3);
  for (int round = 0; round < (kInstrumented ? 50 : 500); ++round) {
    std::atomic<int> others{kWorks - 1};
    std::atomic<int> ran{0};
    std::binary_semaphore others_ran(0);
    std::counting_semaphore<2> all_ran(0);
    Jobs jobs;
    // The oldest, which a thief takes first, holds its thread until all others ran.
    jobs.push_back(std::make_unique<Job>([&] {
      others_ran.acquire();
      if (ran.fetch_add(1) == kWorks - 1) all_ran.release(2);
    }));
    for (int i = 1; i < kWorks; ++i) {
      jobs.push_back(std::make_unique<Job>([&] {
        if (others.fetch_sub(1) == 1) others_ran.release();
        if (ran.fetch_add(1) == kWorks - 1) all_ran.release(2);
      }));
    }
    // Whoever made them is held, too: only thieves can run them.
    Job maker([&] {
      for (auto& job : jobs) pool.executor.push(job.get());
      all_ran.acquire();
    });
    pool.executor.push(&maker);
    all_ran.acquire();
    maker.wait_until_released();
    for (auto& job : jobs) job->wait_until_released();
    REQUIRE(ran.load() == kWorks);
  }
}

TEST_CASE("waits nest 10,000 deep, each on its own fiber") {
  const int depth = kThreadSanitizer ? 500 : 10'000;
  Pool pool(2);
  // Every level waits for the next one, which it pushed behind a decoy, so that it cannot run it in place.
  std::atomic<int> deepest{0};
  struct Level {
    std::unique_ptr<Job> job;
    WaitPoint done;
  };
  std::vector<Level> levels(static_cast<std::size_t>(depth));
  for (int i = 0; i < depth; ++i) {
    levels[static_cast<std::size_t>(i)].job = std::make_unique<Job>([&, i] {
      deepest.store(std::max(deepest.load(), i));
      if (i + 1 < depth) {
        Level& next = levels[static_cast<std::size_t>(i + 1)];
        pool.executor.push(next.job.get());
        pool.executor.wait(next.done);
      }
      levels[static_cast<std::size_t>(i)].done.signal();
    });
  }
  pool.executor.push(levels[0].job.get());
  pool.executor.wait(levels[0].done);
  for (auto& level : levels) level.job->wait_until_released();
  CHECK(deepest.load() == depth - 1);
  CHECK(pool.executor.stats().fibers_made >= static_cast<std::uint64_t>(depth) - 2);
}

TEST_CASE("a task may wait inside a catch block while other tasks throw") {
  Pool pool(1);
  const int count = 50;
  std::atomic<int> right{0};
  std::atomic<int> left{count};
  WaitPoint all;
  Jobs jobs;
  for (int i = 0; i < count; ++i) {
    jobs.push_back(std::make_unique<Job>([&, i] {
      const std::string mine = "error " + std::to_string(i);
      try {
        throw std::runtime_error(mine);
      } catch (const std::exception&) {
        WaitPoint point;
        Job other([&] {
          try {
            throw std::logic_error("another");
          } catch (const std::exception&) {
            point.signal();
          }
        });
        pool.executor.push(&other);
        pool.executor.wait(point);
        other.wait_until_released();
        try {
          throw;
        } catch (const std::exception& again) {
          if (again.what() == mine) right.fetch_add(1);
        }
      }
      if (std::current_exception() != nullptr) right.fetch_sub(1000);
      if (left.fetch_sub(1) == 1) all.signal();
    }));
  }
  for (auto& job : jobs) pool.executor.push(job.get());
  pool.executor.wait(all);
  CHECK(right.load() == count);
}

TEST_CASE("a fiber goes on, on the thread where it waited") {
  Pool pool(3);
  const int count = 300;
  std::atomic<int> moved{0};
  std::atomic<int> left{count};
  WaitPoint all;
  Jobs jobs;
  for (int i = 0; i < count; ++i) {
    jobs.push_back(std::make_unique<Job>([&] {
      const auto before = std::this_thread::get_id();
      WaitPoint point;
      std::thread outside([&] { point.signal(); });
      pool.executor.wait(point);
      if (std::this_thread::get_id() != before) moved.fetch_add(1);
      outside.join();
      if (left.fetch_sub(1) == 1) all.signal();
    }));
  }
  for (auto& job : jobs) pool.executor.push(job.get());
  pool.executor.wait(all);
  CHECK(moved.load() == 0);
}

TEST_CASE("the newest work comes back to the thread that pushed it, an older one does not") {
  Pool pool(1);
  bool older = true;
  bool newer = false;
  bool ran = false;
  Job first([&] { ran = true; });
  Job second([] { FAIL("claimed by its pusher, must not run"); });
  pool.run([&] {
    pool.executor.push(&first);
    pool.executor.push(&second);
    older = pool.executor.pop_if_newest(&first);
    newer = pool.executor.pop_if_newest(&second);
  });
  first.wait_until_released();
  CHECK_FALSE(older);
  CHECK(newer);
  CHECK(ran);
}

TEST_CASE("a work claimed elsewhere is dropped once") {
  Pool pool(1);
  Gate gate(pool);
  Job job([] { FAIL("claimed, must not run"); });
  pool.executor.push(&job);
  CHECK(job.claim());
  gate.open();
  job.wait_until_released();
  CHECK(job.drops.load() == 1);
}

TEST_CASE("what was run in place leaves no entry behind once the newest comes back") {
  Pool pool(1);
  std::vector<std::unique_ptr<Job>> jobs;
  for (int i = 0; i < 50; ++i)
    jobs.push_back(std::make_unique<Job>([] { FAIL("claimed by its pusher, must not run"); }));
  std::atomic<bool> live_ran{false};
  Job live([&] { live_ran.store(true); });
  int dropped = 0;
  bool newest = false;
  bool early = true;
  pool.run([&] {
    pool.executor.push(&live);
    for (const auto& job : jobs) pool.executor.push(job.get());
    for (std::size_t i = 0; i + 1 < jobs.size(); ++i) {
      if (!pool.executor.claim(jobs[i].get())) return;
    }
    newest = pool.executor.pop_if_newest(jobs.back().get());
    for (const auto& job : jobs) dropped += job->drops.load();
    early = live_ran.load();
  });
  live.wait_until_released();
  CHECK(newest);
  CHECK(dropped == 49);
  CHECK_FALSE(early);  // what nobody claimed stays where it was
  CHECK(live_ran.load());
}

TEST_CASE("work that gives way lets the others pass") {
  Pool pool(1);
  std::vector<int> order;
  Job third([&] { order.push_back(3); });
  Job second([&] { order.push_back(2); });
  Job first([&] { order.push_back(1); });
  pool.run([&] {
    pool.executor.push_back_of_line(&third);
    pool.executor.push(&second);
    pool.executor.push(&first);
  });
  third.wait_until_released();
  CHECK(order == std::vector<int>{1, 2, 3});
}

TEST_CASE("a wait with a deadline ends at the deadline or with the signal") {
  Pool pool(2);
  SUBCASE("of a foreign thread") {
    WaitPoint never;
    CHECK_FALSE(pool.executor.wait_until(never, SystemClock::read() + kMillisecond));
    never.signal();
    WaitPoint past;
    CHECK_FALSE(pool.executor.wait_until(past, SystemClock::read() - kSecond));
    WaitPoint now;
    now.signal();
    CHECK(pool.executor.wait_until(now, SystemClock::read() - kSecond));
  }
  SUBCASE("of a task") {
    bool late = true;
    bool past = true;
    bool in_time = false;
    pool.run([&] {
      WaitPoint never;
      late = pool.executor.wait_until(never, SystemClock::read() + kMillisecond);
      never.signal();
      WaitPoint gone;
      past = pool.executor.wait_until(gone, SystemClock::read() - kSecond);
      WaitPoint point;
      Job job([&] { point.signal(); });
      pool.executor.push(&job);
      in_time = pool.executor.wait_until(point, SystemClock::read() + 100 * kSecond);
      job.wait_until_released();
    });
    CHECK_FALSE(late);
    CHECK_FALSE(past);
    CHECK(in_time);
  }
}

TEST_CASE("deadlines that race with signals end each wait exactly once") {
  Pool pool(2);
  const int rounds = kInstrumented ? 300 : 2000;
  Rng rng(5);
  std::atomic<int> signals{0};
  for (int i = 0; i < rounds; ++i) {
    auto point = std::make_unique<WaitPoint>();
    std::atomic<bool> begun{false};
    const auto delay = static_cast<Nanos>(rng.below(60)) * kMicrosecond;
    std::thread outside([&] {
      while (!begun.load()) std::this_thread::yield();
      point->signal();
    });
    bool signalled = false;
    const auto body = [&] {
      begun.store(true);
      signalled = pool.executor.wait_until(*point, SystemClock::read() + delay);
    };
    if (i % 2 == 0) {
      pool.run(body);
    } else {
      body();
    }
    outside.join();
    signals += signalled ? 1 : 0;
    REQUIRE(point->signalled());
  }
  MESSAGE("signalled before the deadline: ", signals.load(), " of ", rounds);
}

TEST_CASE("with no fiber left, tasks go on as those before them finish") {
  ExecutorOptions options;
  options.threads = 2;
  options.fibers_max = 6;
  Pool pool(options);
  const int count = 200;
  // All wait for a foreign thread, which signals in order of arrival.
  std::vector<WaitPoint> points(static_cast<std::size_t>(count));
  std::vector<std::atomic<bool>> arrived(static_cast<std::size_t>(count));
  std::atomic<int> left{count};
  WaitPoint all;
  Jobs jobs;
  for (int i = 0; i < count; ++i) {
    jobs.push_back(std::make_unique<Job>([&, i] {
      arrived[static_cast<std::size_t>(i)].store(true);
      pool.executor.wait(points[static_cast<std::size_t>(i)]);
      if (left.fetch_sub(1) == 1) all.signal();
    }));
  }
  for (auto& job : jobs) pool.executor.push(job.get());
  std::vector<bool> signalled(static_cast<std::size_t>(count));
  for (int open = count; open > 0;) {
    for (std::size_t i = 0; i < signalled.size(); ++i) {
      if (signalled[i] || !arrived[i].load()) continue;
      signalled[i] = true;
      points[i].signal();
      --open;
    }
    std::this_thread::yield();
  }
  pool.executor.wait(all);
  CHECK(pool.executor.stats().fibers_alive <= 6);
}

TEST_CASE("exportable works leave oldest first, the others stay and run") {
  Pool pool(1);
  Gate gate(pool);
  Jobs jobs;
  std::atomic<int> ran{0};
  for (int i = 0; i < 10; ++i) {
    jobs.push_back(std::make_unique<Job>([&] { ran.fetch_add(1); }, i % 2 == 1));
    pool.executor.push(jobs.back().get());
  }
  CHECK(jobs[3]->claim());  // runs elsewhere: its entry is dropped, not exported
  std::vector<Work*> out;
  CHECK(pool.executor.take_exportable(3, out) == 3);
  CHECK(out == std::vector<Work*>{jobs[1].get(), jobs[5].get(), jobs[7].get()});
  for (Work* work : out) {
    CHECK(work->claimed.load());
    work->action(work, Work::Do::drop);
  }
  CHECK(pool.executor.queued() == 6);
  gate.open();
  jobs.wait_until_released();
  CHECK(ran.load() == 6);
}

TEST_CASE("exportable works in a thread's own deque can be taken while it runs") {
  Pool pool(1);
  Jobs jobs;
  std::atomic<int> ran{0};
  for (int i = 0; i < 10; ++i) jobs.push_back(std::make_unique<Job>([&] { ran.fetch_add(1); }, i % 2 == 1));
  std::atomic<bool> pushed{false};
  std::atomic<bool> go{false};
  Job gate([&] {
    for (auto& job : jobs) pool.executor.push(job.get());
    pushed.store(true);
    while (!go.load()) std::this_thread::yield();
  });
  pool.executor.push(&gate);
  while (!pushed.load()) std::this_thread::yield();
  std::vector<Work*> out;
  CHECK(pool.executor.take_exportable(2, out) == 2);
  CHECK(out == std::vector<Work*>{jobs[1].get(), jobs[3].get()});
  for (Work* work : out) work->action(work, Work::Do::drop);
  CHECK(pool.executor.queued() == 8);
  go.store(true);
  gate.wait_until_released();
  jobs.wait_until_released();
  CHECK(ran.load() == 8);
}

TEST_CASE("the transition to idle is told once") {
  std::atomic<int> told{0};
  ExecutorOptions options;
  options.threads = 2;
  options.on_idle = [&](bool all) { told.fetch_add(all ? 1 : 0); };
  Pool pool(options);
  while (told.load() != 1) std::this_thread::yield();
  for (int round = 2; round < 20; ++round) {
    // In some rounds the threads go to sleep in between.
    const auto sleeps = pool.executor.stats().sleeps;
    pool.run([] {});
    while (round % 4 == 0 && pool.executor.stats().sleeps == sleeps) std::this_thread::yield();
    while (told.load() < round) std::this_thread::yield();
    CHECK(told.load() == round);
  }
}

TEST_CASE("one thread that goes to sleep beside a busy one is told") {
  std::atomic<bool> told{false};
  ExecutorOptions options;
  options.threads = 2;
  options.cores = 2;
  options.on_idle = [&](bool all) {
    if (!all) told.store(true);
  };
  Pool pool(options);
  // Both threads are awake: one that slept before the other had work has nothing new to tell.
  std::atomic<int> awake{0};
  const auto both_are_awake = [&] {
    awake.fetch_add(1);
    while (awake.load() < 2) std::this_thread::yield();
  };
  Jobs jobs;
  jobs.push_back(std::make_unique<Job>(both_are_awake));
  jobs.push_back(std::make_unique<Job>([&] {
    both_are_awake();
    const auto give_up = SystemClock::read() + 20 * kSecond;
    while (!told.load() && SystemClock::read() < give_up) std::this_thread::yield();
  }));
  for (auto& job : jobs) pool.executor.push(job.get());
  jobs.wait_until_released();
  CHECK(told.load());
}

TEST_CASE("stop runs what is queued") {
  std::atomic<int> ran{0};
  Jobs jobs;
  for (int i = 0; i < 1000; ++i) jobs.push_back(std::make_unique<Job>([&] { ran.fetch_add(1); }));
  {
    Pool pool(2);
    for (auto& job : jobs) pool.executor.push(job.get());
  }
  CHECK(ran.load() == 1000);
}

TEST_CASE("random trees of forks, waits and deadlines finish") {
  const std::uint64_t seeds = kInstrumented ? 5 : 30;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    CAPTURE(seed);
    Pool pool(1 + static_cast<unsigned>(seed % 4));
    std::atomic<int> nodes{0};
    std::function<void(int, std::uint64_t)> grow = [&](int depth, std::uint64_t number) {
      nodes.fetch_add(1);
      Rng rng(seed * 1'000'003 + number);
      if (depth == 0) return;
      const auto children = 1 + rng.below(4);
      struct Child {
        std::unique_ptr<Job> job;
        WaitPoint done;
      };
      std::vector<Child> made(children);
      for (std::uint64_t i = 0; i < children; ++i) {
        made[i].job = std::make_unique<Job>([&, i] {
          grow(depth - 1, number * 5 + i + 1);
          made[i].done.signal();
        });
        if (rng.below(4) == 0) {
          pool.executor.push_back_of_line(made[i].job.get());
        } else {
          pool.executor.push(made[i].job.get());
        }
      }
      for (std::uint64_t i = 0; i < children; ++i) {
        Child& child = made[rng.below(2) == 0 ? i : children - 1 - i];
        if (pool.executor.pop_if_newest(child.job.get())) {
          child.job->body();
          child.job->released.store(true);
        } else if (rng.below(2) == 0) {
          pool.executor.wait_until(child.done, SystemClock::read() + static_cast<Nanos>(rng.below(40)) * kMicrosecond);
        }
      }
      for (auto& child : made) {
        pool.executor.wait(child.done);
        child.job->wait_until_released();
      }
    };
    WaitPoint done;
    Job root([&] {
      grow(5, 1);
      done.signal();
    });
    pool.executor.push(&root);
    pool.executor.wait(done);
    root.wait_until_released();
    CHECK(nodes.load() >= 6);
  }
}
