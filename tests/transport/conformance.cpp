#include "tests/transport/conformance.hpp"

#include <doctest/doctest.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <thread>

#include "base/rng.hpp"
#include "tests/transport/support.hpp"
#include "transport/router.hpp"

namespace trireme::transport::testing {
namespace {

/// Raw backends of N ranks.
struct Raw {
  explicit Raw(std::uint32_t ranks, std::size_t exposed = 1U << 20) : world(make_world(ranks, exposed)), sinks(ranks) {
    for (Rank r = 0; r < ranks; ++r) backends.push_back(world->take(r));
  }
  void step() {
    for (std::size_t r = 0; r < backends.size(); ++r)
      if (backends[r] != nullptr) backends[r]->poll(sinks[r]);
    world->progress();
  }
  void send(Rank from, Rank to, BytesView frame) {
    SendStatus status = SendStatus::would_block;
    REQUIRE(until(
        [&] {
          status = backends[from]->send(to, frame);
          step();
        },
        [&] { return status != SendStatus::would_block; }));
    REQUIRE(status == SendStatus::sent);
  }
  std::unique_ptr<World> world;
  std::vector<Frames> sinks;
  std::vector<std::unique_ptr<Backend>> backends;
};

/// Routers of N ranks, all over one backend.
struct Routed {
  explicit Routed(std::uint32_t ranks, std::size_t exposed = 1U << 20)
      : world(make_world(ranks, exposed)), handlers(ranks) {
    for (Rank r = 0; r < ranks; ++r) {
      std::vector<Rank> peers;
      for (Rank p = 0; p < ranks; ++p)
        if (p != r) peers.push_back(p);
      routers.push_back(std::make_unique<Router>(r, ranks));
      routers.back()->add_backend(world->take(r), peers);
    }
  }
  void step() {
    for (std::size_t r = 0; r < routers.size(); ++r)
      if (routers[r] != nullptr) routers[r]->poll(handlers[r]);
    world->progress();
  }
  std::unique_ptr<World> world;
  std::vector<Messages> handlers;
  std::vector<std::unique_ptr<Router>> routers;
};

Bytes tagged(std::uint32_t tag, std::size_t size) {
  Bytes bytes = pattern(tag, std::max<std::size_t>(size, 4));
  std::memcpy(bytes.data(), &tag, 4);
  return bytes;
}
std::uint32_t tag_of(BytesView bytes) {
  std::uint32_t tag = 0;
  REQUIRE(bytes.size() >= 4);
  std::memcpy(&tag, bytes.data(), 4);
  return tag;
}
bool is_tagged(BytesView bytes) { return tagged(tag_of(bytes), bytes.size()) == Bytes(bytes.begin(), bytes.end()); }

TEST_CASE("frames of any size arrive whole and once") {
  Raw raw(2);
  const std::size_t frame_max = raw.backends[0]->frame_bytes_max();
  std::vector<std::size_t> sizes = {0, 1, 2, 3, 7, 8, 9, 63, 64, 65, 4095, 4096, 4097, frame_max - 1, frame_max};
  for (std::size_t size = 10; size < frame_max; size = size * 5 / 3) sizes.push_back(size);
  std::map<Bytes, int> expected;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const Bytes frame = sizes[i] < 4 ? pattern(i, sizes[i]) : tagged(static_cast<std::uint32_t>(i), sizes[i]);
    ++expected[frame];
    raw.send(0, 1, frame);
  }
  REQUIRE(until([&] { raw.step(); }, [&] { return raw.sinks[1].frames.size() >= sizes.size(); }));
  for (int i = 0; i < 1000; ++i) raw.step();
  CHECK(raw.sinks[1].frames.size() == sizes.size());
  for (const auto& [from, frame] : raw.sinks[1].frames) {
    CHECK(from == 0);
    CHECK(--expected[frame] == 0);
  }
  CHECK(raw.sinks[0].frames.empty());
  CHECK(raw.sinks[1].lost.empty());
}

TEST_CASE("a receiver that does not poll stops the sender by would_block, and nothing is lost or doubled") {
  Raw raw(2);
  const std::size_t size = raw.backends[0]->frame_bytes_max() / 2;
  std::uint32_t sent = 0;
  Frames& here = raw.sinks[0];
  while (sent < 100'000) {
    const SendStatus status = raw.backends[0]->send(1, tagged(sent, size));
    if (status == SendStatus::would_block) break;
    REQUIRE(status == SendStatus::sent);
    ++sent;
  }
  CHECK_MESSAGE(sent < 100'000, "the backend takes frames without limit");
  CHECK(sent > 0);
  const std::uint32_t first = sent;
  for (; sent < first + 200; ++sent) raw.send(0, 1, tagged(sent, size));
  REQUIRE(until([&] { raw.step(); }, [&] { return raw.sinks[1].frames.size() >= sent; }));
  std::vector<bool> seen(sent);
  for (const auto& [from, frame] : raw.sinks[1].frames) {
    REQUIRE(tag_of(frame) < sent);
    CHECK_FALSE(seen[tag_of(frame)]);
    seen[tag_of(frame)] = true;
    CHECK(is_tagged(frame));
  }
  CHECK(std::count(seen.begin(), seen.end(), true) == sent);
  CHECK(here.frames.empty());
}

TEST_CASE("get reads any range of the peer's exposed memory, and refuses ranges outside") {
  Raw raw(2, 3U << 20);
  const auto memory = raw.world->memory(1);
  for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<std::byte>(i * 13 + (i >> 9U));
  struct Range {
    std::uint64_t offset;
    std::size_t size;
  };
  const std::vector<Range> ranges = {{0, 1},
                                     {1, 1},
                                     {3, 5},
                                     {4095, 3},
                                     {4097, 8191},
                                     {1, 1U << 20},
                                     {0, memory.size()},
                                     {memory.size() - 1, 1},
                                     {memory.size(), 0},
                                     {17, 0}};
  std::vector<Bytes> into;
  int done = 0;
  for (const Range& range : ranges) into.emplace_back(range.size);
  for (std::size_t i = 0; i < ranges.size(); ++i)
    raw.backends[0]->get(1, ranges[i].offset, into[i], [&](Status status) {
      CHECK(status.ok());
      ++done;
    });
  REQUIRE(until([&] { raw.step(); }, [&] { return done == static_cast<int>(ranges.size()); }));
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    CAPTURE(ranges[i].offset);
    CAPTURE(ranges[i].size);
    CHECK(std::equal(into[i].begin(), into[i].end(), memory.begin() + static_cast<std::ptrdiff_t>(ranges[i].offset)));
  }
  Bytes rest(16, std::byte{0x5A});
  int refused = 0;
  const auto refuse = [&](Status status) {
    CHECK_FALSE(status.ok());
    ++refused;
  };
  raw.backends[0]->get(1, memory.size() - 15, rest, refuse);
  raw.backends[0]->get(1, UINT64_MAX - 7, rest, refuse);
  REQUIRE(until([&] { raw.step(); }, [&] { return refused == 2; }));
  CHECK(rest == Bytes(16, std::byte{0x5A}));
}

TEST_CASE("a forgotten peer gets nothing and is not reported; the others go on") {
  Raw raw(3);
  raw.send(0, 1, tagged(1, 100));
  raw.send(1, 0, tagged(2, 100));
  REQUIRE(until([&] { raw.step(); }, [&] { return !raw.sinks[1].frames.empty() && !raw.sinks[0].frames.empty(); }));
  raw.backends[0]->forget(1);
  CHECK(raw.backends[0]->send(1, tagged(3, 100)) == SendStatus::peer_lost);
  raw.send(0, 2, tagged(4, 100));
  raw.send(2, 0, tagged(5, 100));
  REQUIRE(until([&] { raw.step(); }, [&] { return !raw.sinks[2].frames.empty() && raw.sinks[0].frames.size() == 2; }));
  int failed = 0;
  Bytes into(8);
  raw.backends[0]->get(1, 0, into, [&](Status status) {
    CHECK_FALSE(status.ok());
    ++failed;
  });
  REQUIRE(until([&] { raw.step(); }, [&] { return failed == 1; }));
  CHECK(raw.sinks[0].lost.empty());
  CHECK(raw.sinks[0].left.empty());
}

TEST_CASE("a rank that closes is reported once to each peer, after all it sent, and cannot be reached any more") {
  Raw raw(3);
  raw.send(0, 1, tagged(9, 10));
  for (std::uint32_t i = 0; i < 20; ++i) {
    raw.send(1, 0, tagged(i, 1000));
    raw.send(2, 1, tagged(i, 10));
  }
  raw.world->close(std::move(raw.backends[1]), 20 * kSecond, [&] { raw.step(); });
  const auto reported = [&](Rank at) { return raw.sinks[at].left.size() + raw.sinks[at].lost.size(); };
  REQUIRE(until([&] { raw.step(); }, [&] { return reported(0) == 1 && reported(2) == 1; }));
  CHECK(raw.sinks[0].frames.size() == 20);
  CHECK(raw.sinks[0].lost.empty());
  CHECK(raw.backends[0]->send(1, tagged(1, 10)) == SendStatus::peer_lost);
  raw.send(0, 2, tagged(6, 10));
  REQUIRE(until([&] { raw.step(); }, [&] { return raw.sinks[2].frames.size() == 1; }));
  CHECK(reported(0) == 1);
  CHECK(reported(2) == 1);
}

TEST_CASE("messages of any size arrive whole, once and in order per pair, in both directions at once") {
  Routed all(2);
  // Both flood before either polls: neither may wait for the other.
  constexpr std::uint32_t kMessages = 3000;
  Rng rng(11);
  std::vector<std::size_t> sizes;
  for (std::uint32_t i = 0; i < kMessages; ++i) sizes.push_back(4 + rng.below(i % 50 == 0 ? 60'000 : 700));
  sizes[100] = 5U << 20;
  sizes[200] = (3U << 20) + 1;
  for (std::uint32_t i = 0; i < kMessages; ++i) {
    all.routers[0]->send(1, tagged(i, sizes[i]));
    all.routers[1]->send(0, tagged(i, sizes[i]));
    if (i % 7 == 0) all.routers[0]->flush();
  }
  CHECK(all.routers[0]->backlog(1) > 0);
  REQUIRE(until(
      [&] { all.step(); },
      [&] { return all.handlers[0].messages.size() >= kMessages && all.handlers[1].messages.size() >= kMessages; }));
  for (const Rank r : {0U, 1U}) {
    const auto& got = all.handlers[r].messages;
    REQUIRE(got.size() == kMessages);
    bool whole = true;
    for (std::uint32_t i = 0; i < kMessages; ++i)
      whole = whole && got[i].first == 1 - r && got[i].second == tagged(i, sizes[i]);
    CHECK(whole);
    CHECK(all.handlers[r].lost.empty());
  }
  CHECK(all.routers[0]->backlog(1) == 0);
  CHECK(all.routers[0]->stats(1).messages_sent == kMessages);
  CHECK(all.routers[1]->stats(0).frames_received == all.routers[0]->stats(1).frames_sent);
  CHECK(all.routers[1]->stats(0).bytes_received == all.routers[0]->stats(1).bytes_sent);
}

TEST_CASE("random sends, flushes, polls and gets of several ranks match a model") {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    constexpr Rank kRanks = 4;
    Routed all(kRanks);
    for (Rank r = 0; r < kRanks; ++r) {
      const auto memory = all.world->memory(r);
      for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<std::byte>(r * 37 + i * 11 + (i >> 8U));
    }
    std::map<std::pair<Rank, Rank>, std::deque<Bytes>> expected;
    std::vector<std::size_t> checked(kRanks);
    std::uint32_t next = 0;
    int gets = 0;
    std::size_t outstanding = 0;
    bool right = true;
    std::deque<Bytes> targets;
    const auto check = [&] {
      for (Rank r = 0; r < kRanks; ++r) {
        auto& got = all.handlers[r].messages;
        for (; checked[r] < got.size(); ++checked[r]) {
          auto& queue = expected[{got[checked[r]].first, r}];
          right = right && !queue.empty() && queue.front() == got[checked[r]].second;
          if (!queue.empty()) queue.pop_front();
          --outstanding;
          Bytes().swap(got[checked[r]].second);
        }
      }
    };
    for (int op = 0; op < 3000 && right; ++op) {
      const auto from = static_cast<Rank>(rng.below(kRanks));
      const auto to = static_cast<Rank>(rng.below(kRanks));
      switch (rng.below(6)) {
        case 0:
        case 1: {
          const std::size_t size = 4 + rng.below(rng.chance(0.02) ? 300'000 : rng.chance(0.2) ? 9'000 : 64);
          const Bytes message = tagged(next++, size);
          all.routers[from]->send(to, message);
          expected[{from, to}].push_back(message);
          ++outstanding;
          break;
        }
        case 2:
          all.routers[from]->flush();
          break;
        case 3: {
          if (from == to) break;
          Bytes& into = targets.emplace_back(1 + rng.below(5000));
          const std::uint64_t offset = rng.below((1U << 20) - into.size());
          ++gets;
          all.routers[from]->get(to, offset, into, [&, to, offset](Status status) {
            --gets;
            right = right && status.ok();
            for (std::size_t i = 0; i < into.size(); i += 97)
              right = right && into[i] == static_cast<std::byte>(to * 37 + (offset + i) * 11 + ((offset + i) >> 8U));
          });
          break;
        }
        case 4:
          all.routers[from]->poll(all.handlers[from]);
          break;
        case 5:
          all.world->progress();
          break;
      }
      check();
    }
    REQUIRE(until(
        [&] {
          all.step();
          check();
        },
        [&] { return !right || (outstanding == 0 && gets == 0); }));
    CHECK(right);
    for (int i = 0; i < 100; ++i) all.step();
    check();
    CHECK(right);
    for (Rank r = 0; r < kRanks; ++r) CHECK(all.handlers[r].lost.empty());
  }
}

TEST_CASE("malformed frames cost their sender the connection, and nobody else anything") {
  const auto world = make_world(3, 4096);
  Messages handler;
  Router router(0, 3);
  router.add_backend(world->take(0), {1, 2});
  auto bad = world->take(1);
  auto good = std::make_unique<Router>(2, 3);
  good->add_backend(world->take(2), {0, 1});
  Messages good_handler;
  Frames bad_sink;
  const auto step = [&] {
    router.poll(handler);
    bad->poll(bad_sink);
    good->poll(good_handler);
    world->progress();
  };
  good->send(0, tagged(1, 50));
  good->flush();
  const Bytes nonsense = {std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0}, std::byte{0xFF}, std::byte{0xFF}};
  REQUIRE(bad->send(0, nonsense) == SendStatus::sent);
  REQUIRE(until(step, [&] { return handler.lost.size() == 1 && handler.messages.size() == 1; }));
  CHECK(handler.lost[0].first == 1);
  CHECK(handler.lost[0].second.find("malformed frame") != std::string::npos);
  CHECK(handler.lost[0].second.find("rank 1") != std::string::npos);
  CHECK_FALSE(router.alive(1));
  CHECK(router.alive(2));
  good->send(0, tagged(2, 50));
  router.send(2, tagged(3, 50));
  router.send(1, tagged(4, 50));
  good->flush();
  router.flush();
  REQUIRE(until(step, [&] { return handler.messages.size() == 2 && good_handler.messages.size() == 1; }));
  CHECK(handler.lost.size() == 1);
}

TEST_CASE("a rank that sleeps after arm() is woken by every message and every returned credit") {
  const auto world = make_world(2, 4096);
  Router left(0, 2), right(1, 2);
  left.add_backend(world->take(0), {1});
  right.add_backend(world->take(1), {0});
  if (left.event_fds().empty()) return;  // the simulation has nothing to sleep on

  // Each side sends a burst, sleeps until the other's burst is whole and its own is gone, and goes on with the next.
  constexpr std::uint32_t kRounds = 4000;
  std::atomic<bool> lost_wake_up{false};
  std::uint64_t received[2] = {}, expected[2] = {};
  const auto run = [&](Router& router, Rank self) {
    Rng mine(self), theirs(1 - self), pause(self + 10);
    Messages handler;
    const auto burst = [](Rng& rng) {
      const std::uint64_t count = 1 + rng.below(4);
      return std::pair{count, rng.chance(0.03) ? 200'000 + rng.below(100'000) : 4 + rng.below(200)};
    };
    for (std::uint32_t round = 0; round < kRounds && !lost_wake_up; ++round) {
      const auto [count, size] = burst(mine);
      for (std::uint64_t i = 0; i < count; ++i) router.send(1 - self, tagged(round, size));
      router.flush();
      expected[self] += burst(theirs).first;
      while (!lost_wake_up && (received[self] < expected[self] || router.backlog(1 - self) > 0)) {
        const int events = router.poll(handler);
        received[self] += handler.messages.size();
        handler.messages.clear();
        if (events > 0) continue;
        for (std::uint64_t spin = pause.below(200); spin > 0; --spin)
          std::atomic_signal_fence(std::memory_order_seq_cst);
        if (router.arm()) {
          std::vector<pollfd> fds;
          for (const int fd : router.event_fds()) fds.push_back({fd, POLLIN, 0});
          if (::poll(fds.data(), fds.size(), 30'000) == 0) lost_wake_up = true;
        }
        router.disarm();
      }
    }
  };
  std::thread other([&] { run(right, 1); });
  run(left, 0);
  other.join();
  CHECK_FALSE(lost_wake_up);
  CHECK(received[0] == expected[0]);
  CHECK(received[1] == expected[1]);
}

}  // namespace
}  // namespace trireme::transport::testing
