// How members agree on NCCL's id, with ids of our own: no GPU is needed.
#include "ml/collective/nccl_agreement.hpp"

#include <chrono>
#include <stdexcept>
#include <string>

#include "tests/ml/forked_group.hpp"

using namespace trireme;
using namespace trireme::ml;
using namespace trireme::ml::test;
using trireme::ml::detail::NcclAgreement;

namespace {

constexpr std::uint32_t kSize = 3;
constexpr std::int64_t kMinute = 60 * kSecond;

NcclAgreement::Id id_of(std::uint32_t rank) {
  NcclAgreement::Id id{};
  for (std::size_t i = 0; i < id.size(); ++i) id[i] = static_cast<std::uint8_t>(i * 7 + rank + 1);
  return id;
}

}  // namespace

TEST_CASE("everybody gets member 0's id") {
  for (const Layout layout : {Layout::one_node, Layout::apart}) {
    CAPTURE(to_string(layout));
    Meeting& meeting = Meeting::make();
    run_members(kSize, layout, [&](std::uint32_t rank) {
      NcclAgreement agreement;
      Communicator control(rank, kSize, meeting.exchange(rank, kSize), {.timeout_ns = kMinute});
      const auto id = agreement.agree(
          control, "ids", [&] { return id_of(rank); }, SystemClock::read() + kMinute);
      EXPECT(id == id_of(0));
    });
  }
}

TEST_CASE("a member that cannot take part fails all, by its rank and its reason") {
  Meeting& meeting = Meeting::make();
  run_members(kSize, Layout::one_node, [&](std::uint32_t rank) {
    NcclAgreement agreement;
    Communicator control(rank, kSize, meeting.exchange(rank, kSize), {.timeout_ns = kMinute});
    std::string text;
    try {
      agreement.agree(
          control, "broken",
          [&]() -> NcclAgreement::Id {
            if (rank == 1) throw std::runtime_error("no GPU here" + std::string(1000, '!'));
            return id_of(rank);
          },
          SystemClock::read() + kMinute);
    } catch (const CollectiveError& error) {
      EXPECT(error.code() == Errc::unavailable);
      EXPECT(error.member() == 1);
      text = error.what();
    }
    EXPECT(text.starts_with("group 'broken': member 1 of 3 cannot use NCCL: no GPU here!"));
  });
}

TEST_CASE("a member that dies meanwhile fails the others") {
  Meeting& meeting = Meeting::make();
  run_members(
      kSize, Layout::one_node,
      [&](std::uint32_t rank) {
        NcclAgreement agreement;
        Communicator control(rank, kSize, meeting.exchange(rank, kSize), {.timeout_ns = kMinute});
        if (rank == 2) kill(getpid(), SIGKILL);
        int lost = -1;
        try {
          agreement.agree(
              control, "lost", [&] { return id_of(rank); }, SystemClock::read() + kMinute);
        } catch (const CollectiveError& error) {
          EXPECT(error.code() == Errc::peer_lost);
          lost = error.member();
        }
        EXPECT(lost == 2);
      },
      2);
}

TEST_CASE("a member that does not come in time fails this one") {
  Meeting& meeting = Meeting::make();
  run_members(2, Layout::one_node, [&](std::uint32_t rank) {
    NcclAgreement agreement;
    Communicator control(rank, 2, meeting.exchange(rank, 2), {.timeout_ns = kMinute});
    if (rank == 1) {
      while (meeting.note.load() == 0) sched_yield();  // comes to the meeting, not to the agreement
      return;
    }
    bool late = false;
    try {
      agreement.agree(
          control, "late", [&] { return id_of(rank); }, SystemClock::read());
    } catch (const CollectiveError& error) {
      late = error.code() == Errc::timeout;
    }
    meeting.note = 1;
    EXPECT(late);
  });
}
