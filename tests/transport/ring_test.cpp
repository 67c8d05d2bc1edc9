#include "transport/shm/ring.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <deque>
#include <thread>
#include <vector>

#include "base/rng.hpp"
#include "tests/transport/support.hpp"

namespace trireme::transport::testing {
namespace {

struct alignas(64) Line {
  std::byte bytes[64] = {};
};
struct Memory {
  explicit Memory(std::size_t size) : lines(size / 64) {}
  std::span<std::byte> span() { return {lines[0].bytes, lines.size() * 64}; }
  void put(std::size_t at, std::uint64_t value) { std::memcpy(lines[at / 64].bytes + at % 64, &value, sizeof value); }
  std::vector<Line> lines;
};

TEST_CASE("a ring behaves like a bounded queue of byte strings") {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    Memory memory(128 + 64 * (4 + rng.below(40)));
    RingProducer producer(memory.span());
    RingConsumer consumer(memory.span());
    const std::size_t frame_max = ring_frame_bytes_max(memory.span().size());
    std::deque<Bytes> model;
    std::size_t held = 0;
    for (std::uint64_t op = 0; op < 5000; ++op) {
      if (rng.chance(0.5)) {
        const Bytes frame = pattern(op, rng.below(frame_max + 1));
        const RingState state = producer.put(frame);
        if (model.empty()) REQUIRE(state == RingState::ready);  // an empty ring takes any frame
        if (state == RingState::ready) {
          held += frame.size();
          model.push_back(frame);
        } else {
          REQUIRE(state == RingState::full);
        }
        REQUIRE(held <= memory.span().size());
      } else {
        BytesView frame;
        const RingState state = consumer.look(frame);
        REQUIRE(state == (model.empty() ? RingState::empty : RingState::ready));
        if (state == RingState::ready) {
          REQUIRE(Bytes(frame.begin(), frame.end()) == model.front());
          held -= frame.size();
          model.pop_front();
          consumer.pop();
        }
      }
    }
  }
}

TEST_CASE("two threads pass frames through a small ring, and the producer hears of every room it asked for") {
  Memory memory(1024);
  constexpr std::uint64_t kFrames = 30'000;
  std::atomic<std::uint32_t> told{0};
  std::thread sender([&] {
    RingProducer producer(memory.span());
    Rng rng(1);
    for (std::uint64_t i = 0; i < kFrames; ++i) {
      const Bytes frame = pattern(i, rng.below(200));
      for (;;) {
        const std::uint32_t before = told.load();
        if (producer.put(frame) == RingState::ready) break;
        // Hangs here when an answer is missed.
        if (producer.ask_for_room()) told.wait(before);
      }
    }
  });
  RingConsumer consumer(memory.span());
  Rng rng(1);
  bool right = true;
  for (std::uint64_t i = 0; i < kFrames;) {
    BytesView frame;
    int taken = 0;
    while (consumer.look(frame) == RingState::ready) {
      right = right && frame.size() == rng.below(200) && is_pattern(i, frame);
      ++i;
      consumer.pop();
      ++taken;
    }
    if (taken == 0) {
      std::this_thread::yield();
    } else if (consumer.room_wanted()) {
      told.fetch_add(1);
      told.notify_one();
    }
  }
  sender.join();
  CHECK(right);
}

TEST_CASE("whatever a peer writes into a ring, neither end reads outside it") {
  std::uint64_t corrupt = 0;
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    Memory memory(64 * (8 + rng.below(8)));
    const auto span = memory.span();
    RingProducer producer(span);
    RingConsumer consumer(span);
    for (int op = 0; op < 60; ++op) {
      BytesView frame;
      switch (rng.below(4)) {
        case 0: {
          const RingState state = producer.put(pattern(seed, rng.below(ring_frame_bytes_max(span.size()) + 1)));
          if (state == RingState::corrupt) ++corrupt;
          break;
        }
        case 1: {
          const RingState state = consumer.look(frame);
          if (state == RingState::corrupt) ++corrupt;
          if (state != RingState::ready) break;
          REQUIRE(frame.data() >= span.data() + sizeof(RingControl));
          REQUIRE(frame.data() + frame.size() <= span.data() + span.size());
          consumer.pop();
          break;
        }
        case 2: {  // a header of any value
          const std::uint64_t value = rng.chance(0.3) ? UINT64_MAX : rng.chance(0.5) ? rng.below(600) : rng.next();
          const std::size_t at = sizeof(RingControl) + 8 * rng.below((span.size() - sizeof(RingControl)) / 8);
          memory.put(at, value);
          break;
        }
        case 3: {
          if (!rng.chance(0.2)) break;
          const std::uint64_t value = rng.next();
          memory.put(0, value);
          break;
        }
      }
    }
  }
  CHECK(corrupt > 100);
}

}  // namespace
}  // namespace trireme::transport::testing
