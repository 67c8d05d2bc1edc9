// Members that sleep between operations, because there are more of them than cores.
#include "tests/ml/forked_group.hpp"

using namespace trireme;
using namespace trireme::ml;
using namespace trireme::ml::test;

TEST_CASE("no wake-up is lost when members outnumber the cores") {
  constexpr std::uint32_t kMembers = 12;
  constexpr int kRounds = 5000;
  for (const auto layout : {Layout::one_node, Layout::pairs}) {
    CAPTURE(to_string(layout));
    Meeting& meeting = Meeting::make();
    run_members(kMembers, layout, [&](std::uint32_t rank) {
      // A member that nobody wakes sleeps until then, and the operation fails.
      Communicator group(rank, kMembers, meeting.exchange(rank, kMembers),
                         {.name = "sleepers", .timeout_ns = 20'000'000'000});
      std::vector<std::int32_t> data;
      const int rounds = layout == Layout::one_node ? kRounds : kRounds / 60;
      for (int round = 0; round < rounds; ++round) {
        data.assign(round % 2 == 0 ? 1 : 20'000, 1);  // directly, and in parts
        group.all_reduce(std::span(data));
        EXPECT(data.front() == static_cast<std::int32_t>(kMembers) && data.back() == data.front());
      }
    });
  }
}
