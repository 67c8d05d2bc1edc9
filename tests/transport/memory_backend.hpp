#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "transport/transport.hpp"

namespace trireme::transport::testing {

/// A backend without a network: the test sees every frame the router sends and makes up every event it gets.
class MemoryBackend final : public Backend {
 public:
  explicit MemoryBackend(std::size_t frame_max = 4096) : frame_max_(frame_max) {}

  std::vector<std::pair<Rank, Bytes>> sent;
  std::deque<std::pair<Rank, Bytes>> arriving;
  std::vector<std::pair<Rank, std::string>> dying;
  std::vector<Rank> forgotten;
  std::size_t credit = SIZE_MAX;  ///< frames until send() answers would_block
  bool armed = false;

  std::string_view name() const override { return "memory"; }
  std::string describe(Rank) const override { return "none"; }
  std::size_t frame_bytes_max() const override { return frame_max_; }
  Bytes address() const override { return {}; }
  Status expose(std::span<std::byte>, int) override { return {}; }
  Status add_peer(Rank, BytesView) override { return {}; }
  SendStatus send(Rank to, BytesView frame) override {
    if (std::find(forgotten.begin(), forgotten.end(), to) != forgotten.end()) return SendStatus::peer_lost;
    if (credit == 0) return SendStatus::would_block;
    --credit;
    sent.emplace_back(to, Bytes(frame.begin(), frame.end()));
    return SendStatus::sent;
  }
  void get(Rank, std::uint64_t, std::span<std::byte>, GetDone done) override { done({}); }
  int poll(Sink& sink) override {
    int events = 0;
    for (; !arriving.empty(); ++events) {
      const auto [from, frame] = std::move(arriving.front());
      arriving.pop_front();
      sink.on_frame(from, frame);
    }
    for (const auto& [peer, why] : std::exchange(dying, {})) {
      sink.on_lost(peer, why);
      ++events;
    }
    return events;
  }
  int event_fd() const override { return -1; }
  bool arm() override { return armed = arriving.empty(); }
  void disarm() override { armed = false; }
  void forget(Rank peer) override { forgotten.push_back(peer); }
  void close(std::int64_t) override {}

 private:
  std::size_t frame_max_;
};

/// A frame as a router would number it.
inline Bytes numbered(std::uint32_t number, std::initializer_list<unsigned> records) {
  Bytes frame(4);
  std::memcpy(frame.data(), &number, 4);
  for (const unsigned byte : records) frame.push_back(static_cast<std::byte>(byte));
  return frame;
}

}  // namespace trireme::transport::testing
