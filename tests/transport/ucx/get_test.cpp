#include "tests/transport/ucx/forked_ranks.hpp"

using namespace trireme;
using namespace trireme::test;

namespace {

constexpr std::size_t kMemory = 24U << 20U;

/// Rank 1 fills its memory and serves it until rank 0 leaves.
void serve(RankProcess& self) {
  self.sleep_until([&] { return !self.seen.left.empty(); });
  EXPECT(self.seen.lost.empty());
}

void fill(RankProcess& self) {
  for (std::size_t i = 0; i < self.memory.size(); ++i) self.memory[i] = pattern_at(self.rank, i);
  self.barrier();
}

}  // namespace

TEST_CASE("gets of any size and offset bring the owner's bytes, into any memory") {
  run_ranks(2, kMemory, [](RankProcess& self) {
    if (self.rank == 1) {
      fill(self);
      return serve(self);
    }
    self.barrier();
    std::vector<std::byte> outside(kMemory);
    for (const bool exposed : {true, false}) {
      auto& target = exposed ? self.memory : outside;
      for (const std::size_t bytes :
           {std::size_t{0}, std::size_t{1}, std::size_t{4096}, (std::size_t{1} << 20U) + 1, kMemory - 5}) {
        std::fill(target.begin(), target.end(), std::byte{0});
        int done = 0;
        self.backend->get(1, 5, std::span(target).first(bytes), [&](Status status) {
          EXPECT(status.ok());
          ++done;
        });
        self.sleep_until([&] { return done != 0; });
        EXPECT(done == 1);
        for (std::size_t i = 0; i < bytes; ++i) EXPECT(target[i] == pattern_at(1, i + 5));
        if (bytes < target.size()) EXPECT(target[bytes] == std::byte{0});
      }
    }
    self.backend->close(10'000'000'000);
  });
}

TEST_CASE("many gets at once all end, each once, and a GetDone may start the next") {
  run_ranks(2, kMemory, [](RankProcess& self) {
    if (self.rank == 1) {
      fill(self);
      return serve(self);
    }
    self.barrier();
    constexpr std::size_t kGets = 3000;
    constexpr std::size_t kBytes = 3000;
    std::size_t done = 0;
    std::size_t started = 0;
    std::vector<std::byte> target(kGets * kBytes);
    std::function<void()> start = [&] {
      const auto at = started++ * kBytes;
      self.backend->get(1, at, std::span(target).subspan(at, kBytes), [&](Status status) {
        EXPECT(status.ok());
        ++done;
        if (started < kGets) start();
      });
    };
    while (started < kGets / 2) start();
    self.sleep_until([&] { return done == kGets; });
    for (std::size_t i = 0; i < target.size(); ++i) EXPECT(target[i] == pattern_at(1, i));
    self.backend->close(10'000'000'000);
  });
}

TEST_CASE("a get outside the exposed memory is refused with both sizes, at once") {
  run_ranks(2, 1U << 20U, [](RankProcess& self) {
    if (self.rank == 0) {
      std::vector<std::byte> target(1U << 20U);
      int refused = 0;
      const auto refuse = [&](Status status) {
        EXPECT(!status.ok() && status.error().code == Errc::invalid_argument);
        EXPECT(status.error().message.find("1048576") != std::string::npos);
        ++refused;
      };
      self.backend->get(1, 1, target, refuse);
      self.backend->get(1, UINT64_MAX, std::span(target).first(2), refuse);
      EXPECT(refused == 2);
    }
    self.barrier();
  });
}

TEST_CASE("a peer that exposes nothing has nothing to get") {
  run_ranks(2, 0, [](RankProcess& self) {
    std::byte target{};
    bool refused = false;
    self.backend->get(1 - self.rank, 0, {&target, 1}, [&](Status status) { refused = !status.ok(); });
    EXPECT(refused);
    self.barrier();
  });
}
