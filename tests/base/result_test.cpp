#include "base/result.hpp"

#include <doctest/doctest.h>

#include <memory>

namespace trireme {
namespace {

TEST_CASE("a Result holds its value or its error") {
  Result<int> value = 3;
  CHECK(value.ok());
  CHECK(*value == 3);
  Result<int> error = make_error(Errc::not_found, "no such thing");
  CHECK_FALSE(error.ok());
  CHECK(error.error().code == Errc::not_found);
  CHECK(error.error().message == "no such thing");
  Status fine;
  CHECK(fine.ok());
  Status bad = make_error(Errc::io, "refused");
  CHECK_FALSE(bad.ok());
  CHECK(bad.error().code == Errc::io);
}

TEST_CASE("a Result gives a move-only value away") {
  Result<std::unique_ptr<int>> made = std::make_unique<int>(9);
  const std::unique_ptr<int> taken = std::move(made).value();
  CHECK(*taken == 9);
}

TEST_CASE("every code has a name of its own, and codes of newer builds read as unknown") {
  for (std::uint16_t code = 0; code <= static_cast<std::uint16_t>(Errc::stream_end); ++code) {
    CAPTURE(code);
    CHECK_FALSE(to_string(static_cast<Errc>(code)).empty());
    for (std::uint16_t other = 0; other < code; ++other)
      CHECK(to_string(static_cast<Errc>(code)) != to_string(static_cast<Errc>(other)));
  }
  CHECK(to_string(static_cast<Errc>(60'000)) == "unknown");
}

}  // namespace
}  // namespace trireme
