#include "scheduler/progress.hpp"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/rng.hpp"
#include "tests/scheduler/executor_fixture.hpp"
#include "tests/scheduler/mailbox_fixture.hpp"

using namespace trireme;
using namespace trireme::scheduler;
using namespace trireme::scheduler::testing;

TEST_CASE("a command runs at once when the token is free, and the transport is flushed") {
  Mailbox mailbox;
  ProgressEngine engine(mailbox);
  bool held = false;
  engine.post(new Step([&] { held = engine.holds_token(); }));
  CHECK(held);
  CHECK_FALSE(engine.holds_token());
  CHECK(mailbox.flushes.load() == 1);
}

TEST_CASE("a command posted under the token runs behind the one that posted it") {
  Mailbox mailbox;
  ProgressEngine engine(mailbox);
  std::vector<int> order;
  engine.post(new Step([&] {
    engine.post(new Step([&] {
      order.push_back(2);
      engine.post(new Step([&] { order.push_back(4); }));
    }));
    engine.post(new Step([&] { order.push_back(3); }));
    order.push_back(1);
  }));
  CHECK(order == std::vector<int>{1, 2, 3, 4});
  mailbox.deliver([&] { engine.post(new Step([&] { order.push_back(5); })); });
  CHECK(engine.try_poll() == 1);
  CHECK(order.back() == 5);
}

TEST_CASE("a post while another thread holds the token returns at once and is run by the holder") {
  Mailbox mailbox;
  ProgressEngine engine(mailbox);
  std::atomic<bool> inside{false};
  std::atomic<bool> go{false};
  std::thread holder([&] {
    engine.post(new Step([&] {
      inside.store(true);
      while (!go.load()) std::this_thread::yield();
    }));
  });
  while (!inside.load()) std::this_thread::yield();
  std::thread::id ran_on;
  engine.post(new Step([&] { ran_on = std::this_thread::get_id(); }));
  CHECK(engine.try_poll() == -1);
  const auto holder_id = holder.get_id();
  go.store(true);
  holder.join();
  CHECK(ran_on == holder_id);
}

TEST_CASE("commands of many threads run exactly once, one at a time, in order per thread") {
  for (bool with_thread : {false, true}) {
    CAPTURE(with_thread);
    Mailbox mailbox;
    ProgressEngine engine(mailbox);
    if (with_thread) engine.start();
    constexpr int kThreads = 4;
    const int each = kInstrumented ? 3'000 : 30'000;
    std::array<int, kThreads> next{};  // under the token
    std::atomic<int> out_of_order{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < each; ++i) {
          engine.post(new Step([&, t, i] {
            if (next[static_cast<std::size_t>(t)]++ != i) out_of_order.fetch_add(1);
          }));
          if (i % 16 == t) engine.try_poll();
          if (i % 64 == t) engine.leave_to_thread();
        }
      });
    }
    for (auto& thread : threads) thread.join();
    // Nothing may need a further push: the last holder has run everything before it let go.
    while (engine.try_poll() < 0) std::this_thread::yield();
    CHECK(out_of_order.load() == 0);
    for (int count : next) CHECK(count == each);
    CHECK(mailbox.intrusions.load() == 0);
    engine.stop();
  }
}

TEST_CASE("the thread handles what arrives while nobody polls") {
  Mailbox mailbox;
  ProgressEngine engine(mailbox);
  engine.start();
  const int rounds = kInstrumented ? 200 : 1'000;
  for (int i = 0; i < rounds; ++i) {
    std::atomic<bool> handled{false};
    // In some rounds it sleeps by then, in others it is still polling.
    while (i % 3 == 0 && !mailbox.armed()) std::this_thread::yield();
    mailbox.deliver([&] { handled.store(true); });
    while (!handled.load()) std::this_thread::yield();
  }
  CHECK(mailbox.intrusions.load() == 0);
  engine.stop();
  CHECK_FALSE(mailbox.armed());
}

TEST_CASE("while every core computes, the thread looks at each tick, unarmed; then it arms again") {
  Mailbox mailbox;
  ProgressEngine engine(mailbox);
  std::atomic<bool> free{false};
  engine.set_core_free_probe([&] { return free.load(); });
  engine.start();
  for (int i = 0; i < 20; ++i) {
    std::atomic<bool> handled{false};
    CHECK_FALSE(mailbox.armed());
    mailbox.deliver([&] { handled.store(true); });
    while (!handled.load()) std::this_thread::yield();
  }
  free.store(true);
  while (!mailbox.armed()) std::this_thread::yield();
  engine.stop();
}

TEST_CASE("a timer set by a command wakes the sleeping thread") {
  Mailbox mailbox;
  ProgressEngine engine(mailbox);
  engine.start();
  for (int i = 0; i < 20; ++i) {
    while (i % 2 == 0 && !mailbox.armed()) std::this_thread::yield();
    std::atomic<bool> fired{false};
    engine.post(new Step([&] {
      mailbox.on_deadline = [&] { fired.store(true); };
      mailbox.deadline = SystemClock::read() + (i % 5) * 200 * kMicrosecond;
    }));
    while (!fired.load()) std::this_thread::yield();
  }
  engine.stop();
}

TEST_CASE("an event that rings while another thread holds the token is not lost") {
  Mailbox mailbox;
  ProgressEngine engine(mailbox);
  engine.start();
  for (int i = 0; i < 100; ++i) {
    while (!mailbox.armed()) std::this_thread::yield();
    std::atomic<bool> handled{false};
    const auto wakes = engine.stats().wakes;
    const auto here = std::this_thread::get_id();
    engine.post(new Step([&, here] {
      mailbox.deliver([&] { handled.store(true); });
      // The thread wakes up and finds the token held; unless it held the token itself and runs this.
      while (std::this_thread::get_id() == here && engine.stats().wakes == wakes) std::this_thread::yield();
    }));
    while (!handled.load()) std::this_thread::yield();
  }
  engine.stop();
}

TEST_CASE("commands posted around stop() run") {
  Mailbox mailbox;
  ProgressEngine engine(mailbox);
  engine.start();
  std::atomic<int> ran{0};
  std::atomic<bool> go{true};
  int posted = 0;
  std::thread poster([&] {
    while (go.load()) {
      engine.post(new Step([&] { ran.fetch_add(1); }));
      ++posted;
    }
  });
  while (ran.load() < 100) std::this_thread::yield();
  engine.stop();
  go.store(false);
  poster.join();
  engine.post(new Step([&] { ran.fetch_add(1); }));
  CHECK(ran.load() == posted + 1);
}

TEST_CASE("no wake-up is lost among senders, posters, pollers and a changing load") {
  const std::uint64_t seeds = kInstrumented ? 2 : 6;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    CAPTURE(seed);
    Mailbox mailbox;
    ProgressEngine engine(mailbox);
    std::atomic<bool> free{true};
    engine.set_core_free_probe([&] { return free.load(); });
    engine.start();
    std::atomic<bool> go{true};
    // Polls for a while, then hands over, as an idle compute thread does.
    std::thread poller([&] {
      Rng rng(seed);
      while (go.load()) {
        for (auto i = rng.below(200); i > 0; --i) engine.try_poll();
        if (rng.chance(0.8)) engine.leave_to_thread();
        free.store(rng.chance(0.7));
        for (auto i = rng.below(20); i > 0; --i) std::this_thread::yield();
      }
      free.store(true);
    });
    // Each sender waits for its message (or command) to be handled before the next: one lost and it hangs.
    std::vector<std::thread> senders;
    for (std::uint64_t s = 0; s < 2; ++s) {
      senders.emplace_back([&, s] {
        Rng rng(seed * 10 + s);
        const int rounds = kInstrumented ? 300 : 1'000;
        for (int i = 0; i < rounds; ++i) {
          std::atomic<bool> handled{false};
          if (rng.chance(0.3)) {
            engine.post(new Step([&] { mailbox.deliver([&] { handled.store(true); }); }));
          } else {
            mailbox.deliver([&] { handled.store(true); });
          }
          while (!handled.load()) std::this_thread::yield();
          for (auto n = rng.below(30); n > 0; --n) std::this_thread::yield();
        }
      });
    }
    for (auto& sender : senders) sender.join();
    go.store(false);
    poller.join();
    CHECK(mailbox.intrusions.load() == 0);
    engine.stop();
  }
}

TEST_CASE("a thread that only computes looks at messages between works, those in place included") {
  Mailbox mailbox;
  ProgressEngine engine(mailbox);
  Pool pool(1, &engine);
  engine.start();
  constexpr int kWorks = 50;
  // Each sends what the rank gets next: without a look in between they all come at the end.
  std::atomic<int> delivered{0};
  int seen_in_order = 0;
  const auto work = [&](int i) {
    if (delivered.load() >= i) ++seen_in_order;
    mailbox.deliver([&] { delivered.fetch_add(1); });
    const Nanos until = SystemClock::read() + 100 * kMicrosecond;
    while (SystemClock::read() < until) {
    }
  };
  SUBCASE("from a queue") {
    Jobs jobs;
    for (int i = 0; i < kWorks; ++i) jobs.push_back(std::make_unique<Job>([&, i] { work(i); }));
    pool.run([&] {
      for (int i = kWorks; i-- > 0;) pool.executor.push(jobs[static_cast<std::size_t>(i)].get());
    });
    jobs.wait_until_released();
  }
  SUBCASE("in place") {
    pool.run([&] {
      for (int i = 0; i < kWorks; ++i) {
        pool.executor.begin_in_place();
        work(i);
        pool.executor.end_in_place();
      }
    });
  }
  // The engine's own thread may hold the token at the moment of a look, or it may be busy with the first works.
  CHECK(seen_in_order > kWorks / 2);
  pool.executor.stop();
  engine.stop();
}

TEST_CASE("tasks and threads that wait for messages go on") {
  for (unsigned threads : {1U, 2U, 3U}) {
    CAPTURE(threads);
    Mailbox mailbox;
    ProgressEngine engine(mailbox);
    Pool pool(threads, &engine);
    engine.start();
    // A peer that answers each request by a message, on a thread of its own.
    std::atomic<bool> go{true};
    std::mutex lock;
    std::deque<WaitPoint*> requests;
    std::thread peer([&] {
      while (go.load()) {
        WaitPoint* asked = nullptr;
        {
          const std::lock_guard<std::mutex> guard(lock);
          if (!requests.empty()) {
            asked = requests.front();
            requests.pop_front();
          }
        }
        if (asked != nullptr) {
          mailbox.deliver([asked] { asked->signal(); });
        } else {
          std::this_thread::yield();
        }
      }
    });
    const auto call = [&] {
      WaitPoint reply;
      engine.post(new Step([&] {
        const std::lock_guard<std::mutex> guard(lock);
        requests.push_back(&reply);
      }));
      pool.executor.wait(reply);
    };
    const int rounds = kInstrumented ? 200 : 1'000;
    Jobs jobs;
    for (int i = 0; i < rounds; ++i) jobs.push_back(std::make_unique<Job>([&] { call(); }));
    for (auto& job : jobs) pool.executor.push(job.get());
    for (int i = 0; i < rounds; ++i) call();
    jobs.wait_until_released();
    // Messages that bring work.
    std::atomic<int> arrived{0};
    Jobs brought;
    for (int i = 0; i < rounds; ++i) brought.push_back(std::make_unique<Job>([&] { arrived.fetch_add(1); }));
    for (auto& job : brought) {
      mailbox.deliver([&pool, &job] { pool.executor.push(job.get()); });
      if (rounds % 7 == 0) job->wait_until_released();
    }
    brought.wait_until_released();
    CHECK(arrived.load() == rounds);
    go.store(false);
    peer.join();
    pool.executor.stop();
    engine.stop();
    CHECK(mailbox.intrusions.load() == 0);
  }
}
