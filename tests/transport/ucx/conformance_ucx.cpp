#include <atomic>
#include <thread>
#include <vector>

#include "tests/transport/conformance.hpp"
#include "transport/ucx/backend.hpp"

namespace trireme::transport::testing {
namespace {

class UcxWorld final : public World {
 public:
  UcxWorld(std::uint32_t ranks, std::size_t exposed) : memories_(ranks) {
    for (Rank r = 0; r < ranks; ++r) {
      memories_[r].resize(exposed);
      auto backend = make_ucx_backend(r, ranks);
      TRIREME_CHECK(backend.ok(), "a UCX backend");
      backends_.push_back(std::move(backend).value());
      TRIREME_CHECK(backends_.back()->expose(memories_[r], -1).ok(), "expose");
    }
    for (Rank r = 0; r < ranks; ++r)
      for (Rank p = 0; p < ranks; ++p)
        if (p != r) TRIREME_CHECK(backends_[r]->add_peer(p, backends_[p]->address()).ok(), "add_peer");
  }
  std::unique_ptr<Backend> take(Rank rank) override { return std::move(backends_[rank]); }
  std::span<std::byte> memory(Rank rank) override { return memories_[rank]; }
  void close(std::unique_ptr<Backend> backend, std::int64_t grace_ns, const std::function<void()>& step) override {
    // release/acquire: the backend is done with before this thread goes on.
    std::atomic<bool> closed{false};
    std::thread closer([&] {
      backend->close(grace_ns);
      backend.reset();
      closed.store(true, std::memory_order_release);
    });
    while (!closed.load(std::memory_order_acquire)) step();
    closer.join();
  }

 private:
  std::vector<std::vector<std::byte>> memories_;
  std::vector<std::unique_ptr<Backend>> backends_;
};

}  // namespace

std::unique_ptr<World> make_world(std::uint32_t ranks, std::size_t exposed) {
  return std::make_unique<UcxWorld>(ranks, exposed);
}

}  // namespace trireme::transport::testing
