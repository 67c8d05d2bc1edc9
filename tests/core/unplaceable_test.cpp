// In a job that is said to grow (TRIREME_WAIT_FOR_RESOURCES=1), what fits no rank waits instead of failing.
#include <doctest/doctest.h>

#include <chrono>
#include <stdexcept>

#include "trireme/trireme.hpp"

namespace unplaceable_test {

using std::chrono::milliseconds;

int one() { return 1; }

class Counter {
 public:
  int next() { return ++count_; }

 private:
  int count_ = 0;
};

trireme::Resources unobtainium() {
  trireme::Resources request;
  request.custom["unobtainium"] = 1;
  return request;
}

TEST_CASE("a task that fits no rank waits, and does not hold up others") {
  trireme::TaskOptions options;
  options.resources = unobtainium();
  const auto never = trireme::submit_with<&one>(options);
  CHECK(trireme::get(trireme::submit<&one>()) == 1);
  CHECK_FALSE(never.ready());
  CHECK_THROWS_AS(trireme::get(never, milliseconds(200)), trireme::TimeoutError);
}

TEST_CASE("an actor that fits no rank waits, and so do its calls") {
  trireme::ActorOptions options;
  options.resources = unobtainium();
  const auto counter = trireme::spawn_with<Counter>(options);
  const auto never = counter.call<&Counter::next>();
  const auto other = trireme::spawn<Counter>();
  CHECK(trireme::get(other.call<&Counter::next>()) == 1);
  CHECK_FALSE(never.ready());
  CHECK_THROWS_AS(trireme::get(never, milliseconds(200)), trireme::TimeoutError);
}

TEST_CASE("the calls of an actor that waits end with its last handle") {
  trireme::ActorOptions options;
  options.resources = unobtainium();
  auto counter = trireme::spawn_with<Counter>(options);
  const auto call = counter.call<&Counter::next>();
  counter = {};
  try {
    trireme::get(call, std::chrono::seconds(30));
    FAIL("a call of an actor that is nowhere returned");
  } catch (const trireme::ActorDiedError& error) {
    CHECK(error.message().find("last handle") != std::string::npos);
  }
}

}  // namespace unplaceable_test
