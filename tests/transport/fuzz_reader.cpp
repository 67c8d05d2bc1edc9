#include <cstddef>
#include <cstdint>
#include <span>

#include "base/check.hpp"
#include "base/wire.hpp"

/// Input: pairs of an operation and, at the end, the bytes that are read: what a decoder may do in any order.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace trireme;
  if (size == 0) return 0;
  const std::size_t operations = size < 2 ? 0 : data[0] % 32;
  if (size < 1 + operations) return 0;
  const auto bytes = std::as_bytes(std::span(data + 1 + operations, size - 1 - operations));
  Reader in(bytes);
  unsigned sum = 0;
  const auto touch = [&](BytesView view) {
    TRIREME_CHECK(
        view.empty() || (view.data() >= bytes.data() && view.data() + view.size() <= bytes.data() + bytes.size()),
        "a view lies inside the input");
    for (const std::byte byte : view) sum += std::to_integer<unsigned>(byte);
  };
  for (std::size_t i = 0; i < operations; ++i) {
    const bool before = in.ok();
    const std::size_t left = in.left();
    switch (data[1 + i] % 9) {
      case 0:
        in.get<std::uint8_t>();
        break;
      case 1:
        in.get<double>();
        break;
      case 2:
        in.varint();
        break;
      case 3:
        in.id();
        break;
      case 4:
        touch(in.blob());
        break;
      case 5:
        touch(std::as_bytes(std::span(in.text())));
        break;
      case 6:
        TRIREME_CHECK(in.count(4) <= left / 4, "a count fits what is left");
        break;
      case 7:
        touch(in.raw(data[1 + i]));
        break;
      case 8:
        touch(in.rest());
        break;
    }
    TRIREME_CHECK(before || !in.ok(), "a bad reader stays bad");
    TRIREME_CHECK(in.left() <= left, "a reader only goes forward");
  }
  return 0;
}
