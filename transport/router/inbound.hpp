#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/wire.hpp"

namespace trireme::transport {

/// What one peer has begun and not finished: frames that overtook others, and a message in fragments.
/// Made for a peer only when that happens.
///
/// Threading: one owner.
class Inbound {
 public:
  /// Frames and bytes held for a peer. Reordering in a network spans what is in flight, which credit keeps far below
  /// this; a peer that exceeds it does not follow the protocol.
  static constexpr std::uint32_t kFramesAheadMax = 16'384;
  static constexpr std::size_t kBytesAheadMax = 64U << 20U;

  /// Keeps a copy of a frame that is `ahead` >= 1 numbers before its turn. Empty when kept, else what is wrong.
  std::string keep(std::uint32_t number, std::uint32_t ahead, BytesView frame);
  bool has(std::uint32_t number) const { return ahead_.count(number) != 0; }
  Bytes take(std::uint32_t number);

  bool assembling() const { return total_ != 0; }
  /// Both: empty when fine, else what is wrong.
  std::string begin(std::uint64_t total, BytesView fragment);
  std::string append(BytesView fragment);
  bool complete() const { return total_ != 0 && partial_.size() == total_; }
  /// The finished message; assembling() is false afterwards.
  Bytes take_message();

 private:
  std::map<std::uint32_t, Bytes> ahead_;
  std::size_t ahead_bytes_ = 0;
  Bytes partial_;
  std::size_t total_ = 0;
};

}  // namespace trireme::transport
