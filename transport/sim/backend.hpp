#pragma once

#include "transport/sim/network.hpp"

namespace trireme::transport {

/// One rank's place in a SimNetwork. Every rank reaches every other; add_peer() is not needed.
///
/// Threading: as SimNetwork. Lifetime: within the network's; its end is an orderly leave unless the rank was killed.
class SimBackend final : public Backend {
 public:
  SimBackend(SimNetwork& network, Rank self);
  ~SimBackend() override;

  std::string_view name() const override { return "sim"; }
  std::string describe(Rank) const override { return "virtual network"; }
  std::size_t frame_bytes_max() const override;
  Bytes address() const override { return {}; }
  Status expose(std::span<std::byte> memory, int memory_fd) override;
  Status add_peer(Rank, BytesView) override { return {}; }
  SendStatus send(Rank to, BytesView frame) override;
  void get(Rank from, std::uint64_t offset, std::span<std::byte> into, GetDone done) override;
  int poll(Sink& sink) override;
  int event_fd() const override { return -1; }
  bool arm() override;
  void disarm() override {}
  void forget(Rank peer) override;
  void close(std::int64_t grace_ns) override;

 private:
  SimNetwork::Impl& network_;
  Rank self_;
};

}  // namespace trireme::transport
