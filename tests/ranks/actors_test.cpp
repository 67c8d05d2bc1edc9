// Actors over all ranks: placement, order, names, ends.
#include <doctest/doctest.h>

#include <map>
#include <set>
#include <stdexcept>

#include "tests/ranks/everywhere.hpp"

using trireme::Actor;
using trireme::ActorDiedError;
using trireme::Errc;
using trireme::Rank;
using trireme::Ref;
using trireme::TaskError;
using namespace trireme::test;

namespace ranks_actors {

struct Log {
  Log() = default;
  explicit Log(int first) : values{first} {}
  void append(int value) { values.push_back(value); }
  void append_from(Rank who, int value) { entries.emplace_back(who, value); }
  std::vector<int> all() const { return values; }
  std::vector<std::pair<Rank, int>> all_entries() const { return entries; }
  Rank rank() const { return trireme::this_rank(); }
  int fail(int n) { throw std::domain_error("bad " + std::to_string(n)); }
  int block_on(Ref<int> ref) { return trireme::get(ref); }
  trireme::Async<int> await(Ref<int> ref) {
    const int value = co_await ref;
    values.push_back(value);
    co_return value;
  }
  std::size_t bytes(const std::vector<std::uint8_t>& data) { return data.size(); }
  std::vector<std::uint8_t> produce(std::size_t n) { return std::vector<std::uint8_t>(n, 9); }
  std::vector<int> values;
  std::vector<std::pair<Rank, int>> entries;
};

/// Tells a log when it ends.
struct Mortal {
  Mortal(Actor<Log> to, int number) : log(std::move(to)), name(number) {}
  Mortal(const Mortal&) = delete;
  ~Mortal() { log.call<&Log::append>(name); }
  int call() { return ++calls; }
  void keep(Actor<Mortal> other) { friends.push_back(std::move(other)); }
  Actor<Log> log;
  int name;
  int calls = 0;
  std::vector<Actor<Mortal>> friends;
};

struct Fragile {
  explicit Fragile(int n) {
    if (n < 0) throw std::invalid_argument("below zero");
  }
  int get() const { return 1; }
};

struct Parallel {
  int enter(Ref<int> gate) {
    inside.fetch_add(1);
    return trireme::get(gate);
  }
  int count() const { return inside.load(); }
  std::atomic<int> inside{0};
};

int call_many(Actor<Log> log, int count) {
  for (int i = 0; i < count; ++i) log.call<&Log::append_from>(trireme::this_rank(), i);
  // A call after them comes after them.
  int mine = 0;
  for (const auto& [who, value] : trireme::get(log.call<&Log::all_entries>()))
    mine += who == trireme::this_rank() ? 1 : 0;
  return mine;
}
Actor<Log> spawn_log_on(Rank rank) { return trireme::spawn_with<Log>(actor_on(rank), 5); }
Actor<Mortal> spawn_mortal(Actor<Log> log, int number, Rank rank) {
  return trireme::spawn_with<Mortal>(actor_on(rank), log, number);
}
int use(Actor<Mortal> actor) { return trireme::get(actor.call<&Mortal::call>()); }
Rank find(const std::string& name) { return trireme::actor<Log>(name).rank(); }
int spawn_named(const std::string& name, Rank rank) {
  auto options = actor_on(rank);
  options.name = name;
  options.detached = true;
  (void)trireme::spawn_with<Log>(options, 1);
  return 0;
}
int kill(Actor<Log> log) {
  log.kill();
  return 0;
}
int kill_named(const std::string& name) {
  trireme::actor<Log>(name).kill();
  return 0;
}
int plus(int a, int b) { return a + b; }

Rank last() { return trireme::rank_count() - 1; }
std::vector<int> wait_for_entries(const Actor<Log>& log, std::size_t count) {
  std::vector<int> all;
  do all = trireme::get(log.call<&Log::all>());
  while (all.size() < count);
  return all;
}

}  // namespace ranks_actors
using namespace ranks_actors;

TEST_CASE("actors live where they are told, and spread when nothing is said") {
  std::set<Rank> seen;
  std::vector<Actor<Log>> actors;
  for (Rank rank = 0; rank <= last(); ++rank) {
    const auto log = trireme::spawn_with<Log>(actor_on(rank));
    CHECK(log.rank() == rank);
    CHECK(trireme::get(log.call<&Log::rank>()) == rank);
    actors.push_back(trireme::spawn<Log>());
  }
  for (const auto& actor : actors) seen.insert(trireme::get(actor.call<&Log::rank>()));
  CHECK(seen.size() == trireme::rank_count());
}

TEST_CASE("calls from every rank to one actor: in order per caller") {
  for (Rank host = 0; host <= last(); ++host) {
    const auto log = trireme::spawn_with<Log>(actor_on(host));
    std::vector<Ref<int>> callers;
    for (Rank rank = 0; rank <= last(); ++rank) callers.push_back(trireme::submit_with<&call_many>(on(rank), log, 300));
    for (const int mine : trireme::get(callers)) CHECK(mine == 300);
    std::map<Rank, int> next;
    bool ordered = true;
    for (const auto& [who, value] : trireme::get(log.call<&Log::all_entries>()))
      ordered = ordered && value == next[who]++;
    CHECK(ordered);
    CHECK(next.size() == trireme::rank_count());
  }
}

TEST_CASE("pending, remote and large arguments keep a caller's order") {
  for (Rank host = 0; host <= last(); ++host) {
    const auto log = trireme::spawn_with<Log>(actor_on(host));
    std::vector<int> expected;
    for (int i = 0; i < 60; i += 3) {
      log.call<&Log::append>(i);
      log.call<&Log::append>(trireme::submit_with<&plus>(on(static_cast<Rank>(i) % trireme::rank_count()), i, 1));
      log.call<&Log::await>(trireme::submit_with<&plus>(on(last()), i, 2));
      for (int j = 0; j < 3; ++j) expected.push_back(i + j);
    }
    CHECK(trireme::get(log.call<&Log::all>()) == expected);
    CHECK(trireme::get(log.call<&Log::bytes>(std::vector<std::uint8_t>(1'000'000))) == 1'000'000);
    const auto made = log.call<&Log::produce>(std::size_t{1'000'000});
    CHECK(trireme::get(log.call<&Log::bytes>(made)) == 1'000'000);
    CHECK(trireme::get(made) == std::vector<std::uint8_t>(1'000'000, 9));
  }
}

TEST_CASE("handles made elsewhere work here and in third ranks") {
  for (Rank host = 0; host <= last(); ++host) {
    const auto log = trireme::get(trireme::submit_with<&spawn_log_on>(on(last()), host));
    CHECK(log.rank() == host);
    CHECK(trireme::get(log.call<&Log::all>()) == std::vector{5});
    for (Rank rank = 0; rank <= last(); ++rank)
      CHECK(trireme::get(trireme::submit_with<&call_many>(on(rank), log, 10)) == 10);
  }
}

TEST_CASE("methods and constructors that throw say where") {
  for (Rank host = 0; host <= last(); ++host) {
    const auto log = trireme::spawn_with<Log>(actor_on(host));
    const auto error = thrown_by<TaskError>([&] { trireme::get(log.call<&Log::fail>(4)); });
    CHECK(error.type() == "std::domain_error");
    CHECK(error.message() == "bad 4");
    CHECK(error.rank() == host);
    CHECK(trireme::get(log.call<&Log::all>()).empty());
    const auto dead = trireme::spawn_with<Fragile>(actor_on(host), -1);
    const auto why = thrown_by<ActorDiedError>([&] { trireme::get(dead.call<&Fragile::get>()); });
    CHECK(why.message().find("below zero") != std::string::npos);
    CHECK(why.rank() == host);
  }
}

TEST_CASE("concurrent methods overlap in any rank") {
  for (Rank host = 0; host <= last(); ++host) {
    auto options = actor_on(host);
    options.max_concurrency = 4;
    const auto actor = trireme::spawn_with<Parallel>(options);
    std::vector<Ref<int>> refs;
    const Gate<> gate;
    for (int i = 0; i < 3; ++i) refs.push_back(actor.call<&Parallel::enter>(gate.ref()));
    // A fourth call gets through while three stand inside.
    while (trireme::get(actor.call<&Parallel::count>()) < 3) {
    }
    gate.open(7);
    CHECK(trireme::get(refs) == std::vector<int>(3, 7));
  }
}

TEST_CASE("names are known to every rank") {
  for (Rank host = 0; host <= last(); ++host) {
    const std::string name = "log " + std::to_string(host);
    trireme::get(trireme::submit_with<&spawn_named>(on((host + 1) % trireme::rank_count()), name, host));
    for (Rank rank = 0; rank <= last(); ++rank)
      CHECK(trireme::get(trireme::submit_with<&find>(on(rank), name)) == host);
    const auto unknown = thrown_by<trireme::Exception>(
        [&] { trireme::get(trireme::submit_with<&find>(on(last()), std::string("nobody"))); });
    CHECK(unknown.code() == Errc::not_found);
    CHECK(unknown.message().find(name) != std::string::npos);
    const auto taken = thrown_by<trireme::Exception>(
        [&] { trireme::get(trireme::submit_with<&spawn_named>(on(last()), name, host)); });
    CHECK(taken.code() == Errc::already_exists);
  }
  for (Rank host = 0; host <= last(); ++host)
    trireme::get(trireme::submit_with<&kill_named>(on(last() - host), "log " + std::to_string(host)));
}

TEST_CASE("kill reaches an actor from any rank") {
  for (Rank host = 0; host <= last(); ++host) {
    for (Rank killer = 0; killer <= last(); ++killer) {
      const auto log = trireme::spawn_with<Log>(actor_on(host));
      trireme::get(log.call<&Log::all>());
      trireme::get(trireme::submit_with<&kill>(on(killer), log));
      // The kill is on its way; from some call on all fail.
      for (bool alive = true; alive;) {
        try {
          trireme::get(log.call<&Log::all>());
        } catch (const ActorDiedError& error) {
          CHECK(error.message().find("rank " + std::to_string(killer)) != std::string::npos);
          alive = false;
        }
      }
      CHECK_THROWS_AS(trireme::get(log.call<&Log::all>()), ActorDiedError);
    }
  }
}

TEST_CASE("an actor ends with its last handle in the job, wherever that is") {
  const auto log = trireme::spawn_with<Log>(actor_on(0));
  std::vector<int> expected;
  for (Rank owner = 0; owner <= last(); ++owner) {
    for (Rank host = 0; host <= last(); ++host) {
      const int number = static_cast<int>(10 * owner + host);
      expected.push_back(number);
      auto actor = trireme::get(trireme::submit_with<&spawn_mortal>(on(owner), log, number, host));
      auto used = trireme::submit_with<&use>(on((host + 1) % trireme::rank_count()), actor);
      actor = {};
      CHECK(trireme::get(used) == 1);
    }
  }
  auto all = wait_for_entries(log, expected.size());
  std::sort(all.begin(), all.end());
  CHECK(all == expected);
}

TEST_CASE("actors that hold actors end together") {
  const auto log = trireme::spawn_with<Log>(actor_on(0));
  {
    auto first = trireme::spawn_with<Mortal>(actor_on(0), log, 0);
    for (Rank rank = 0; rank <= last(); ++rank) {
      auto next = trireme::spawn_with<Mortal>(actor_on(rank), log, static_cast<int>(rank) + 1);
      next.call<&Mortal::keep>(first);
      first = std::move(next);
    }
  }
  CHECK(wait_for_entries(log, trireme::rank_count() + 1).size() == trireme::rank_count() + 1);
}

TEST_CASE("nothing stays behind after actors") {
  std::string left;
  CHECK_MESSAGE(nothing_left(left), left);
}
