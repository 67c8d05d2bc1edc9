#include "trireme/ml/thresholds.hpp"

#include <doctest/doctest.h>

#include <cstdlib>

#include "trireme/ml/communicator.hpp"

namespace {

using namespace trireme;
using namespace trireme::ml;

std::string problem(std::string_view text) {
  auto parsed = parse_thresholds(text);
  if (parsed.ok()) return "";
  CHECK(parsed.error().code == Errc::invalid_argument);
  return parsed.error().message;
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

Result<std::vector<std::vector<std::byte>>> alone(std::span<const std::byte> mine, std::int64_t) {
  return std::vector<std::vector<std::byte>>{{mine.begin(), mine.end()}};
}

TEST_CASE("thresholds are read, and what is not named keeps its default") {
  const auto parsed = parse_thresholds("net_segment=1m,node_direct=0,fixed_direct=12345,net_tree=64k").value();
  CHECK(parsed.net_segment == 1U << 20U);
  CHECK(parsed.node_direct == 0);
  CHECK(parsed.fixed_direct == 12345);
  CHECK(parsed.net_tree == 64U << 10U);
  CHECK(parsed.net_doubling == Thresholds{}.net_doubling);
  CHECK(parse_thresholds("").value() == Thresholds{});
  CHECK(parse_thresholds(to_string(parsed)).value() == parsed);
  CHECK(parse_thresholds(to_string(Thresholds{})).value() == Thresholds{});
}

TEST_CASE("what cannot be a threshold is refused with what was asked and what there is") {
  CHECK(has(problem("net_sgment=1m"), "'net_sgment=1m' is not name=value"));
  CHECK(has(problem("net_sgment=1m"), "net_segment"));
  CHECK(has(problem("net_segment"), "'net_segment' is not name=value"));
  CHECK(has(problem("net_tree=4k,net_segment=lots"), "net_segment: 'lots' is no number"));
  CHECK(has(problem("net_tree=4g"), "'4g' is no number"));
  CHECK(has(problem("net_tree=-1"), "'-1' is no number"));
  CHECK(has(problem("net_tree=99999999999999999999"), "is no number"));
  CHECK(has(problem("node_chunk=1k"), "node_chunk=1024 is out of range: 4096 to 1048576"));
  CHECK(has(problem("node_chunk=2m"), "out of range"));
  CHECK(has(problem("net_ahead=65"), "net_ahead=65 is out of range: 0 to 64"));
  CHECK(has(problem(","), "is not name=value"));
}

TEST_CASE("an unreadable TRIREME_COLLECTIVES makes no group, and options come before it") {
  ::setenv("TRIREME_COLLECTIVES", "net_segment=lots", 1);
  std::string text;
  try {
    const Communicator group(0, 1, alone);
  } catch (const CollectiveError& error) {
    CHECK(error.code() == Errc::invalid_argument);
    text = error.what();
  }
  CHECK(has(text, "TRIREME_COLLECTIVES of member 0: net_segment: 'lots'"));
  CommunicatorOptions options;
  options.thresholds = Thresholds{};
  Communicator group(0, 1, alone, options);
  double one = 1;
  group.all_reduce(std::span(&one, 1));
  CHECK(one == 1);
  ::unsetenv("TRIREME_COLLECTIVES");
}

}  // namespace
