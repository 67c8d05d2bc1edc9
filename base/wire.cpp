#include "base/wire.hpp"

namespace trireme {

void Writer::varint(std::uint64_t value) {
  while (value >= 0x80) {
    out_.push_back(static_cast<std::byte>(value | 0x80U));
    value >>= 7U;
  }
  out_.push_back(static_cast<std::byte>(value));
}

std::uint64_t Reader::varint() {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    if (!need(1)) return 0;
    const auto byte = std::to_integer<std::uint64_t>(in_[at_++]);
    // The tenth byte holds the top bit only; anything more does not fit 64 bits.
    if (shift == 63 && byte > 1) break;
    value |= (byte & 0x7FU) << shift;
    if ((byte & 0x80U) == 0) return value;
  }
  fail();
  return 0;
}

ObjectId Reader::id() {
  const auto owner = varint();
  const auto index = varint();
  if (owner > kNoRank) {
    fail();
    return {};
  }
  return {static_cast<Rank>(owner), index};
}

std::uint64_t Reader::count(std::size_t item_bytes_min) {
  const auto items = varint();
  if (items > left() / item_bytes_min) {
    fail();
    return 0;
  }
  return items;
}

}  // namespace trireme
