#include "transport/ucx/backend.hpp"

#include "transport/ucx/core.hpp"

namespace trireme::transport {
namespace {

class UcxBackend final : public Backend {
 public:
  UcxBackend(Rank self, std::uint32_t size, std::unique_ptr<ucx::Worker> worker)
      : core_(self, size, std::move(worker)),
        event_fd_(core_.worker().event_fd()),
        frame_bytes_max_(core_.worker().fragment_bytes_max() - sizeof(ucx::Header)) {}

  Status listen() { return core_.listen(); }

  std::string_view name() const override { return "ucx"; }
  std::string describe(Rank peer) const override { return core_.describe(core_.peer(peer)); }
  std::size_t frame_bytes_max() const override { return frame_bytes_max_; }

  Bytes address() const override {
    auto& core = const_cast<ucx::Core&>(core_);
    ucx::Address address;
    address.token = core.token();
    address.worker = core.worker().address();
    address.memory_base = reinterpret_cast<std::uintptr_t>(core.exposed().memory().data());
    address.memory_bytes = core.exposed().memory().size();
    address.memory_key = core.exposed().key();
    return address.encode();
  }
  Status expose(std::span<std::byte> memory, int) override { return core_.exposed().expose(core_.worker(), memory); }
  Status add_peer(Rank peer, BytesView address) override { return core_.add(peer, address); }

  SendStatus send(Rank to, BytesView frame) override { return core_.send(core_.peer(to), frame); }
  void get(Rank from, std::uint64_t offset, std::span<std::byte> into, GetDone done) override {
    core_.pull(core_.peer(from), offset, into, std::move(done));
  }
  int poll(Sink& sink) override { return core_.poll(sink); }

  int event_fd() const override { return event_fd_; }
  bool arm() override { return core_.arm(); }
  void disarm() override {}  // UCX's descriptor follows its devices; progress clears it

  void forget(Rank peer) override { core_.forget(core_.peer(peer)); }
  void close(std::int64_t grace_ns) override { core_.close(grace_ns); }

 private:
  ucx::Core core_;
  int event_fd_;
  std::size_t frame_bytes_max_;
};

}  // namespace

Result<std::unique_ptr<Backend>> make_ucx_backend(Rank self, std::uint32_t size) {
  auto worker = ucx::Worker::create(size);
  if (!worker) return worker.error();
  auto backend = std::make_unique<UcxBackend>(self, size, std::move(*worker));
  if (auto status = backend->listen(); !status.ok()) return status.error();
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace trireme::transport
