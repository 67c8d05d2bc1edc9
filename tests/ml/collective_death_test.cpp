// A member dies, leaves or never comes: everybody else is told who, and can go on in a new group.
#include "tests/ml/forked_group.hpp"

using namespace trireme;
using namespace trireme::ml;
using namespace trireme::ml::test;

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;

/// What `call` threw; Errc::ok when nothing.
template <class Call>
std::pair<Errc, int> outcome(Call call) {
  try {
    call();
  } catch (const CollectiveError& error) {
    const std::string who = "member " + std::to_string(error.member());
    if (std::string(error.what()).find(who) == std::string::npos)
      std::fprintf(stderr, "the text does not name %s: %s\n", who.c_str(), error.what());
    EXPECT(std::string(error.what()).find(who) != std::string::npos);
    return {error.code(), error.member()};
  }
  return {Errc::ok, -1};
}

void survivors_go_on(Meeting& meeting, std::uint32_t rank, std::uint32_t size, std::uint32_t lost) {
  Communicator group(rank > lost ? rank - 1 : rank, size - 1, meeting.exchange(rank > lost ? rank - 1 : rank, size - 1),
                     {.name = "survivors", .timeout_ns = 60 * kSecond});
  std::vector<std::int32_t> data(100'000, 1);
  group.all_reduce(std::span(data));
  EXPECT(data.front() == static_cast<std::int32_t>(size - 1) && data.back() == data.front());
}

}  // namespace

TEST_CASE("a member that is killed ends the operation on every other, which names it; the others form a new group") {
  for (const auto layout : {Layout::one_node, Layout::apart, Layout::pairs}) {
    for (const std::size_t count : {1UL, 300'000UL}) {
      for (const std::uint32_t victim : {0U, 3U}) {
        CAPTURE(to_string(layout));
        CAPTURE(count);
        CAPTURE(victim);
        Meeting& first = Meeting::make();
        Meeting& second = Meeting::make();
        run_members(
            4, layout,
            [&](std::uint32_t rank) {
              Communicator group(rank, 4, first.exchange(rank, 4), {.name = "first", .timeout_ns = 60 * kSecond});
              std::vector<float> data(count, 1.0F);
              const auto [code, member] = outcome([&] {
                for (int round = 0;; ++round) {
                  if (rank == victim && round == 20) raise(SIGKILL);
                  group.all_reduce(std::span(data), ReduceOp::max);
                }
              });
              EXPECT(code == Errc::peer_lost);
              EXPECT(member == static_cast<int>(victim));
              EXPECT(!group.broken().empty());
              EXPECT(outcome([&] { group.barrier(); }).first == Errc::peer_lost);
              survivors_go_on(second, rank, 4, victim);
            },
            victim);
      }
    }
  }
}

TEST_CASE("operations that nobody waits for yet end with the error too") {
  for (const auto layout : {Layout::one_node, Layout::apart}) {
    CAPTURE(to_string(layout));
    Meeting& meeting = Meeting::make();
    run_members(
        3, layout,
        [&](std::uint32_t rank) {
          Communicator group(rank, 3, meeting.exchange(rank, 3), {.timeout_ns = 60 * kSecond});
          group.barrier();
          // Its end must not catch another still in the barrier.
          if (rank == 1) {
            while (meeting.note.load(std::memory_order_acquire) < 2) sched_yield();
            raise(SIGKILL);
          }
          meeting.note.fetch_add(1, std::memory_order_release);
          std::vector<double> a(1000, 1), b(500'000, 1), c(10);
          std::vector<Work> works;
          // Who is slow hears of the death before all are started: a broken group starts nothing.
          const auto [refused, by] = outcome([&] {
            works.push_back(group.start_all_reduce(std::span(a)));
            works.push_back(group.start_all_reduce(std::span(b)));
            works.push_back(group.start_recv(std::span(c), 1));
          });
          EXPECT(works.size() == 3 || (refused == Errc::peer_lost && by == 1));
          for (auto& work : works) {
            const auto [code, member] = outcome([&] { work.wait(); });
            EXPECT(code == Errc::peer_lost && member == 1);
            EXPECT(work.test());
          }
        },
        1);
  }
}

TEST_CASE("a receive from a member that is killed ends, though nobody else talks to it") {
  for (const auto layout : {Layout::one_node, Layout::apart}) {
    CAPTURE(to_string(layout));
    Meeting& meeting = Meeting::make();
    run_members(
        2, layout,
        [&](std::uint32_t rank) {
          Communicator group(rank, 2, meeting.exchange(rank, 2), {.timeout_ns = 60 * kSecond});
          if (rank == 1) raise(SIGKILL);
          float value = 0;
          const auto [code, member] = outcome([&] { group.recv(std::span(&value, 1), 1); });
          EXPECT(code == Errc::peer_lost && member == 1);
        },
        1);
  }
}

TEST_CASE("an operation that a member never joins ends at its deadline, and names that member") {
  for (const auto layout : {Layout::one_node, Layout::apart}) {
    for (const std::size_t count : {1UL, 300'000UL}) {
      CAPTURE(to_string(layout));
      CAPTURE(count);
      Meeting& meeting = Meeting::make();
      run_members(2, layout, [&](std::uint32_t rank) {
        Communicator group(rank, 2, meeting.exchange(rank, 2), {.timeout_ns = kSecond / 2});
        if (rank == 1) {
          while (meeting.note.load(std::memory_order_acquire) == 0) sched_yield();
          EXPECT(outcome([&] { group.barrier(); }).first == Errc::timeout);  // told by the other
          return;
        }
        std::vector<double> data(count, 1);
        const auto [code, member] = outcome([&] { group.all_reduce(std::span(data)); });
        meeting.note.store(1, std::memory_order_release);
        EXPECT(code == Errc::timeout);
        EXPECT(member == 1);
      });
    }
  }
}

TEST_CASE("a member that leaves while others wait for it is named") {
  for (const auto layout : {Layout::one_node, Layout::apart}) {
    CAPTURE(to_string(layout));
    Meeting& meeting = Meeting::make();
    run_members(3, layout, [&](std::uint32_t rank) {
      Communicator group(rank, 3, meeting.exchange(rank, 3), {.timeout_ns = 60 * kSecond});
      std::vector<double> data(10, 1);
      group.all_reduce(std::span(data));
      if (rank == 2) return;  // destroys the group
      const auto [code, member] = outcome([&] { group.all_reduce(std::span(data)); });
      EXPECT(code == Errc::peer_lost && member == 2);
    });
  }
}

TEST_CASE("leaving after the last operation harms nobody") {
  for (const auto layout : {Layout::one_node, Layout::apart, Layout::pairs}) {
    CAPTURE(to_string(layout));
    Meeting& meeting = Meeting::make();
    run_members(4, layout, [&](std::uint32_t rank) {
      Communicator group(rank, 4, meeting.exchange(rank, 4), {.timeout_ns = 60 * kSecond});
      std::vector<std::int64_t> data(400'000, 1);
      group.broadcast(std::span(data), 0);
      group.all_reduce(std::span(data));
      EXPECT(data.back() == 4);
    });
  }
}

TEST_CASE("several members of one process are a group like any other") {
  std::vector<std::thread> threads;
  Meeting& meeting = Meeting::make();
  std::atomic<int> right{0};
  for (std::uint32_t rank = 0; rank < 3; ++rank)
    threads.emplace_back([&, rank] {
      Communicator group(rank, 3, meeting.exchange(rank, 3), {.timeout_ns = 60 * kSecond});
      std::vector<std::int64_t> data(50'000, rank + 1);
      group.all_reduce(std::span(data));
      if (data.front() == 6 && data.back() == 6) ++right;
    });
  for (auto& thread : threads) thread.join();
  CHECK(right == 3);
}
