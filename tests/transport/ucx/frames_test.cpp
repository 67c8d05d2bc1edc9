#include "tests/transport/ucx/forked_ranks.hpp"
#include "transport/ucx/address.hpp"

using namespace trireme;
using namespace trireme::test;

TEST_CASE("frames of every size arrive whole over a connection that opens with the first") {
  run_ranks(2, 0, [](RankProcess& self) {
    const Rank peer = 1 - self.rank;
    const auto max = self.backend->frame_bytes_max();
    EXPECT(max >= 4096);
    std::vector<std::size_t> sizes;
    for (std::size_t size = 0; size < max; size = size * 3 + 1) sizes.push_back(size);
    sizes.push_back(max);
    EXPECT(self.backend->describe(peer).starts_with("not connected"));

    std::vector<bool> arrived(max + 1);
    self.seen.frame = [&](Rank from, BytesView frame) {
      EXPECT(from == peer);
      EXPECT(!arrived[frame.size()]);
      arrived[frame.size()] = true;
      for (std::size_t i = 0; i < frame.size(); ++i) EXPECT(frame[i] == pattern_at(peer, i));
    };
    for (const auto size : sizes) {
      Bytes frame(size);
      for (std::size_t i = 0; i < size; ++i) frame[i] = pattern_at(self.rank, i);
      self.send(peer, frame);
      frame.assign(size, std::byte{0});  // sent means copied
    }
    self.sleep_until([&] { return self.seen.frames == sizes.size(); });
    for (const auto size : sizes) EXPECT(arrived[size]);
    EXPECT(self.backend->describe(peer).find("tcp/") != std::string::npos);
    self.barrier();
    self.backend->close(10'000'000'000);
  });
}

TEST_CASE("a receiver that does not poll stops its sender, who is woken when it does") {
  run_ranks(2, 0, [](RankProcess& self) {
    auto& blocked = self.meeting.notes[0];
    const std::size_t extra = 1000;
    Bytes frame(self.backend->frame_bytes_max(), std::byte{9});
    if (self.rank == 0) {
      std::size_t sent = 0;
      while (self.backend->send(1, frame) == SendStatus::sent) {
        ++sent;
        self.backend->poll(self.seen);
      }
      // release: pairs with the receiver's acquire; the sign to begin polling.
      blocked.store(1, std::memory_order_release);
      for (std::size_t more = 0; more < extra;) {
        self.sleep_until([&] { return self.backend->send(1, frame) == SendStatus::sent; });
        ++more;
      }
      self.meeting.bytes[0] = sent + extra;
      self.send_text(1, "end");
      self.backend->close(10'000'000'000);
      return;
    }
    while (blocked.load(std::memory_order_acquire) == 0) sched_yield();
    bool end = false;
    self.seen.frame = [&](Rank, BytesView bytes) { end = end || bytes.size() == 3; };
    self.sleep_until([&] { return end && self.seen.frames == self.meeting.bytes[0] + 1; });
    self.sleep_until([&] { return self.seen.left.size() == 1; });
  });
}

TEST_CASE("a rank that leaves loses none of its frames and is not reported dead") {
  run_ranks(3, 0, [](RankProcess& self) {
    constexpr std::size_t kFrames = 2000;
    if (self.rank == 0) {
      for (std::size_t i = 0; i < kFrames; ++i) {
        self.send_text(1, "to one");
        if (i < 3) self.send_text(2, "to two");
      }
      self.backend->close(30'000'000'000);
      EXPECT(self.backend->send(1, {}) == SendStatus::peer_lost);
      return;
    }
    // The other one that stays may have got further and sent already.
    std::size_t from_zero = 0;
    self.seen.frame = [&](Rank peer, BytesView) { from_zero += peer == 0 ? 1 : 0; };
    self.sleep_until([&] { return !self.seen.left.empty(); });
    EXPECT(self.seen.left == std::vector<Rank>{0});
    EXPECT(from_zero == (self.rank == 1 ? kFrames : 3));
    EXPECT(self.backend->send(0, {}) == SendStatus::peer_lost);
    // The two that stay still reach each other.
    self.send_text(3 - self.rank, "still here");
    self.sleep_until([&] { return self.seen.frames == from_zero + 1; });
    EXPECT(self.seen.lost.empty());
    self.backend->close(10'000'000'000);
  });
}

TEST_CASE("all ranks may connect to all at the same moment") {
  run_ranks(8, 0, [](RankProcess& self) {
    self.barrier();
    for (Rank peer = 0; peer < self.size; ++peer)
      if (peer != self.rank) self.send_text(peer, "hello");
    self.sleep_until([&] { return self.seen.frames == self.size - 1; });
    self.backend->close(30'000'000'000);
    EXPECT(self.seen.lost.empty());
  });
}

TEST_CASE("a message with the token of another rank is dropped") {
  run_ranks(2, 0, [](RankProcess& self) {
    if (self.rank == 0) {
      // Ranks 0 and 1 know each other; a third backend in rank 0's process poses as rank 0 with a wrong token.
      auto forged = ucx::Address::decode(self.address_of(1));
      EXPECT(forged.ok());
      ++forged->token;
      auto stranger = make_ucx_backend(0, 2);
      EXPECT(stranger.ok());
      EXPECT(stranger.value()->add_peer(1, forged->encode()).ok());
      const std::string_view text = "forged";
      EXPECT(stranger.value()->send(1, std::as_bytes(std::span(text))) == SendStatus::sent);
      self.send_text(1, "true");
      // The stranger stays until rank 1 has answered: it must not be let in later either.
      Recorder nothing;
      while (self.seen.frames == 0) {
        stranger.value()->poll(nothing);
        self.backend->poll(self.seen);
      }
      EXPECT(nothing.frames == 0);
      self.backend->close(10'000'000'000);
      self.barrier();
      return;
    }
    self.seen.frame = [](Rank, BytesView frame) { EXPECT(frame.size() == 4); };
    self.sleep_until([&] { return self.seen.frames == 1; });
    self.send_text(0, "seen");
    self.sleep_until([&] { return self.seen.left.size() == 1; });
    EXPECT(self.seen.frames == 1);
    self.barrier();
  });
}

TEST_CASE("an address that makes no sense is refused") {
  run_ranks(2, 0, [](RankProcess& self) {
    auto backend = make_ucx_backend(0, 2);
    EXPECT(backend.ok());
    const auto good = self.address_of(1);
    EXPECT(backend.value()->add_peer(1, good.first(good.size() - 1)).error().code == Errc::malformed);
    EXPECT(backend.value()->add_peer(1, {}).error().code == Errc::malformed);
    EXPECT(backend.value()->add_peer(0, good).error().code == Errc::invalid_argument);
    EXPECT(backend.value()->add_peer(2, good).error().code == Errc::invalid_argument);
    EXPECT(backend.value()->add_peer(1, good).ok());
    EXPECT(backend.value()->add_peer(1, good).error().code == Errc::already_exists);
  });
}
