// Ranks that are killed. Needs four ranks under mpirun --enable-recovery; each case uses ranks up.
#include <doctest/doctest.h>

#include <signal.h>

#include <chrono>
#include <cstdio>

#include "tests/ranks/everywhere.hpp"

using trireme::Actor;
using trireme::ActorDiedError;
using trireme::Errc;
using trireme::Rank;
using trireme::Ref;
using namespace trireme::test;

namespace ranks_faults {

Rank where(int) { return trireme::this_rank(); }
Rank die_in(Rank victim) {
  if (trireme::this_rank() == victim) raise(SIGKILL);
  return trireme::this_rank();
}
std::vector<double> make(std::size_t count) { return std::vector<double>(count, 1.5); }
std::size_t size_of(const std::vector<double>& values) { return values.size(); }
Ref<std::string> put_text(std::string text) { return trireme::put(std::move(text)); }
struct Doomed {
  int call() { return ++calls; }
  Rank die() { return die_in(trireme::this_rank()); }
  int calls = 0;
};
int call(Actor<Doomed> actor) { return trireme::get(actor.call<&Doomed::call>()); }

/// Runs `step`, which must throw E because a rank died, and prints how long that took.
template <class E, class F>
E error_of(const char* what, F step) {
  const auto start = std::chrono::steady_clock::now();
  E error = thrown_by<E>(step);
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  std::printf("%s after %.1f ms: %s\n", what, took.count(), error.what());
  return error;
}

}  // namespace ranks_faults
using namespace ranks_faults;

TEST_CASE("serving ranks die") {
  REQUIRE(trireme::rank_count() == 4);
  const auto survivor = trireme::spawn_with<Doomed>(actor_on(1));
  CHECK(trireme::get(survivor.call<&Doomed::call>()) == 1);

  // A task with retries left runs again elsewhere.
  trireme::TaskOptions options;
  options.placement = trireme::Placement::on(3, true);
  options.max_retries = 1;
  const auto start = std::chrono::steady_clock::now();
  const Rank elsewhere = trireme::get(trireme::submit_with<&die_in>(options, Rank{3}));
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  std::printf("a killed task ran again on rank %u after %.1f ms\n", elsewhere, took.count());
  CHECK(elsewhere != 3);
  CHECK_FALSE(trireme::rank_alive(3));
  CHECK(
      thrown_by<trireme::Exception>([] { trireme::get(trireme::submit_with<&where>(on(3), 0)); }).message().find("3") !=
      std::string::npos);

  // What lives on the next victim.
  const auto actor = trireme::spawn_with<Doomed>(actor_on(2));
  CHECK(trireme::get(actor.call<&Doomed::call>()) == 1);
  const auto result = trireme::submit_with<&make>(on(2), std::size_t{200'000});
  const auto small = trireme::submit_with<&where>(on(2), 0);
  CHECK(trireme::get(small) == 2);
  const auto owned = trireme::get(trireme::submit_with<&put_text>(on(2), std::string(50'000, 'o')));
  // Known to be there, but not fetched: a task of that rank has read it, which its owner lets go only then.
  CHECK(trireme::get(trireme::submit_with<&size_of>(on(2), result)) == 200'000);

  auto once = on(2);
  once.max_retries = 0;
  const auto lost = error_of<trireme::Exception>("a task without retries failed",
                                                 [&] { trireme::get(trireme::submit_with<&die_in>(once, Rank{2})); });
  CHECK(lost.code() == Errc::worker_lost);
  CHECK(lost.message().find("rank 2") != std::string::npos);
  CHECK_FALSE(trireme::rank_alive(2));

  for (int i = 0; i < 3; ++i) {
    const auto died = thrown_by<ActorDiedError>([&] { trireme::get(actor.call<&Doomed::call>()); });
    CHECK(died.message().find("rank 2") != std::string::npos);
  }
  CHECK(trireme::get(small) == 2);
  const auto gone = thrown_by<trireme::Exception>([&] { trireme::get(owned); });
  CHECK((gone.code() == Errc::owner_died || gone.code() == Errc::object_lost));
  // Its memory is mapped here when the rank was of this node: then the bytes are still good.
  try {
    const auto values = trireme::get(result);
    CHECK(values == make(200'000));
  } catch (const trireme::Exception& error) {
    CHECK(error.code() == Errc::object_lost);
    std::printf("%s\n", error.what());
  }

  // The others go on, among themselves too.
  CHECK(trireme::get(survivor.call<&Doomed::call>()) == 2);
  CHECK(trireme::get(trireme::submit_with<&call>(on(1), survivor)) == 3);
  std::vector<Ref<Rank>> refs;
  for (int i = 0; i < 500; ++i) refs.push_back(trireme::submit<&where>(i));
  for (const Rank rank : trireme::get(refs)) CHECK(rank < 2);

  // An actor that dies in the middle of a call.
  const auto calls = survivor.call<&Doomed::die>();
  const auto behind = survivor.call<&Doomed::call>();
  const auto died = error_of<ActorDiedError>("a call failed", [&] { trireme::get(calls); });
  CHECK(died.message().find("rank 1") != std::string::npos);
  CHECK_THROWS_AS(trireme::get(behind), ActorDiedError);
  CHECK_THROWS_AS(trireme::get(survivor.call<&Doomed::call>()), ActorDiedError);

  // Alone.
  CHECK(trireme::get(trireme::submit<&where>(0)) == 0);
  CHECK(trireme::get(trireme::spawn<Doomed>().call<&Doomed::call>()) == 1);
}

TEST_CASE("rank 0 dies" * doctest::skip()) {
  for (Rank rank = 1; rank < trireme::rank_count(); ++rank) {
    CHECK(trireme::get(trireme::submit_with<&where>(on(rank), 0)) == rank);
    std::printf("rank %u serves\n", rank);
  }
  std::fflush(stdout);
  raise(SIGKILL);
}
