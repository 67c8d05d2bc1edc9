#include "base/wire.hpp"

#include <doctest/doctest.h>

#include "base/rng.hpp"

namespace trireme {
namespace {

TEST_CASE("what Writer wrote Reader reads, to the last byte") {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    CAPTURE(seed);
    Bytes bytes;
    Writer out(bytes);
    Rng rng(seed);
    for (int i = 0; i < 50; ++i) {
      const std::uint64_t value = rng.next() >> rng.below(64);
      switch (rng.below(5)) {
        case 0:
          out.varint(value);
          break;
        case 1:
          out.put(value);
          break;
        case 2:
          out.put(static_cast<std::uint8_t>(value));
          break;
        case 3:
          out.id({static_cast<Rank>(value), value});
          break;
        case 4:
          out.text(std::string(value % 300, 'x'));
          break;
      }
    }
    Reader in(bytes);
    Rng again(seed);
    for (int i = 0; i < 50; ++i) {
      const std::uint64_t value = again.next() >> again.below(64);
      switch (again.below(5)) {
        case 0:
          CHECK(in.varint() == value);
          break;
        case 1:
          CHECK(in.get<std::uint64_t>() == value);
          break;
        case 2:
          CHECK(in.get<std::uint8_t>() == static_cast<std::uint8_t>(value));
          break;
        case 3:
          CHECK(in.id() == ObjectId{static_cast<Rank>(value), value});
          break;
        case 4:
          CHECK(in.text() == std::string(value % 300, 'x'));
          break;
      }
    }
    CHECK(in.done());
  }
}

TEST_CASE("varint holds every 64-bit value and refuses what does not fit") {
  for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{127}, std::uint64_t{128}, std::uint64_t{16383},
                                    std::uint64_t{16384}, std::uint64_t{1} << 63U, UINT64_MAX}) {
    Bytes bytes;
    Writer(bytes).varint(value);
    Reader in(bytes);
    CHECK(in.varint() == value);
    CHECK(in.done());
  }
  Bytes over(9, std::byte{0xFF});
  over.push_back(std::byte{2});
  Reader in(over);
  CHECK(in.varint() == 0);
  CHECK_FALSE(in.ok());
  Bytes endless(20, std::byte{0x80});
  Reader endless_in(endless);
  endless_in.varint();
  CHECK_FALSE(endless_in.ok());
}

TEST_CASE("the first failure makes every later read zero or empty") {
  const Bytes bytes(6, std::byte{1});
  Reader in(bytes);
  CHECK(in.get<std::uint64_t>() == 0);
  CHECK_FALSE(in.ok());
  CHECK(in.get<std::uint8_t>() == 0);
  CHECK(in.varint() == 0);
  CHECK(in.blob().empty());
  CHECK(in.rest().empty());
  CHECK(in.left() == 0);
  CHECK_FALSE(in.done());
}

TEST_CASE("lengths and counts over the end fail instead of being believed") {
  Bytes bytes;
  Writer(bytes).varint(1U << 30U);
  {
    Reader in(bytes);
    CHECK(in.blob().empty());
    CHECK_FALSE(in.ok());
  }
  {
    Reader in(bytes);
    CHECK(in.count(1) == 0);
    CHECK_FALSE(in.ok());
  }
  bytes.clear();
  Writer(bytes).varint(2);
  bytes.resize(bytes.size() + 16);
  Reader fits(bytes);
  CHECK(fits.count(8) == 2);
  Reader too_many(bytes);
  CHECK(too_many.count(9) == 0);
  CHECK_FALSE(too_many.ok());
}

TEST_CASE("an owner that is no rank is refused") {
  Bytes bytes;
  Writer out(bytes);
  out.varint(std::uint64_t{1} << 32U);
  out.varint(7);
  Reader in(bytes);
  CHECK_FALSE(in.id());
  CHECK_FALSE(in.ok());
}

}  // namespace
}  // namespace trireme
