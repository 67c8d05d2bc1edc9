#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

#include "core/message.hpp"
#include "tests/sim/fuzz_input.hpp"

namespace trireme {

TEST_CASE(
    "every type of message begins an input of the fuzzed rank core, and each is as large as its first byte says") {
  const char* folder = std::getenv("FUZZ_CORPUS");
  REQUIRE(folder != nullptr);
  std::set<int> types;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::vector<std::uint8_t> input{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    const auto messages = sim::messages_of(input.data(), input.size());
    const auto name = entry.path().filename().string();
    INFO("input ", name);
    REQUIRE(!messages.empty());
    // Recorded ones, of one message each; the others are what was once found.
    if (!name.starts_with("type")) continue;
    const auto type = std::to_integer<int>(messages[0][0]);
    CHECK(name.starts_with("type" + std::to_string(type) + "_"));
    CHECK(messages.size() == 1);
    CHECK(messages[0].size() + 1 == input.size());
    types.insert(type);
  }
  for (const auto type : core::message_types()) {
    INFO("record one with FUZZ_RECORD, see fuzz_core.cpp: none is of type ", static_cast<int>(type));
    CHECK(types.contains(static_cast<int>(type)));
  }
}

}  // namespace trireme
