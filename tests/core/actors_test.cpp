// Actors in one rank: order, arguments, concurrency, coroutines, names.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "tests/core/gate.hpp"
#include "trireme/trireme.hpp"

using trireme::Actor;
using trireme::ActorDiedError;
using trireme::Async;
using trireme::Errc;
using trireme::Ref;
using trireme::TaskError;
using trireme::test::Gate;
using trireme::test::thrown_by;

namespace actors_test {

struct Log {
  Log() = default;
  explicit Log(int first) : entries{first} {}
  void append(int value) { entries.push_back(value); }
  int append_and_fail(int value) {
    entries.push_back(value);
    throw std::runtime_error("after " + std::to_string(value));
  }
  void append_from(int who, int value) { pairs.emplace_back(who, value); }
  std::vector<int> all() const { return entries; }
  std::vector<std::pair<int, int>> all_pairs() const noexcept { return pairs; }
  int block_on(Ref<int> gate) { return trireme::get(gate); }
  Async<int> wait_then_append(Ref<int> gate) {
    const int value = co_await gate;
    entries.push_back(value);
    co_return value;
  }
  Async<void> wait_then_fail(Ref<int> gate) {
    const int value = co_await gate;
    throw std::runtime_error("after " + std::to_string(value));
  }
  void call_itself(Actor<Log> self, int n) {
    entries.push_back(n);
    if (n > 0)
      self.call<&Log::call_itself>(self, n - 1);
    else
      self.call<&Log::append>(-1);
  }
  std::vector<int> entries;
  std::vector<std::pair<int, int>> pairs;
};

struct Guarded {
  explicit Guarded(int start) {
    if (start < 0) throw std::invalid_argument("start is below zero");
  }
  int get() const { return 1; }
};

struct Node {
  explicit Node(Actor<Log> to) : log(std::move(to)) {}
  Ref<trireme::detail::Nothing> forward(int value) { return log.call<&Log::append>(value); }
  int ask() { return static_cast<int>(trireme::get(log.call<&Log::all>()).size()); }
  Actor<Log> log;
};

struct Parallel {
  int enter(Ref<int> gate) {
    const int now = inside.fetch_add(1) + 1;
    int seen = most.load();
    while (now > seen && !most.compare_exchange_weak(seen, now)) {
    }
    const int value = trireme::get(gate);
    inside.fetch_sub(1);
    return value;
  }
  Async<int> enter_async(Ref<int> gate) {
    const int now = inside.fetch_add(1) + 1;
    int seen = most.load();
    while (now > seen && !most.compare_exchange_weak(seen, now)) {
    }
    const int value = co_await gate;
    inside.fetch_sub(1);
    co_return value;
  }
  int now_inside() const { return inside.load(); }
  int most_at_once() const { return most.load(); }
  std::atomic<int> inside{0}, most{0};
};

struct Other {};

int add_through(Actor<Log> log, int value) {
  log.call<&Log::append>(value);
  return static_cast<int>(trireme::get(log.call<&Log::all>()).size());
}
int sizes(std::vector<Actor<Log>> logs) {
  int total = 0;
  for (const auto& log : logs) total += static_cast<int>(trireme::get(log.call<&Log::all>()).size());
  return total;
}
Actor<Log> make_log(int first) { return trireme::spawn<Log>(first); }
int plus(int a, int b) { return a + b; }

std::vector<int> count_up(int n) {
  std::vector<int> values;
  for (int i = 0; i < n; ++i) values.push_back(i);
  return values;
}

std::atomic<int> spun{0};
std::atomic<int> spun_before_task{-1};
std::atomic<bool> may_spin{false};

struct Spinner {
  void wait_for_start() { may_spin.wait(false); }
  void spin() {
    const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(10);
    while (std::chrono::steady_clock::now() < end) {
    }
    spun.fetch_add(1, std::memory_order_relaxed);
  }
};

void note_spins() {
  spun_before_task.store(spun.load(std::memory_order_relaxed), std::memory_order_relaxed);
  spun_before_task.notify_all();
}

}  // namespace actors_test
using namespace actors_test;

TEST_CASE("a handle on something that is no actor is refused, not followed") {
  const Actor<Log> wrong(trireme::detail::make_plain_cell());
  const auto code_of = [](auto use) { return thrown_by<trireme::Exception>(use).code(); };
  CHECK(code_of([&] { wrong.call<&Log::append>(1); }) == Errc::type_mismatch);
  CHECK(code_of([&] { wrong.rank(); }) == Errc::type_mismatch);
  CHECK(code_of([&] { wrong.kill(); }) == Errc::type_mismatch);
}

TEST_CASE("calls of one caller run in order") {
  const auto log = trireme::spawn<Log>();
  for (int i = 0; i < 5000; ++i) log.call<&Log::append>(i);
  CHECK(trireme::get(log.call<&Log::all>()) == count_up(5000));
  CHECK(log.rank() == 0);
}

TEST_CASE("each of many callers keeps its order") {
  const auto log = trireme::spawn<Log>();
  std::vector<std::thread> threads;
  for (int t = 0; t < 6; ++t) {
    threads.emplace_back([&log, t] {
      for (int i = 0; i < 500; ++i) log.call<&Log::append_from>(t, i);
    });
  }
  for (auto& thread : threads) thread.join();
  std::vector<int> next(6);
  const auto pairs = trireme::get(log.call<&Log::all_pairs>());
  CHECK(pairs.size() == 3000);
  bool ordered = true;
  for (const auto& [who, value] : pairs) ordered = ordered && value == next[static_cast<std::size_t>(who)]++;
  CHECK(ordered);
}

TEST_CASE("a call with a pending argument holds its place") {
  const auto log = trireme::spawn<Log>();
  Gate<> gate;
  log.call<&Log::append>(0);
  log.call<&Log::append>(trireme::submit<&plus>(gate.ref(), 0));
  log.call<&Log::append>(2);
  const auto all = log.call<&Log::all>();
  gate.open(1);
  CHECK(trireme::get(all) == count_up(3));
}

TEST_CASE("a call whose argument failed gives that error, and the actor goes on") {
  const auto log = trireme::spawn<Log>();
  Gate<> bad;
  const auto failed = log.call<&Log::append>(bad.ref());
  log.call<&Log::append>(0);
  bad.fail({Errc::object_lost, "gone", "", 5, "", ""});
  CHECK(thrown_by<trireme::Exception>([&] { trireme::get(failed); }).rank() == 5);
  CHECK(trireme::get(log.call<&Log::all>()) == count_up(1));
}

TEST_CASE("a constructor takes references and what is spawned before them") {
  Gate<> gate;
  const auto log = trireme::spawn<Log>(gate.ref());
  log.call<&Log::append>(1);
  const auto all = log.call<&Log::all>();
  gate.open(0);
  CHECK(trireme::get(all) == count_up(2));
}

TEST_CASE("a method that throws fails its call only") {
  const auto log = trireme::spawn<Log>();
  const auto failed = log.call<&Log::append_and_fail>(0);
  log.call<&Log::append>(1);
  CHECK(trireme::get(log.call<&Log::all>()) == count_up(2));
  const auto error = thrown_by<TaskError>([&] { trireme::get(failed); });
  CHECK(error.type() == "std::runtime_error");
  CHECK(error.message() == "after 0");
  CHECK(error.info().task.find("append_and_fail") != std::string::npos);
}

TEST_CASE("a constructor that throws makes calls fail with its text") {
  const auto guarded = trireme::spawn<Guarded>(-1);
  for (int i = 0; i < 3; ++i) {
    const auto error = thrown_by<ActorDiedError>([&] { trireme::get(guarded.call<&Guarded::get>()); });
    CHECK(error.message().find("start is below zero") != std::string::npos);
    CHECK(error.message().find("constructor") != std::string::npos);
    CHECK(error.message().find("std::invalid_argument") != std::string::npos);
  }
  CHECK(trireme::get(trireme::spawn<Guarded>(1).call<&Guarded::get>()) == 1);
}

TEST_CASE("handles travel: as arguments, in containers, as results, inside actors") {
  const auto log = trireme::spawn<Log>();
  CHECK(trireme::get(trireme::submit<&add_through>(log, 0)) == 1);
  const auto made = trireme::get(trireme::submit<&make_log>(5));
  CHECK(trireme::get(made.call<&Log::all>()) == std::vector{5});
  CHECK(trireme::get(trireme::submit<&sizes>(std::vector{log, made, log})) == 3);
  const auto node = trireme::spawn<Node>(log);
  trireme::get(trireme::get(node.call<&Node::forward>(1)));
  CHECK(trireme::get(node.call<&Node::ask>()) == 2);
}

TEST_CASE("an actor calls itself without waiting, in order") {
  const auto log = trireme::spawn<Log>();
  log.call<&Log::call_itself>(log, 100);
  std::vector<int> all;
  // Each call queues the next: ask until the last has run.
  do all = trireme::get(log.call<&Log::all>());
  while (all.empty() || all.back() != -1);
  CHECK(all.size() == 102);
  CHECK(all.front() == 100);
}

TEST_CASE("concurrency 1 means one call at a time, even while a call waits") {
  const auto actor = trireme::spawn<Parallel>();
  Gate<> gate;
  std::vector<Ref<int>> refs;
  for (int i = 0; i < 50; ++i)
    refs.push_back(i % 2 == 0 ? actor.call<&Parallel::enter>(gate.ref())
                              : actor.call<&Parallel::enter_async>(gate.ref()));
  gate.open(1);
  CHECK(trireme::get(refs).size() == 50);
  CHECK(trireme::get(actor.call<&Parallel::most_at_once>()) == 1);
}

TEST_CASE("more concurrency overlaps calls, and never exceeds what was asked") {
  trireme::ActorOptions options;
  options.max_concurrency = 4;
  const auto actor = trireme::spawn_with<Parallel>(options);
  Gate<> gate;
  std::vector<Ref<int>> refs;
  for (int i = 0; i < 3; ++i)
    refs.push_back(i == 0 ? actor.call<&Parallel::enter_async>(gate.ref()) : actor.call<&Parallel::enter>(gate.ref()));
  // A fourth call gets through while three stand inside.
  while (trireme::get(actor.call<&Parallel::now_inside>()) < 3) {
  }
  for (int i = 0; i < 100; ++i)
    refs.push_back(i % 2 == 0 ? actor.call<&Parallel::enter>(gate.ref())
                              : actor.call<&Parallel::enter_async>(gate.ref()));
  gate.open(7);
  for (const int value : trireme::get(refs)) CHECK(value == 7);
  const int most = trireme::get(actor.call<&Parallel::most_at_once>());
  CHECK(most >= 3);
  CHECK(most <= 4);
}

TEST_CASE("an actor's coroutine ends before its next call begins") {
  const auto log = trireme::spawn<Log>();
  Gate<> gate, ready;
  ready.open(2);
  log.call<&Log::append>(0);
  log.call<&Log::wait_then_append>(gate.ref());
  log.call<&Log::wait_then_append>(ready.ref());
  log.call<&Log::append>(3);
  const auto failed = log.call<&Log::wait_then_fail>(gate.ref());
  const auto all = log.call<&Log::all>();
  gate.open(1);
  CHECK(trireme::get(all) == count_up(4));
  CHECK(thrown_by<TaskError>([&] { trireme::get(failed); }).message() == "after 1");
}

TEST_CASE("a named actor is found until it ends; unknown and taken names say what there is") {
  trireme::ActorOptions options;
  options.name = "chronicle";
  auto log = trireme::spawn_with<Log>(options, 0);
  CHECK(trireme::get(trireme::actor<Log>("chronicle").call<&Log::all>()) == count_up(1));
  const auto unknown = thrown_by<trireme::Exception>([] { (void)trireme::actor<Log>("diary"); });
  CHECK(unknown.code() == Errc::not_found);
  CHECK(unknown.message().find("diary") != std::string::npos);
  CHECK(unknown.message().find("chronicle") != std::string::npos);
  const auto taken = thrown_by<trireme::Exception>([&] { (void)trireme::spawn_with<Log>(options); });
  CHECK(taken.code() == Errc::already_exists);
  CHECK(taken.message().find("chronicle") != std::string::npos);
  const auto wrong = thrown_by<trireme::Exception>([] { (void)trireme::actor<Other>("chronicle"); });
  CHECK(wrong.code() == Errc::type_mismatch);
  log = {};
  // The name is free once the actor's end is known.
  for (;;) {
    try {
      (void)trireme::actor<Log>("chronicle");
    } catch (const trireme::Exception& gone) {
      CHECK(gone.code() == Errc::not_found);
      break;
    }
  }
  const auto again = trireme::spawn_with<Log>(options, 7);
  CHECK(trireme::get(again.call<&Log::all>()) == std::vector{7});
}

TEST_CASE("a name is free again after kill, whoever still has a handle") {
  trireme::ActorOptions options;
  options.name = "phoenix";
  const auto first = trireme::spawn_with<Log>(options, 1);
  first.kill();
  for (bool taken = true; taken;) {
    try {
      const auto second = trireme::spawn_with<Log>(options, 2);
      CHECK(trireme::get(second.call<&Log::all>()) == std::vector{2});
      taken = false;
    } catch (const trireme::Exception& error) {
      REQUIRE(error.code() == Errc::already_exists);
    }
  }
}

TEST_CASE("options that make no sense") {
  trireme::ActorOptions options;
  SUBCASE("no concurrency at all") {
    for (const int bad : {0, -3}) {
      options.max_concurrency = bad;
      const auto error = thrown_by<trireme::Exception>([&] { (void)trireme::spawn_with<Log>(options); });
      CHECK(error.code() == Errc::invalid_argument);
      CHECK(error.message().find(std::to_string(bad)) != std::string::npos);
    }
  }
  SUBCASE("negative cores") {
    options.resources.cpus = -2;
    const auto log = trireme::spawn_with<Log>(options);
    CHECK(thrown_by<trireme::Exception>([&] { trireme::get(log.call<&Log::all>()); }).code() == Errc::invalid_argument);
    CHECK(thrown_by<trireme::Exception>([&] { (void)log.rank(); }).code() == Errc::invalid_argument);
  }
  SUBCASE("labels beside a placement group") {
    options.placement.kind = trireme::Placement::Kind::group;
    options.placement.labels = {{"rack", {"r1"}, true}};
    const auto log = trireme::spawn_with<Log>(options);
    CHECK(thrown_by<trireme::Exception>([&] { trireme::get(log.call<&Log::all>()); }).code() == Errc::invalid_argument);
  }
  SUBCASE("more than there is") {
    options.resources.gpus = 64;
    const auto log = trireme::spawn_with<Log>(options);
    const auto error = thrown_by<trireme::Exception>([&] { trireme::get(log.call<&Log::all>()); });
    CHECK(error.code() == Errc::unschedulable);
    CHECK(error.message().find("GPU") != std::string::npos);
    CHECK(error.message().find("64") != std::string::npos);
  }
  SUBCASE("an empty handle") {
    const Actor<Log> nobody;
    for (const auto& step :
         {std::function<void()>([&] { nobody.call<&Log::append>(1); }), std::function<void()>([&] { nobody.kill(); }),
          std::function<void()>([&] { (void)nobody.rank(); })})
      CHECK(thrown_by<trireme::Exception>(step).code() == Errc::invalid_argument);
    CHECK_FALSE(nobody);
    const auto log = trireme::spawn<Log>();
    CHECK(thrown_by<trireme::Exception>([&] { trireme::get(log.call<&Log::append>(Ref<int>())); }).code() ==
          Errc::invalid_argument);
    CHECK(trireme::get(log.call<&Log::all>()).empty());
  }
}

TEST_CASE("an actor's resources are its own until it ends") {
  trireme::ActorOptions options;
  options.resources.cpus = 2;
  auto first = trireme::spawn_with<Log>(options, 1);
  auto second = trireme::spawn_with<Log>(options, 2);
  const auto waits = second.call<&Log::all>();
  CHECK(trireme::get(first.call<&Log::all>()) == std::vector{1});
  CHECK_FALSE(waits.ready());
  first = {};
  CHECK(trireme::get(waits) == std::vector{2});
}

TEST_CASE("actors with long mailboxes let other work have its turn, and get theirs") {
  constexpr int kCalls = 5000;  // 50 ms each
  std::vector<Actor<Spinner>> busy;
  for (unsigned i = 0; i < trireme::topology().threads; ++i) busy.push_back(trireme::spawn<Spinner>());
  for (const auto& each : busy)
    (void)each.call<&Spinner::wait_for_start>();  // however long it takes to fill the mailboxes
  std::vector<Ref<trireme::detail::Nothing>> last(busy.size());
  for (int call = 0; call < kCalls; ++call)
    for (std::size_t i = 0; i < busy.size(); ++i) last[i] = busy[i].call<&Spinner::spin>();
  const auto task = trireme::submit<&note_spins>();
  may_spin.store(true);
  may_spin.notify_all();
  spun_before_task.wait(-1);  // get() would run the task here
  CHECK(spun_before_task.load() < kCalls);
  for (const auto& each : last) trireme::get(each);
  CHECK(spun.load() == kCalls * static_cast<int>(busy.size()));
}
