// The life of a Runtime: options, arguments, its end, and what is used without one.
#include <doctest/doctest.h>

#include <stdlib.h>

#include "tests/core/gate.hpp"
#include "trireme/trireme.hpp"

using trireme::Errc;
using trireme::Runtime;
using trireme::test::thrown_by;

namespace runtime_test {

int twice(int n) { return 2 * n; }
struct Counter {
  int n = 0;
  int next() { return ++n; }
};

trireme::RuntimeOptions small() {
  trireme::RuntimeOptions options;
  options.threads = 2;
  options.arena_bytes = 8U << 20U;
  options.pin = false;
  return options;
}

struct Arguments {
  explicit Arguments(std::vector<std::string> given) : texts(std::move(given)) {
    for (auto& text : texts) pointers.push_back(text.data());
    pointers.push_back(nullptr);
    count = static_cast<int>(texts.size());
  }
  std::vector<std::string> texts;
  std::vector<char*> pointers;
  int count = 0;
};

}  // namespace runtime_test
using namespace runtime_test;

TEST_CASE("without a Runtime every use says what is missing") {
  for (const auto& step :
       {std::function<void()>([] { (void)trireme::this_rank(); }),
        std::function<void()>([] { (void)trireme::rank_count(); }),
        std::function<void()>([] { (void)trireme::submit<&twice>(1); }),
        std::function<void()>([] { (void)trireme::submit_with<&twice>({}, 1); }),
        std::function<void()>([] { (void)trireme::spawn<Counter>(); }),
        std::function<void()>([] { (void)trireme::actor<Counter>("name"); }),
        std::function<void()>([] { trireme::PlacementGroup(trireme::GroupStrategy::pack, {{}}); })}) {
    const auto error = thrown_by<trireme::Exception>(step);
    CHECK(error.code() == Errc::unavailable);
    CHECK(error.message().find("Runtime") != std::string::npos);
  }
}

TEST_CASE("one Runtime after the other in the same process") {
  for (int round = 0; round < 3; ++round) {
    Runtime runtime(small());
    CHECK(runtime.rank() == 0);
    CHECK(runtime.size() == 1);
    CHECK(trireme::this_rank() == 0);
    CHECK(trireme::rank_count() == 1);
    CHECK(trireme::rank_alive(0));
    CHECK_FALSE(trireme::rank_alive(1));
    CHECK(runtime.get(runtime.submit<&twice>(round)) == 2 * round);
    auto counter = runtime.spawn<Counter>();
    CHECK(runtime.get(counter.call<&Counter::next>()) == 1);
    CHECK(runtime.get(runtime.put(std::string("a"))) == "a");
  }
  CHECK_THROWS_AS(trireme::this_rank(), trireme::Exception);
}

TEST_CASE("a second Runtime beside the first is refused") {
  Runtime first(small());
  CHECK(thrown_by<trireme::Exception>([] { Runtime second(small()); }).code() == Errc::already_exists);
  CHECK(first.get(first.submit<&twice>(4)) == 8);
}

TEST_CASE("a Runtime ends while tasks are still queued") {
  Runtime runtime(small());
  for (int i = 0; i < 1000; ++i) (void)runtime.submit<&twice>(i);
}

TEST_CASE("arguments of the runtime are taken out, others stay") {
  Arguments arguments({"program", "--input", "--trireme-threads=1", "file", "--trireme-arena=16m",
                       "--trireme-resources=licence=2,disk=0.5", "--trireme"});
  Runtime runtime(arguments.count, arguments.pointers.data());
  REQUIRE(arguments.count == 4);
  CHECK(std::string(arguments.pointers[1]) == "--input");
  CHECK(std::string(arguments.pointers[2]) == "file");
  CHECK(std::string(arguments.pointers[3]) == "--trireme");
  CHECK(arguments.pointers[4] == nullptr);
  trireme::TaskOptions options;
  options.resources.custom = {{"licence", 2}, {"disk", 0.5}};
  CHECK(runtime.get(trireme::submit_with<&twice>(options, 3)) == 6);
  options.resources.custom["licence"] = 3;
  const auto error = thrown_by<trireme::Exception>([&] { runtime.get(trireme::submit_with<&twice>(options, 3)); });
  CHECK(error.code() == Errc::unschedulable);
  CHECK(error.message().find("licence") != std::string::npos);
  CHECK(error.message().find('3') != std::string::npos);
  CHECK(error.message().find('2') != std::string::npos);
}

TEST_CASE("arguments that cannot be read are refused with what is possible") {
  for (const std::string bad :
       {"--trireme-thread=2", "--trireme-threads=two", "--trireme-threads=", "--trireme-arena=12x",
        "--trireme-resources=licence", "--trireme-resources=licence=many", "--trireme-resources==2",
        "--trireme-resources=licence=-1", "--trireme-"}) {
    CAPTURE(bad);
    Arguments arguments({"program", bad});
    const auto error =
        thrown_by<trireme::Exception>([&] { Runtime runtime(arguments.count, arguments.pointers.data()); });
    CHECK(error.code() == Errc::invalid_argument);
    CHECK(error.message().find("resources") + error.message().find("threads") + error.message().find("arena") !=
          3 * std::string::npos);
  }
}

TEST_CASE("the environment sets what the program left open") {
  setenv("TRIREME_THREADS", "3", 1);
  setenv("TRIREME_RESOURCES", "licence=1", 1);
  {
    auto options = small();
    options.threads = 0;
    Runtime runtime(options);
    trireme::TaskOptions task;
    task.resources.cpus = 3;
    task.resources.custom["licence"] = 1;
    CHECK(runtime.get(trireme::submit_with<&twice>(task, 3)) == 6);
  }
  setenv("TRIREME_THREADS", "many", 1);
  auto options = small();
  options.threads = 0;
  CHECK(thrown_by<trireme::Exception>([&] { Runtime runtime(options); }).code() == Errc::invalid_argument);
  unsetenv("TRIREME_THREADS");
  unsetenv("TRIREME_RESOURCES");
}

TEST_CASE("custom resources below zero are refused") {
  auto options = small();
  options.resources["licence"] = -1;
  CHECK(thrown_by<trireme::Exception>([&] { Runtime runtime(options); }).code() == Errc::invalid_argument);
}
