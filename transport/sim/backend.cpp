#include "transport/sim/backend.hpp"

#include <utility>

#include "base/check.hpp"
#include "transport/sim/network_impl.hpp"

namespace trireme::transport {

SimBackend::SimBackend(SimNetwork& network, Rank self) : network_(*network.impl_), self_(self) {
  SimRank& me = network_.rank(self);
  TRIREME_CHECK(!me.attached, "a rank of the simulation has one backend");
  me.attached = true;
}

SimBackend::~SimBackend() {
  network_.close(self_);
  network_.rank(self_).wake = nullptr;
}

std::size_t SimBackend::frame_bytes_max() const { return network_.options.frame_bytes_max; }

Status SimBackend::expose(std::span<std::byte> memory, int memory_fd) {
  network_.rank(self_).exposed = memory;
  return {};
}

SendStatus SimBackend::send(Rank to, BytesView frame) { return network_.send(self_, to, frame); }

void SimBackend::get(Rank from, std::uint64_t offset, std::span<std::byte> into, GetDone done) {
  network_.get(self_, from, offset, into, std::move(done));
}

int SimBackend::poll(Sink& sink) { return network_.poll(self_, sink); }

bool SimBackend::arm() { return network_.rank(self_).inbox.empty(); }

void SimBackend::forget(Rank peer) { network_.rank(self_).gone.insert(peer); }

void SimBackend::close(std::int64_t grace_ns) { network_.close(self_); }

std::unique_ptr<Backend> SimNetwork::make_backend(Rank rank) { return std::make_unique<SimBackend>(*this, rank); }

}  // namespace trireme::transport
