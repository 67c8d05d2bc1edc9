#include <vector>

#include "tests/transport/conformance.hpp"
#include "transport/sim/network.hpp"

namespace trireme::transport::testing {
namespace {

class SimWorld final : public World {
 public:
  SimWorld(std::uint32_t ranks, std::size_t exposed) : network_(options(ranks)), memory_(ranks, Bytes(exposed)) {}
  std::unique_ptr<Backend> take(Rank rank) override {
    auto backend = network_.make_backend(rank);
    TRIREME_CHECK(backend->expose(memory_[rank], -1).ok(), "expose in the simulation");
    return backend;
  }
  std::span<std::byte> memory(Rank rank) override { return memory_[rank]; }
  void progress() override { network_.step(); }

 private:
  static SimOptions options(std::uint32_t ranks) {
    SimOptions options;
    options.ranks = ranks;
    options.seed = 42;
    options.straggle_share = 0.1;
    options.credit_bytes = 128U << 10;
    return options;
  }
  SimNetwork network_;
  std::vector<Bytes> memory_;
};

}  // namespace

std::unique_ptr<World> make_world(std::uint32_t ranks, std::size_t exposed) {
  return std::make_unique<SimWorld>(ranks, exposed);
}

}  // namespace trireme::transport::testing
