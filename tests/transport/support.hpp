#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/wire.hpp"
#include "transport/router.hpp"

namespace trireme::transport::testing {

/// Bytes that tell which message they belong to and where in it they stand.
inline Bytes pattern(std::uint64_t tag, std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(tag * 131 + i * 7 + (i >> 8U));
  return bytes;
}
inline bool is_pattern(std::uint64_t tag, BytesView bytes) {
  for (std::size_t i = 0; i < bytes.size(); ++i)
    if (bytes[i] != static_cast<std::byte>(tag * 131 + i * 7 + (i >> 8U))) return false;
  return true;
}

struct Frames final : Sink {
  void on_frame(Rank from, BytesView frame) override { frames.emplace_back(from, Bytes(frame.begin(), frame.end())); }
  void on_lost(Rank peer, std::string_view why) override { lost.emplace_back(peer, why); }
  void on_left(Rank peer) override { left.push_back(peer); }
  std::vector<std::pair<Rank, Bytes>> frames;
  std::vector<std::pair<Rank, std::string>> lost;
  std::vector<Rank> left;
};

struct Messages final : MessageHandler {
  Status on_message(Rank from, BytesView message) override {
    messages.emplace_back(from, Bytes(message.begin(), message.end()));
    return answer;
  }
  void on_lost(Rank peer, std::string_view why) override { lost.emplace_back(peer, why); }
  void on_left(Rank peer) override { left.push_back(peer); }
  std::vector<std::pair<Rank, Bytes>> messages;
  std::vector<std::pair<Rank, std::string>> lost;
  std::vector<Rank> left;
  Status answer;
};

/// Repeats `step` until `done`; false after a time that only a hang takes.
template <class Step, class Done>
bool until(Step step, Done done) {
  const Nanos limit = SystemClock::read() + 60 * kSecond;
  while (!done()) {
    if (SystemClock::read() > limit) return false;
    step();
  }
  return true;
}

}  // namespace trireme::transport::testing
