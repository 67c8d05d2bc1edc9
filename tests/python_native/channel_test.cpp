#include "python/native/channel.hpp"

#include <doctest/doctest.h>

#include <thread>

#include "base/rng.hpp"
#include "tests/python_native/fake_rank.hpp"

namespace trireme::python {
namespace {

Bytes frame_of(std::size_t size, std::uint8_t seed) {
  Bytes frame(size);
  for (std::size_t i = 0; i < size; ++i) frame[i] = static_cast<std::byte>(seed + 31 * i);
  return frame;
}

/// Both ends of one worker's rings over the same memory.
struct Pair {
  MemoryFile file = *MemoryFile::create("test-worker", kWorkerBytes);
  MemoryFile board = *MemoryFile::create("test-board", sizeof(Board));
  RankEnd rank{file.memory.bytes(), nullptr, 5};
  WorkerEnd worker{file.memory.bytes(), reinterpret_cast<Board*>(board.memory.bytes().data()), 5, -1};
};

TEST_CASE("frames larger than the ring arrive whole and in order, both ways") {
  Pair pair;
  const std::vector<std::size_t> sizes{1, kPieceBytes, kPieceBytes + 1, 3, 3 * kRingBytes, 17};
  std::thread sender([&] {
    for (std::size_t i = 0; i < sizes.size(); ++i) pair.worker.send(frame_of(sizes[i], static_cast<std::uint8_t>(i)));
  });
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    BytesView frame;
    while (frame.empty()) {
      frame = pair.rank.receive();
      if (frame.empty()) std::this_thread::yield();
    }
    CHECK(Bytes(frame.begin(), frame.end()) == frame_of(sizes[i], static_cast<std::uint8_t>(i)));
  }
  sender.join();
  // The rank never blocks: what has no room waits there.
  for (std::size_t i = 0; i < sizes.size(); ++i) pair.rank.send(frame_of(sizes[i], static_cast<std::uint8_t>(i)));
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    BytesView frame;
    while (frame.empty()) {
      pair.rank.flush();
      frame = pair.worker.receive();
    }
    CHECK(Bytes(frame.begin(), frame.end()) == frame_of(sizes[i], static_cast<std::uint8_t>(i)));
  }
}

TEST_CASE("a sleeping worker wakes for a frame, whenever it comes") {
  Pair pair;
  constexpr int kFrames = 2'000;
  std::thread worker([&] {
    for (int i = 0; i < kFrames; ++i) {
      BytesView frame;
      while ((frame = pair.worker.receive()).empty()) pair.worker.sleep(kForever);
      pair.worker.send(frame_of(1, 1));
    }
  });
  Rng rng(1);
  for (int i = 0; i < kFrames; ++i) {
    for (auto spin = rng.below(200); spin != 0; --spin) std::atomic_signal_fence(std::memory_order_seq_cst);
    pair.rank.send(frame_of(1, 2));
    while (pair.rank.receive().empty()) std::this_thread::yield();
  }
  worker.join();
  const auto* board = reinterpret_cast<const Board*>(pair.board.memory.bytes().data());
  CHECK((board->pending[0].load() & (1U << 5U)) != 0);
}

TEST_CASE("a worker that sleeps to a deadline gets up by itself") {
  Pair pair;
  const auto before = SystemClock::read();
  pair.worker.sleep(before + kMillisecond);
  CHECK(SystemClock::read() >= before + kMillisecond);
}

TEST_CASE("a broken ring is found, by either end, and nothing is read from it") {
  Pair pair;
  const auto memory = pair.file.memory.bytes();
  const std::uint64_t absurd = 1U << 30U;
  const auto header = sizeof(transport::RingControl);
  std::memcpy(memory.data() + kPageBytes + header, &absurd, sizeof absurd);
  std::memcpy(memory.data() + kPageBytes + kRingBytes + header, &absurd, sizeof absurd);
  CHECK(pair.worker.receive().empty());
  CHECK(pair.worker.corrupt());
  CHECK(pair.rank.receive().empty());
  CHECK(pair.rank.corrupt());
}

}  // namespace
}  // namespace trireme::python
