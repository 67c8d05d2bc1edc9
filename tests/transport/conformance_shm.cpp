#include <sys/mman.h>
#include <unistd.h>

#include <vector>

#include "tests/transport/conformance.hpp"
#include "transport/shm/backend.hpp"
#include "transport/shm/os.hpp"

namespace trireme::transport::testing {
namespace {

class ShmWorld final : public World {
 public:
  ShmWorld(std::uint32_t ranks, std::size_t exposed) {
    for (Rank r = 0; r < ranks; ++r) {
      Fd fd(::memfd_create("trireme-test", MFD_CLOEXEC));
      TRIREME_CHECK(::ftruncate(fd.get(), static_cast<off_t>(exposed)) == 0, "memory for a test");
      memories_.emplace_back(fd.get(), 0, exposed, true);
      auto backend = ShmBackend::create(r);
      TRIREME_CHECK(backend.ok(), "a shared-memory backend");
      backends_.push_back(std::move(backend).value());
      TRIREME_CHECK(backends_.back()->expose(memories_.back().bytes(), fd.get()).ok(), "expose");
      fds_.push_back(std::move(fd));
    }
    for (Rank r = 0; r < ranks; ++r)
      for (Rank p = 0; p < ranks; ++p)
        if (p != r) {
          const Status added = backends_[r]->add_peer(p, backends_[p]->address());
          TRIREME_CHECK(added.ok(), added.error().message);
        }
  }
  std::unique_ptr<Backend> take(Rank rank) override { return std::move(backends_[rank]); }
  std::span<std::byte> memory(Rank rank) override { return memories_[rank].bytes(); }

 private:
  std::vector<Fd> fds_;
  std::vector<Mapping> memories_;
  std::vector<std::unique_ptr<ShmBackend>> backends_;
};

}  // namespace

std::unique_ptr<World> make_world(std::uint32_t ranks, std::size_t exposed) {
  return std::make_unique<ShmWorld>(ranks, exposed);
}

}  // namespace trireme::transport::testing
