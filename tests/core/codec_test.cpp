#include <doctest/doctest.h>

#include <boost/serialization/map.hpp>
#include <boost/serialization/string.hpp>
#include <boost/serialization/vector.hpp>
#include <map>
#include <random>

#include "trireme/trireme.hpp"

namespace {

using trireme::Ref;
using trireme::detail::CellRef;
using trireme::detail::Codec;
using trireme::detail::DecodeError;
using trireme::detail::Decoder;
using trireme::detail::Encoder;

struct Bytes {
  std::vector<std::byte> bytes;
  std::vector<CellRef> refs;
};

template <class T>
Bytes encoded(const T& value) {
  Bytes out;
  Encoder encoder(out.bytes, out.refs);
  Codec<T>::encode(encoder, value);
  return out;
}

template <class T>
T decoded(const Bytes& in) {
  Decoder decoder(in.bytes, in.refs);
  T value = Codec<T>::decode(decoder);
  CHECK(decoder.left() == 0);
  return value;
}

/// As an argument or inside another value, and as an object of its own.
template <class T>
void check_round_trip(const T& value) {
  CHECK(decoded<T>(encoded(value)) == value);
  CHECK(trireme::detail::decode_value<T>(trireme::detail::encode_value(value)) == value);
}

/// No proper prefix of the bytes may pass as a value.
template <class T>
void check_every_cut_is_refused(const T& value) {
  const auto whole = encoded(value);
  for (std::size_t size = 0; size < whole.bytes.size(); ++size) {
    Bytes cut = whole;
    cut.bytes.resize(size);
    CAPTURE(size);
    Decoder decoder(cut.bytes, cut.refs);
    CHECK_THROWS_AS(Codec<T>::decode(decoder), DecodeError);
  }
}

struct Plain {
  int a = 0;
  double b = 0;
  bool operator==(const Plain&) const = default;
};

enum class Colour : std::uint8_t { red, green };

struct Person {
  std::string name;
  std::map<std::string, std::vector<double>> scores;
  bool operator==(const Person&) const = default;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& name& scores;
  }
};

struct Family {
  std::vector<Person> members;
  Ref<int> income;
  std::vector<Ref<int>> debts;
  template <class Archive>
  void serialize(Archive& archive, unsigned) {
    archive& members& income& debts;
  }
};

const std::vector<std::tuple<std::string, std::optional<std::vector<std::string>>, Plain>> kNested = {
    {"one", std::vector<std::string>{"a", "", std::string(300, 'x')}, {1, 2.5}}, {"two", std::nullopt, {}}};

}  // namespace

TEST_CASE("plain values come back as they were") {
  check_round_trip(42);
  check_round_trip(-1.5e300);
  check_round_trip(true);
  check_round_trip(Colour::green);
  check_round_trip(Plain{3, 4.5});
  check_round_trip(std::array<int, 3>{1, 2, 3});
}

TEST_CASE("strings and vectors come back, empty and long") {
  check_round_trip(std::string());
  check_round_trip(std::string("with \0 inside", 13));
  check_round_trip(std::string(100'000, 'y'));
  check_round_trip(std::vector<double>{});
  check_round_trip(std::vector<double>(10'000, 0.25));
  check_round_trip(std::vector<Plain>{{1, 2}, {3, 4}});
  check_round_trip(std::vector<bool>{true, false, true});
  check_round_trip(std::vector<std::string>{"", "a", "bc"});
}

TEST_CASE("nested values, tuples, pairs and optionals come back") {
  check_round_trip(kNested);
  check_round_trip(std::pair<std::string, int>{"a", 1});
  check_round_trip(std::optional<int>{});
  check_round_trip(std::optional<std::string>{"b"});
  check_round_trip(std::vector<std::vector<std::vector<int>>>{{{1}, {}}, {}});
  check_round_trip(std::tuple<>{});
}

TEST_CASE("values of arbitrary length stay aligned inside others") {
  for (int length = 0; length < 17; ++length) {
    check_round_trip(std::tuple<std::string, std::vector<double>>{std::string(length, 'p'), {1.0, 2.0}});
  }
}

TEST_CASE("types with serialize() go through Boost.Serialization, inside others too") {
  const Person person{"Ada", {{"maths", {1, 2, 3}}, {"", {}}}};
  check_round_trip(person);
  check_round_trip(std::vector<Person>{person, {}, person});
  check_round_trip(std::tuple<int, std::optional<Person>>{1, person});
}

TEST_CASE("references travel in a side table, wherever they stand") {
  const auto one = trireme::put(1);
  const auto two = trireme::put(2);
  SUBCASE("in containers") {
    const std::vector<std::pair<std::string, Ref<int>>> value = {{"a", one}, {"b", two}, {"none", {}}};
    const auto bytes = encoded(value);
    CHECK(bytes.refs.size() == 2);
    CHECK(decoded<std::vector<std::pair<std::string, Ref<int>>>>(bytes) == value);
  }
  SUBCASE("in types with serialize()") {
    const Family family{{{"Bob", {}}}, one, {two, one, {}}};
    const auto back = decoded<Family>(encoded(family));
    CHECK(back.members == family.members);
    CHECK(back.income == one);
    CHECK(back.debts == family.debts);
  }
  SUBCASE("several types with references in one value") {
    const auto back = decoded<std::vector<Family>>(encoded(std::vector<Family>{{{}, one, {}}, {{}, two, {one}}}));
    CHECK(back[0].income == one);
    CHECK(back[1].income == two);
    CHECK(back[1].debts == std::vector{one});
  }
  SUBCASE("an index beyond the table is refused") {
    auto bytes = encoded(std::vector<Ref<int>>{one, two});
    bytes.refs.pop_back();
    Decoder decoder(bytes.bytes, bytes.refs);
    CHECK_THROWS_AS(Codec<std::vector<Ref<int>>>::decode(decoder), DecodeError);
  }
}

TEST_CASE("an array inside another value brings its elements along") {
  trireme::Array<int> array(std::vector<int>{1, 2, 3});
  const auto back =
      decoded<std::tuple<int, trireme::Array<int>>>(encoded(std::tuple<int, trireme::Array<int>>{7, array}));
  CHECK(std::get<0>(back) == 7);
  const auto view = std::get<1>(back).view();
  CHECK(std::vector<int>(view.begin(), view.end()) == std::vector<int>{1, 2, 3});
  CHECK(decoded<trireme::Array<int>>(encoded(trireme::Array<int>())).size() == 0);
}

TEST_CASE("bytes that end early are refused at every length") {
  check_every_cut_is_refused(kNested);
  check_every_cut_is_refused(std::string(200, 'x'));
  check_every_cut_is_refused(std::vector<double>{1, 2, 3});
  check_every_cut_is_refused(Plain{1, 2});
  check_every_cut_is_refused(Person{"Ada", {{"maths", {1, 2, 3}}}});
}

TEST_CASE("an object that is longer than its type is refused") {
  using trireme::detail::decode_value;
  using trireme::detail::encode_value;
  CHECK_THROWS_AS(decode_value<Plain>(encode_value(std::pair{Plain{1, 2}, 3})), DecodeError);
  CHECK_THROWS_AS(decode_value<int>(encode_value(Plain{1, 2})), DecodeError);
}

TEST_CASE("counts that lie do not allocate what they claim") {
  Bytes lie;
  lie.bytes = {std::byte{0xff}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff}, std::byte{0x7f}};
  Decoder strings(lie.bytes, lie.refs);
  CHECK_THROWS_AS(Codec<std::vector<std::string>>::decode(strings), DecodeError);
  Decoder numbers(lie.bytes, lie.refs);
  CHECK_THROWS_AS(Codec<std::vector<double>>::decode(numbers), DecodeError);
  // A length that is no multiple of the element.
  const auto odd = encoded(std::string("abcdefg"));
  Decoder misfit(odd.bytes, odd.refs);
  CHECK_THROWS_AS(Codec<std::vector<double>>::decode(misfit), DecodeError);
}

TEST_CASE("damaged bytes decode to something or are refused, never worse") {
  const auto whole = encoded(kNested);
  for (std::uint32_t seed = 1; seed <= 2000; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    Bytes damaged = whole;
    for (int i = 0; i < 3; ++i) damaged.bytes[random() % damaged.bytes.size()] = static_cast<std::byte>(random());
    try {
      Decoder decoder(damaged.bytes, damaged.refs);
      const auto value = Codec<std::decay_t<decltype(kNested)>>::decode(decoder);
      CHECK(value.size() <= damaged.bytes.size());
    } catch (const DecodeError&) {
    }
  }
}
