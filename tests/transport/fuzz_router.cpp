#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/check.hpp"
#include "base/log.hpp"
#include "tests/transport/memory_backend.hpp"
#include "transport/router.hpp"

namespace {

using namespace trireme;
using namespace trireme::transport;

/// Touches every byte, as a decoder does; some messages are rejected, some make the router send.
struct Reading final : MessageHandler {
  Status on_message(Rank from, BytesView message) override {
    for (const std::byte byte : message) sum += std::to_integer<unsigned>(byte);
    TRIREME_CHECK(lost[from] == 0, "no message of a lost peer");
    if (message.size() == 13) return make_error(Errc::malformed, "thirteen");
    if (message.size() == 5) router->send(from, message);
    return {};
  }
  void on_lost(Rank peer, std::string_view) override { TRIREME_CHECK(++lost[peer] == 1, "a loss is reported once"); }
  Router* router = nullptr;
  unsigned sum = 0;
  int lost[4] = {};
};

}  // namespace

/// Input: frames, each behind a byte that holds the sender (2 bits) and one that holds the size.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Router router(0, 4);
  auto made = std::make_unique<transport::testing::MemoryBackend>(512);
  auto& backend = *made;
  router.add_default_backend(std::move(made));
  Reading handler;
  handler.router = &router;
  std::size_t at = 0;
  while (at + 2 <= size) {
    const Rank from = 1 + data[at] % 3;
    const std::size_t bytes = std::min<std::size_t>(data[at + 1], size - at - 2);
    at += 2;
    const auto* first = reinterpret_cast<const std::byte*>(data + at);
    backend.arriving.emplace_back(from, Bytes(first, first + bytes));
    at += bytes;
    if (backend.arriving.size() == 3) router.poll(handler);
  }
  router.poll(handler);
  return 0;
}
