// Objects over all ranks: in place on one node, pulled between nodes, references that wander.
#include <doctest/doctest.h>

#include <chrono>
#include <numeric>
#include <thread>

#include "core/current.hpp"
#include "core/rank_core.hpp"
#include "tests/ranks/everywhere.hpp"

using trireme::Array;
using trireme::Rank;
using trireme::Ref;
using namespace trireme::test;

namespace ranks_objects {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::size_t kBig = 200'000;
#else
constexpr std::size_t kBig = 1'000'000;
#endif

Array<double> range(std::size_t count) {
  Array<double> array(count);
  std::iota(array.writable().begin(), array.writable().end(), 0.0);
  return array;
}
bool is_range(const Array<double>& array, std::size_t count) {
  if (array.size() != count) return false;
  for (std::size_t i = 0; i < count; ++i) {
    if (array[i] != static_cast<double>(i)) return false;
  }
  return true;
}
/// Whose arena the argument lies in, seen from the rank that runs this; kNoRank when the bytes are wrong or lie
/// elsewhere.
Rank arena_of(const Array<double>& array, std::size_t count) {
  if (!is_range(array, count)) return trireme::kNoRank;
  const auto& context = trireme::core::current().context();
  const auto& buffer = array.buffer();
  if (buffer.rank != context.self && context.host->peer_memory(buffer.rank).data() + buffer.offset != buffer.data.get())
    return trireme::kNoRank;
  return buffer.rank;
}
std::vector<Ref<Array<double>>> put_some(int count) {
  std::vector<Ref<Array<double>>> refs;
  for (int i = 0; i < count; ++i) refs.push_back(trireme::put(range(5000)));
  return refs;
}
bool all_ranges(std::vector<Ref<Array<double>>> refs) {
  for (const auto& ref : refs) {
    if (!is_range(trireme::get(ref), 5000)) return false;
  }
  return true;
}
bool all_ranges_of(Ref<std::vector<Ref<Array<double>>>> refs) { return all_ranges(trireme::get(refs)); }
Ref<std::string> put_text(std::string text) { return trireme::put(std::move(text)); }
Ref<std::string> hand_on(Ref<std::string> ref, std::vector<Rank> way) {
  if (way.empty()) return ref;
  const Rank next = way.back();
  way.pop_back();
  return trireme::get(trireme::submit_with<&hand_on>(on(next), ref, way));
}
std::size_t length(const std::string& text) { return text.size(); }
struct Field {
  std::string name;
  Array<double> values;
};
std::tuple<std::string, Array<double>> named_field(std::size_t count) { return {"field", range(count)}; }
std::size_t field_size(const std::tuple<std::string, Array<double>>& field) {
  return is_range(std::get<1>(field), std::get<1>(field).size()) ? std::get<1>(field).size() : 0;
}

/// Whether somebody else has the value brought here within half a minute.
bool comes(Ref<Array<double>> ref) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!ref.ready() && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  return ref.ready();
}
Array<double> range_if(bool yes, std::size_t count) { return range(yes ? count : 0); }

std::vector<double> numbers(std::size_t count, int value) { return std::vector<double>(count, value); }
int plus_one(int value) { return value + 1; }

Rank last() { return trireme::rank_count() - 1; }

}  // namespace ranks_objects
using namespace ranks_objects;

TEST_CASE("an array is read in place by ranks of its node, and copied once to others") {
  for (Rank maker = 0; maker < trireme::rank_count(); ++maker) {
    const auto made = trireme::submit_with<&range>(on(maker), kBig);
    for (Rank reader = 0; reader < trireme::rank_count(); ++reader) {
      CAPTURE(maker);
      CAPTURE(reader);
      CHECK(trireme::get(trireme::submit_with<&arena_of>(on(reader), made, kBig)) == (apart() ? reader : maker));
    }
    const auto view = trireme::get(made);
    CHECK(is_range(view, kBig));
    CHECK(view.buffer().rank == (apart() ? 0 : maker));
    CHECK(trireme::get(made).data() == view.data());
  }
}

TEST_CASE("an object put here is read everywhere at once") {
  for (int round = 0; round < 3; ++round) {
    const auto object = trireme::put(range(kBig));
    std::vector<Ref<Rank>> readers;
    for (int each = 0; each < 3; ++each) {
      for (Rank rank = 0; rank <= last(); ++rank)
        readers.push_back(trireme::submit_with<&arena_of>(on(rank), object, kBig));
    }
    for (std::size_t i = 0; i < readers.size(); ++i) {
      CHECK(trireme::get(readers[i]) == (apart() ? static_cast<Rank>(i) % trireme::rank_count() : 0));
    }
  }
}

TEST_CASE("an array lives on while it is looked at, without its reference") {
  Array<double> view;
  {
    const auto made = trireme::submit_with<&range>(on(last()), kBig);
    view = trireme::get(made);
  }
  // Others come and go in the same arena meanwhile.
  for (int i = 0; i < 5; ++i)
    CHECK(trireme::get(trireme::submit_with<&range>(on(last()), kBig / 2)).size() == kBig / 2);
  CHECK(is_range(view, kBig));
}

TEST_CASE("an array inside another value arrives whole") {
  const auto field = trireme::submit_with<&named_field>(on(last()), kBig / 10);
  for (Rank rank = 0; rank <= last(); ++rank)
    CHECK(trireme::get(trireme::submit_with<&field_size>(on(rank), field)) == kBig / 10);
  CHECK(std::get<0>(trireme::get(field)) == "field");
}

TEST_CASE("references made elsewhere go to third ranks") {
  for (const std::size_t size : {10U, 50'000U}) {
    CAPTURE(size);
    const auto outer = trireme::submit_with<&put_text>(on(last()), std::string(size, 'x'));
    const Ref<std::string> inner = trireme::get(outer);
    for (Rank rank = 0; rank <= last(); ++rank)
      CHECK(trireme::get(trireme::submit_with<&length>(on(rank), inner)) == size);
    CHECK(trireme::get(inner) == std::string(size, 'x'));
  }
}

TEST_CASE("a reference that wanders over all ranks still finds its value") {
  std::vector<Rank> way;
  for (int i = 0; i < 20; ++i) way.push_back(static_cast<Rank>(i * 7) % trireme::rank_count());
  for (const std::size_t size : {10U, 50'000U}) {
    Ref<std::string> back;
    {
      const auto text = trireme::put(std::string(size, 'w'));
      back = trireme::get(trireme::submit_with<&hand_on>(on(last()), text, way));
    }
    CHECK(trireme::get(back) == std::string(size, 'w'));
    // Made elsewhere, handed around, and dropped by its maker.
    const auto far = trireme::get(trireme::submit_with<&put_text>(on(last()), std::string(size, 'z')));
    CHECK(trireme::get(trireme::get(trireme::submit_with<&hand_on>(on(0), far, way))) == std::string(size, 'z'));
  }
}

TEST_CASE("references inside values, and references to those") {
  const auto some = trireme::submit_with<&put_some>(on(last()), 20);
  for (Rank rank = 0; rank <= last(); ++rank) {
    CHECK(trireme::get(trireme::submit_with<&all_ranges>(on(rank), some)));
    CHECK(trireme::get(trireme::submit_with<&all_ranges_of>(on(rank), some)));
  }
  CHECK(all_ranges(trireme::get(some)));
}

TEST_CASE("values that are got together are fetched together") {
  const auto far = trireme::submit_with<&range>(on(last()), kBig);
  CHECK(trireme::get(trireme::submit_with<&arena_of>(on(last()), far, kBig)) == last());  // it is there, nobody asked
  // What is got first is there only after what is got next.
  const auto first = trireme::submit_with<&range_if>(on(last()), trireme::submit_with<&comes>(on(0), far), 10);
  SUBCASE("however long it takes") {
    const auto both = trireme::get(std::vector{first, far});
    CHECK(is_range(both.at(0), 10));
    CHECK(is_range(both.at(1), kBig));
  }
  SUBCASE("with a deadline") {
    CHECK(trireme::get(std::vector{first, far}, std::chrono::minutes(1)).at(0).size() == 10);
  }
  SUBCASE("a result that is made only later, in another rank") {
    const auto later = trireme::submit_with<&range_if>(on(last()), trireme::submit_with<&comes>(on(0), far), kBig);
    const auto latest = trireme::submit_with<&range_if>(on(last()), trireme::submit_with<&comes>(on(0), later), 10);
    CHECK(is_range(trireme::get(std::vector{latest, far, later}).at(2), kBig));
  }
}

TEST_CASE("several references with a deadline") {
  const Gate<> gate;
  const auto opens = trireme::submit_with<&plus_one>(on(last()), gate.ref());
  const auto is_there = trireme::put(1);
  CHECK(thrown_by<trireme::TimeoutError>([&] {
          trireme::get(std::vector{is_there, opens}, std::chrono::milliseconds(20));
        }).code() == trireme::Errc::timeout);
  gate.open(7);
  CHECK(trireme::get(std::vector{is_there, opens}, std::chrono::minutes(1)) == std::vector{1, 8});
}

TEST_CASE("more passes through an arena than it holds, and nothing piles up") {
  // Each round is a fraction of the arena; together they are several times its size.
  for (int round = 0; round < 40; ++round) {
    const auto made = trireme::submit_with<&range>(on(last()), kBig);
    CHECK(trireme::get(trireme::submit_with<&arena_of>(on(0), made, kBig)) == (apart() ? 0 : last()));
  }
}

TEST_CASE("more than an arena holds is got together") {
  // Every other rank makes less than its arena holds; with three ranks or more it is too much for this one's.
  std::vector<Ref<std::vector<double>>> made;
  for (int i = 0; i < 12; ++i) {
    for (Rank rank = 1; rank < trireme::rank_count(); ++rank)
      made.push_back(trireme::submit_with<&numbers>(on(rank), kBig, static_cast<int>(made.size())));
  }
  const auto all = trireme::get(made);
  for (std::size_t i = 0; i < made.size(); ++i) CHECK(all.at(i) == std::vector<double>(kBig, static_cast<double>(i)));
}

TEST_CASE("nothing stays behind after objects") {
  std::string left;
  CHECK_MESSAGE(nothing_left(left), left);
}
