#include "python/native/wire.hpp"

#include <doctest/doctest.h>

#include "base/rng.hpp"

namespace trireme::python {
namespace {

Bytes pack_all(BytesView data, const std::vector<Bytes>& buffers) {
  std::vector<std::uint64_t> sizes;
  std::vector<BytesView> views;
  for (const auto& buffer : buffers) {
    sizes.push_back(buffer.size());
    views.emplace_back(buffer);
  }
  const auto layout = layout_of(data.size(), sizes);
  Bytes blob(layout.total, std::byte{0xee});
  pack(layout, data, views, blob);
  return blob;
}

TEST_CASE("a packed value comes apart as it was, buffers at multiples of 64 bytes") {
  Rng rng(2);
  for (int round = 0; round < 200; ++round) {
    INFO("round " << round << " of seed 2");
    const Bytes data(rng.below(300), std::byte{1});
    std::vector<Bytes> buffers(rng.below(5));
    for (auto& buffer : buffers) buffer.assign(rng.below(400), static_cast<std::byte>(rng.below(256)));
    const auto blob = pack_all(data, buffers);
    const auto layout = unpack(blob);
    REQUIRE(layout);
    CHECK(Bytes(blob.begin() + layout->data, blob.begin() + layout->data + layout->data_size) == data);
    REQUIRE(layout->buffers.size() == buffers.size());
    auto end = layout->data + layout->data_size;
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      const auto [at, size] = layout->buffers[i];
      CHECK(at % 64 == 0);
      CHECK(Bytes(blob.begin() + at, blob.begin() + at + size) == buffers[i]);
      // Nothing of what lay there before shows between them.
      for (; end < at; ++end) CHECK(blob[end] == std::byte{0});
      end = at + size;
    }
  }
}

TEST_CASE("bytes that are no packed value are refused: cut short, longer, or with one byte changed in the head") {
  const auto blob = pack_all(Bytes(20), {Bytes(70), Bytes(5)});
  for (std::size_t size = 0; size < blob.size(); ++size) CHECK_FALSE(unpack(BytesView(blob).first(size)));
  auto longer = blob;
  longer.push_back({});
  CHECK_FALSE(unpack(longer));
  for (std::size_t at = 0; at < 32; ++at) {
    if (at >= 4 && at < 8) continue;  // unused
    auto changed = blob;
    changed[at] ^= std::byte{0xff};
    CHECK_FALSE(unpack(changed));
  }
}

TEST_CASE("options and places survive the wire") {
  CallOptions options;
  options.resources.cpus = 0.5;
  options.resources.gpus = 2;
  options.resources.memory = 1U << 30U;
  options.resources.custom = {{"licence", 1.5}};
  options.placement = Placement::on_node("node-3", true);
  options.max_retries = -1;
  options.name = "name";
  options.detached = true;
  Bytes bytes;
  Writer out(bytes);
  options.encode(out);
  Located at{3, 77, 9, 1U << 20U, 4096, 100, 8};
  at.encode(out);
  Reader in(bytes);
  const auto read = CallOptions::decode(in);
  const auto place = Located::decode(in);
  CHECK(in.done());
  CHECK(read.placed());
  CHECK(read.resources.cpus == options.resources.cpus);
  CHECK(read.resources.custom == options.resources.custom);
  CHECK(read.placement.kind == Placement::Kind::node);
  CHECK(read.placement.node == "node-3");
  CHECK(read.placement.soft);
  CHECK(read.max_retries == -1);
  CHECK(read.detached);
  CHECK(place.pid == 77);
  CHECK(place.offset == 4096);
  CHECK(place.pin == 8);
  CHECK_FALSE(CallOptions().placed());
}

}  // namespace
}  // namespace trireme::python
