#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/wire.hpp"

namespace trireme::sim {

/// An input of fuzz_core: messages, each behind a byte that holds its size.
inline std::vector<Bytes> messages_of(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kMessagesMax = 32;
  std::vector<Bytes> messages;
  for (std::size_t at = 0; at < size && messages.size() < kMessagesMax;) {
    const auto bytes = std::min<std::size_t>(data[at], size - at - 1);
    const auto* first = reinterpret_cast<const std::byte*>(data + at + 1);
    if (bytes > 0) messages.emplace_back(first, first + bytes);
    at += 1 + bytes;
  }
  return messages;
}

}  // namespace trireme::sim
