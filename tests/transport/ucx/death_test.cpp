#include <algorithm>

#include "tests/transport/ucx/forked_ranks.hpp"

using namespace trireme;
using namespace trireme::test;

namespace {

bool has(const std::vector<Rank>& ranks, Rank rank) {
  return std::find(ranks.begin(), ranks.end(), rank) != ranks.end();
}

}  // namespace

TEST_CASE("a killed peer wakes ranks that sleep, once, whoever spoke first") {
  // Rank 1 dies. Rank 0 has sent to it, rank 2 has only heard from it.
  run_ranks(
      3, 0,
      [](RankProcess& self) {
        auto& ready = self.meeting.notes[0];
        if (self.rank == 1) {
          self.sleep_until([&] { return self.seen.frames == 1; });
          self.send_text(0, "hello");
          self.send_text(2, "hello");
          // acquire: both have told that they heard.
          while (ready.load(std::memory_order_acquire) != 2) self.backend->poll(self.seen);
          raise(SIGKILL);
        }
        if (self.rank == 0) self.send_text(1, "hello");
        self.sleep_until([&] { return self.seen.frames == 1; });
        while (self.backend->poll(self.seen) != 0) {
        }
        ready.fetch_add(1, std::memory_order_release);
        self.sleep_until([&] { return !self.seen.lost.empty(); });
        EXPECT(self.seen.lost == std::vector<Rank>{1});
        EXPECT(self.backend->send(1, {}) == SendStatus::peer_lost);
        EXPECT(self.backend->describe(1).starts_with("lost: "));
        bool refused = false;
        self.backend->get(1, 0, {},
                          [&](Status status) { refused = !status.ok() && status.error().code == Errc::peer_lost; });
        EXPECT(refused);
        // The living go on.
        const Rank other = 2 - self.rank;
        self.send_text(other, "and us?");
        self.sleep_until([&] { return self.seen.frames == 2; });
        self.backend->close(10'000'000'000);
        EXPECT(self.seen.lost.size() == 1);
      },
      1);
}

TEST_CASE("gets from a peer that is killed all end with peer_lost or their bytes") {
  for (const unsigned before : {0U, 1U, 5U}) {
    CAPTURE(before);
    run_ranks(
        2, 64U << 20U,
        [before](RankProcess& self) {
          auto& finished = self.meeting.notes[0];
          if (self.rank == 1) {
            std::fill(self.memory.begin(), self.memory.end(), std::byte{7});
            self.barrier();
            // relaxed: only the count matters.
            while (finished.load(std::memory_order_relaxed) < before) self.backend->poll(self.seen);
            raise(SIGKILL);
          }
          self.barrier();
          constexpr std::size_t kGets = 32;
          constexpr std::size_t kBytes = 2U << 20U;
          std::size_t done = 0;
          std::size_t lost = 0;
          for (std::size_t i = 0; i < kGets; ++i) {
            const auto into = std::span(self.memory).subspan(i * kBytes, kBytes);
            self.backend->get(1, i * kBytes, into, [&, into](Status status) {
              ++done;
              finished.fetch_add(1, std::memory_order_relaxed);
              if (status.ok()) {
                EXPECT(into.front() == std::byte{7} && into.back() == std::byte{7});
              } else {
                EXPECT(status.error().code == Errc::peer_lost);
                ++lost;
              }
            });
          }
          self.sleep_until([&] { return done == kGets && !self.seen.lost.empty(); });
          EXPECT(done == kGets);
          EXPECT(self.seen.lost == std::vector<Rank>{1});
        },
        1);
  }
}

TEST_CASE("a peer that is dead before the first frame is reported lost") {
  run_ranks(
      2, 0,
      [](RankProcess& self) {
        self.barrier();
        if (self.rank == 1) {
          // release: the address was read, see the constructor's barrier.
          self.meeting.notes[1].store(1, std::memory_order_release);
          raise(SIGKILL);
        }
        while (self.meeting.notes[1].load(std::memory_order_acquire) == 0) sched_yield();
        self.backend->send(1, {});
        self.sleep_until([&] { return !self.seen.lost.empty(); });
        EXPECT(self.seen.lost == std::vector<Rank>{1});
      },
      1);
}

TEST_CASE("frames to a peer that is killed end with peer_lost, and nothing else breaks") {
  run_ranks(
      3, 0,
      [](RankProcess& self) {
        Bytes frame(self.backend->frame_bytes_max());
        if (self.rank == 1) {
          while (self.seen.frames < 100) self.backend->poll(self.seen);
          raise(SIGKILL);
        }
        if (self.rank == 2) {
          self.sleep_until([&] { return !self.seen.left.empty(); });
          EXPECT(self.seen.frames == 1);
          return;
        }
        SendStatus status = SendStatus::sent;
        while (status != SendStatus::peer_lost) {
          status = self.backend->send(1, frame);
          self.backend->poll(self.seen);
        }
        self.sleep_until([&] { return has(self.seen.lost, 1); });
        EXPECT(self.seen.lost.size() == 1);
        self.send_text(2, "alive");
        self.backend->close(10'000'000'000);
      },
      1);
}

TEST_CASE("a forgotten peer is not reported, its gets end, and others stay reachable") {
  run_ranks(3, 8U << 20U, [](RankProcess& self) {
    if (self.rank != 0) {
      // Rank 1 is forgotten by rank 0: it sees a broken connection. Rank 2 sees an orderly end.
      self.sleep_until([&] { return !self.seen.left.empty() || !self.seen.lost.empty(); });
      EXPECT((self.rank == 1 ? self.seen.lost : self.seen.left) == std::vector<Rank>{0});
      self.barrier();
      return;
    }
    self.send_text(1, "hello");
    bool connected = false;
    self.backend->get(1, 0, std::span(self.memory).first(1), [&](Status status) { connected = status.ok(); });
    self.sleep_until([&] { return connected; });
    int ended = 0;
    for (int i = 0; i < 10; ++i)
      self.backend->get(1, 0, self.memory, [&](Status status) {
        EXPECT(!status.ok() && status.error().code == Errc::peer_lost);
        ++ended;
      });
    self.backend->forget(1);
    self.sleep_until([&] { return ended == 10; });
    EXPECT(self.backend->send(1, {}) == SendStatus::peer_lost);
    EXPECT(self.seen.lost.empty());
    bool got = false;
    self.backend->get(2, 0, self.memory, [&](Status status) { got = status.ok(); });
    self.sleep_until([&] { return got; });
    self.backend->close(10'000'000'000);
    EXPECT(self.seen.lost.empty());
    self.barrier();
  });
}

TEST_CASE("a peer that dies while the first contact is being made takes nobody with it") {
  for (const unsigned polls : {1U, 2U, 3U, 4U, 6U, 9U, 14U, 30U}) {
    CAPTURE(polls);
    run_ranks(
        2, 0,
        [polls](RankProcess& self) {
          auto& dead = self.meeting.notes[1];
          self.barrier();
          if (self.rank == 1) {
            self.send_text(0, "hello");
            for (unsigned i = 0; i < polls; ++i) self.backend->poll(self.seen);
            // release: pairs with rank 0's acquire; nothing but the end follows.
            dead.store(1, std::memory_order_release);
            raise(SIGKILL);
          }
          while (dead.load(std::memory_order_acquire) == 0) self.backend->poll(self.seen);
          self.backend->send(1, {});
          self.sleep_until([&] { return !self.seen.lost.empty(); });
          EXPECT(self.seen.lost == std::vector<Rank>{1});
        },
        1);
  }
}
