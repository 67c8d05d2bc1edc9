// Objects in one rank: put, get, wait, arrays, and an arena that fills up.
#include <doctest/doctest.h>

#include <thread>

#include "tests/core/gate.hpp"
#include "trireme/trireme.hpp"

using namespace std::chrono_literals;
using trireme::Array;
using trireme::Errc;
using trireme::Ref;
using trireme::test::Gate;
using trireme::test::thrown_by;

namespace values_test {

constexpr std::size_t kArenaBytes = 64U << 20U;

double sum(const Array<double>& array) {
  double total = 0;
  for (const double x : array) total += x;
  return total;
}
std::uintptr_t place_of(const Array<double>& array) { return reinterpret_cast<std::uintptr_t>(array.data()); }
Array<double> range(int count) {
  Array<double> array(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) array.writable()[static_cast<std::size_t>(i)] = i;
  return array;
}
std::vector<std::byte> block(std::size_t bytes) { return std::vector<std::byte>(bytes, std::byte{7}); }

}  // namespace values_test
using namespace values_test;

TEST_CASE("put and get keep small and large values") {
  CHECK(trireme::get(trireme::put(5)) == 5);
  CHECK(trireme::get(trireme::put(std::string("text"))) == "text");
  for (const std::size_t count : {0U, 1U, 511U, 512U, 513U, 1024U, 1'000'000U}) {
    std::vector<double> values(count);
    for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<double>(i);
    CAPTURE(count);
    const auto ref = trireme::put(values);
    CHECK(ref.ready());
    CHECK(trireme::get(ref) == values);
    CHECK(trireme::get(ref) == values);
  }
}

TEST_CASE("copies of a reference are equal, and keep the value when the first is gone") {
  Ref<std::string> copy;
  CHECK_FALSE(copy);
  CHECK_FALSE(copy.ready());
  {
    const auto first = trireme::put(std::string(10'000, 'a'));
    copy = first;
    CHECK(copy == first);
  }
  CHECK(copy);
  CHECK(trireme::get(copy) == std::string(10'000, 'a'));
}

TEST_CASE("get of several references keeps their order, and throws the first error") {
  std::vector<Ref<int>> refs;
  for (int i = 0; i < 10; ++i) refs.push_back(trireme::put(i));
  CHECK(trireme::get(refs) == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
  Gate<> bad;
  bad.fail({Errc::object_lost, "first", "", 3, "host", ""});
  Gate<> worse;
  worse.fail({Errc::object_lost, "second", "", 3, "host", ""});
  const auto error = thrown_by<trireme::Exception>([&] { trireme::get(std::vector{refs[0], bad.ref(), worse.ref()}); });
  CHECK(error.message() == "first");
  CHECK(error.rank() == 3);
  CHECK(error.host() == "host");
}

TEST_CASE("get with a timeout gives up in time, and the value can still be had later") {
  Gate<> gate;
  const auto error = thrown_by<trireme::TimeoutError>([&] { trireme::get(gate.ref(), 2ms); });
  CHECK(error.code() == Errc::timeout);
  CHECK(error.message().find("2 ms") != std::string::npos);
  CHECK_THROWS_AS(trireme::get(gate.ref(), 0ns), trireme::TimeoutError);
  CHECK_THROWS_AS(trireme::get(gate.ref(), -1s), trireme::TimeoutError);
  gate.open(4);
  CHECK(trireme::get(gate.ref(), 0ns) == 4);
  CHECK(trireme::get(gate.ref(), trireme::Duration::max()) == 4);
}

TEST_CASE("wait splits by what is ready and keeps the order on both sides") {
  Gate<> a, b, c;
  const std::vector refs{a.ref(), b.ref(), c.ref()};
  SUBCASE("nothing is there: the time passes") {
    const auto [ready, rest] = trireme::wait(refs, 1, 1ms);
    CHECK(ready.empty());
    CHECK(rest == refs);
    // A wait that was given up stays noted in what it waited for until that is there.
    a.open();
    b.open();
    c.open();
  }
  SUBCASE("asked for none") {
    const auto [ready, rest] = trireme::wait(refs, 0);
    CHECK(ready.empty());
    CHECK(rest == refs);
  }
  SUBCASE("not more than asked for") {
    c.open();
    b.open();
    const auto [ready, rest] = trireme::wait(refs, 1);
    CHECK(ready == std::vector{b.ref()});
    CHECK(rest == std::vector{a.ref(), c.ref()});
  }
  SUBCASE("asked for more than there are: all of them") {
    std::thread opener([&] {
      c.open();
      a.open();
      b.open();
    });
    const auto [ready, rest] = trireme::wait(refs, 10);
    opener.join();
    CHECK(ready == refs);
    CHECK(rest.empty());
  }
  SUBCASE("an error counts as ready") {
    b.fail({Errc::object_lost, "gone", "", 0, "", ""});
    const auto [ready, rest] = trireme::wait(refs, 1);
    CHECK(ready == std::vector{b.ref()});
  }
  SUBCASE("what becomes ready after the time was up harms nobody") {
    (void)trireme::wait(refs, 3, 1ms);
    a.open();
    b.open();
    c.open();
    CHECK(trireme::wait(refs, 3).first == refs);
  }
}

TEST_CASE("an array is read in place by everybody in the rank") {
  Array<double> array = range(100'000);
  const auto* data = array.data();
  CHECK(reinterpret_cast<std::uintptr_t>(data) % 64 == 0);
  const auto ref = trireme::put(array);
  CHECK(trireme::get(ref).data() == data);
  CHECK(trireme::get(trireme::submit<&place_of>(ref)) == reinterpret_cast<std::uintptr_t>(data));
  CHECK(trireme::get(trireme::submit<&sum>(ref)) == 4999950000.0);
  // A task's result is not copied either.
  const auto made = trireme::submit<&range>(5000);
  CHECK(trireme::get(made).data() == trireme::get(made).data());
}

TEST_CASE("an array outlives its reference") {
  auto view = trireme::get(trireme::put(range(1000)));
  CHECK(sum(view) == 499500.0);
  Array<double> empty;
  CHECK(trireme::get(trireme::put(empty)).size() == 0);
  CHECK(trireme::get(trireme::put(Array<double>(0))).size() == 0);
}

TEST_CASE("bytes of another type are a type_mismatch that says so") {
  const auto text = trireme::put(std::string(5001, 'x'));
  const auto error = thrown_by<trireme::Exception>([&] { trireme::get(Ref<std::vector<double>>(text.cell())); });
  CHECK(error.code() == Errc::type_mismatch);
  CHECK(error.message().find("5001 bytes") != std::string::npos);
  CHECK(error.message().find("std::vector<double") != std::string::npos);
}

TEST_CASE("an object over the arena's size is refused: asked, limit") {
  for (const auto& step : {std::function<void()>([] { trireme::put(block(kArenaBytes + 1)); }),
                           std::function<void()>([] { Array<std::byte> array(kArenaBytes * 2); }),
                           std::function<void()>([] { trireme::get(trireme::put(block(kArenaBytes + 1))); })}) {
    const auto error = thrown_by<trireme::Exception>(step);
    CHECK(error.code() == Errc::too_large);
    CHECK(error.message().find(std::to_string(kArenaBytes)) != std::string::npos);
  }
}

TEST_CASE("a result over the arena's size is the task's error") {
  // Only what leaves the rank or is put goes through the arena; a plain vector result stays where it is.
  const auto error = thrown_by<trireme::Exception>([] { trireme::get(trireme::submit<&range>(int{kArenaBytes / 4})); });
  CHECK(error.code() == Errc::too_large);
}

TEST_CASE("a full arena holds producers back until something is freed") {
  constexpr std::size_t kPiece = 4U << 20U;
  constexpr std::size_t kAll = kArenaBytes / kPiece;
  std::vector<Array<std::byte>> mine;
  for (std::size_t i = 0; i < 4; ++i) mine.emplace_back(kPiece);
  std::atomic<std::size_t> made{0};
  std::thread producer([&] {
    std::vector<Array<std::byte>> kept;
    for (std::size_t i = 0; i < kAll - 2; ++i) {
      kept.emplace_back(kPiece);
      kept.back().writable()[kPiece - 1] = std::byte{1};
      made.fetch_add(1);
    }
  });
  // Together they want more than there is, so the producer cannot be done before some of ours go.
  while (made.load() < kAll - 6) std::this_thread::yield();
  CHECK(made.load() < kAll - 2);
  mine.clear();
  producer.join();
  CHECK(made.load() == kAll - 2);
}

TEST_CASE("a cell that is cancelled while it is completed has one of the two outcomes, told once") {
  struct Count final : trireme::detail::Waiter {
    std::atomic<int> fired{0};
  };
  trireme::detail::ErrorInfo cancelled;
  cancelled.code = Errc::cancelled;
  constexpr int kRounds = 2000;
  int completed = 0;
  for (int i = 0; i < kRounds; ++i) {
    const auto cell = trireme::detail::make_plain_cell();
    Count count;
    count.fire = [](trireme::detail::Waiter* waiter) { static_cast<Count*>(waiter)->fired.fetch_add(1); };
    REQUIRE(cell->add_waiter(&count));
    std::atomic<int> ready{0};
    std::thread completer([&] {
      ready.fetch_add(1);
      while (ready.load() < 2) std::this_thread::yield();
      trireme::detail::Value value;
      value.bytes.resize(8);
      cell->complete(std::move(value));
    });
    ready.fetch_add(1);
    while (ready.load() < 2) std::this_thread::yield();
    const bool was_cancelled = cell->cancel(cancelled);
    completer.join();
    completed += was_cancelled ? 0 : 1;
    CHECK(count.fired.load() == 1);
    CHECK((cell->form() == trireme::detail::CellForm::error) == was_cancelled);
    CHECK_FALSE(cell->cancel(cancelled));
  }
  MESSAGE(completed, " of ", kRounds, " were completed first");
}

TEST_CASE("what completes a cancelled cell later has no effect") {
  trireme::detail::ErrorInfo cancelled;
  cancelled.code = Errc::cancelled;
  const auto cell = trireme::detail::make_plain_cell();
  CHECK(cell->cancel(cancelled));
  trireme::detail::ErrorInfo other;
  other.code = Errc::worker_lost;
  cell->complete_error(other);
  cell->complete(trireme::detail::Value{});
  REQUIRE(cell->form() == trireme::detail::CellForm::error);
  CHECK(cell->error().code == Errc::cancelled);
}
