// How actors end: with the last handle, by kill(), with the job.
#include <doctest/doctest.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "tests/core/gate.hpp"
#include "trireme/trireme.hpp"

using trireme::Actor;
using trireme::ActorDiedError;
using trireme::Async;
using trireme::Ref;
using trireme::test::Gate;
using trireme::test::thrown_by;

namespace actor_end_test {

/// Tells through a gate how many calls it had seen when it was destroyed.
struct Mortal {
  explicit Mortal(std::int64_t gate) : end(reinterpret_cast<Gate<>*>(gate)) {}
  Mortal(const Mortal&) = delete;
  ~Mortal() { end->open(calls); }
  int call() { return ++calls; }
  int add(int n) { return calls += n; }
  int block_on(Ref<int> gate) { return trireme::get(gate) + ++calls; }
  Async<int> await(Ref<int> gate) {
    const int value = co_await gate;
    co_return value + ++calls;
  }
  void keep(Actor<Mortal> other) { friends.push_back(std::move(other)); }
  Gate<>* end;
  std::atomic<int> calls = 0;  // calls of an actor with concurrency run side by side
  std::vector<Actor<Mortal>> friends;
};

Actor<Mortal> spawn(Gate<>& end, int concurrency = 1) {
  trireme::ActorOptions options;
  options.max_concurrency = concurrency;
  return trireme::spawn_with<Mortal>(options, reinterpret_cast<std::int64_t>(&end));
}
/// One that is surely constructed: a kill may come before the constructor, then there is nothing to destroy.
Actor<Mortal> spawn_and_wait(Gate<>& end, int concurrency = 1) {
  auto actor = spawn(end, concurrency);
  trireme::get(actor.call<&Mortal::add>(0));
  return actor;
}
int call_once(Actor<Mortal> actor) { return trireme::get(actor.call<&Mortal::call>()); }

void check_dead(const Ref<int>& ref) { CHECK_THROWS_AS(trireme::get(ref), ActorDiedError); }

}  // namespace actor_end_test
using namespace actor_end_test;

TEST_CASE("the object is destroyed after the last handle is gone and all calls have run") {
  for (const int concurrency : {1, 3}) {
    CAPTURE(concurrency);
    Gate<> end, gate;
    {
      auto actor = spawn(end, concurrency);
      actor.call<&Mortal::block_on>(gate.ref());
      for (int i = 0; i < 100; ++i) actor.call<&Mortal::call>();
      actor.call<&Mortal::await>(gate.ref());
      const auto copy = actor;
      CHECK(copy == actor);
    }
    CHECK_FALSE(end.ref().ready());
    gate.open(1);
    CHECK(trireme::get(end.ref()) == 102);
  }
}

TEST_CASE("a handle on its way as an argument keeps the actor") {
  Gate<> end, gate;
  std::vector<Ref<int>> refs;
  {
    auto actor = spawn(end);
    for (int i = 0; i < 10; ++i) refs.push_back(trireme::submit<&call_once>(actor));
    actor.call<&Mortal::block_on>(gate.ref());
  }
  gate.open();
  CHECK(trireme::get(refs).size() == 10);
  CHECK(trireme::get(end.ref()) == 11);
}

TEST_CASE("an actor held by an actor ends with it") {
  Gate<> first_end, second_end;
  {
    auto first = spawn(first_end);
    first.call<&Mortal::keep>(spawn(second_end));
  }
  CHECK(trireme::get(first_end.ref()) == 0);
  CHECK(trireme::get(second_end.ref()) == 0);
}

TEST_CASE("kill fails the calls that wait; the one that runs ends by itself") {
  for (const int concurrency : {1, 2}) {
    CAPTURE(concurrency);
    Gate<> end, gate;
    auto actor = spawn_and_wait(end, concurrency);
    std::vector<Ref<int>> running, waiting;
    for (int i = 0; i < concurrency; ++i) running.push_back(actor.call<&Mortal::block_on>(gate.ref()));
    for (int i = 0; i < 20; ++i) waiting.push_back(actor.call<&Mortal::call>());
    actor.kill();
    gate.open();
    for (const auto& ref : waiting) {
      // Those that slipped in before the kill was seen give their value.
      try {
        const int calls = trireme::get(ref);
        CHECK(calls > 0);
      } catch (const ActorDiedError& error) {
        CHECK(error.message().find("killed") != std::string::npos);
      }
    }
    trireme::get(end.ref());
    check_dead(actor.call<&Mortal::call>());
    for (const auto& ref : running) {
      try {
        trireme::get(ref);
      } catch (const ActorDiedError&) {
      }
    }
  }
}

TEST_CASE("after kill every later call of the same caller fails, and kill again is harmless") {
  Gate<> end;
  const auto actor = spawn(end);
  CHECK(trireme::get(actor.call<&Mortal::call>()) == 1);
  actor.kill();
  trireme::get(end.ref());
  actor.kill();
  for (int i = 0; i < 10; ++i) check_dead(actor.call<&Mortal::call>());
}

TEST_CASE("kill does not wait for arguments that never come") {
  Gate<> end, never;
  const auto actor = spawn_and_wait(end);
  const auto stalled = actor.call<&Mortal::add>(never.ref());
  const auto behind = actor.call<&Mortal::call>();
  actor.kill();
  check_dead(stalled);
  check_dead(behind);
  CHECK(trireme::get(end.ref()) == 0);
  never.open();
}

TEST_CASE("an argument that comes after the kill harms nobody") {
  for (int round = 0; round < 100; ++round) {
    Gate<> end, gate;
    const auto actor = spawn_and_wait(end);
    const auto stalled = actor.call<&Mortal::await>(gate.ref());
    std::thread opener([&] { gate.open(); });
    actor.kill();
    opener.join();
    try {
      trireme::get(stalled);
    } catch (const ActorDiedError&) {
    }
    trireme::get(end.ref());
  }
}

TEST_CASE("callers race with the last handle and with kill") {
  for (int round = 0; round < 50; ++round) {
    Gate<> end;
    auto actor = spawn_and_wait(end);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([mine = actor] {
        for (int i = 0; i < 50; ++i) {
          try {
            trireme::get(mine.call<&Mortal::call>());
          } catch (const ActorDiedError&) {
          }
        }
      });
    }
    if (round % 2 == 0) actor.kill();
    actor = {};
    for (auto& thread : threads) thread.join();
    threads.clear();
    const int calls = trireme::get(end.ref());
    if (round % 2 == 1) CHECK(calls == 200);
  }
}

TEST_CASE("a detached actor lives without handles, until kill") {
  Gate<> end;
  trireme::ActorOptions options;
  options.name = "hermit";
  options.detached = true;
  { (void)trireme::spawn_with<Mortal>(options, reinterpret_cast<std::int64_t>(&end)); }
  CHECK(trireme::get(trireme::actor<Mortal>("hermit").call<&Mortal::call>()) == 1);
  CHECK(trireme::get(trireme::actor<Mortal>("hermit").call<&Mortal::call>()) == 2);
  CHECK_FALSE(end.ref().ready());
  trireme::actor<Mortal>("hermit").kill();
  CHECK(trireme::get(end.ref()) == 2);
}
