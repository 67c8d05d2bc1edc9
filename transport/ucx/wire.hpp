#pragma once

#include <cstdint>

#include "base/ids.hpp"

namespace trireme::transport::ucx {

/// Active message ids.
constexpr unsigned kFrameMessage = 1;    ///< Header, then the frame
constexpr unsigned kControlMessage = 2;  ///< Header, then Control
constexpr unsigned kReadMessage = 3;     ///< Header, then ReadRequest
constexpr unsigned kPieceMessage = 4;    ///< PieceHeader as UCX's own header, the bytes as its payload

/// First in every message.
struct Header {
  std::uint64_t token = 0;  ///< of the receiver, see Address::token
  Rank from = kNoRank;
  std::uint32_t reserved = 0;  ///< zero; keeps the frame 8-byte aligned within the message
};
static_assert(sizeof(Header) == 16);

enum class ControlKind : std::uint32_t {
  leave = 1,       ///< `frames` were sent to you in all, none follows
  leave_seen = 2,  ///< all of them arrived: close when you like
  hello = 3,       ///< my socket to you stands (handshake.cpp)
  ready = 4        ///< UCX has finished its wire-up from me to you
};

struct Control {
  ControlKind kind = ControlKind::leave;
  std::uint32_t reserved = 0;
  std::uint64_t frames = 0;
};
static_assert(sizeof(Control) == 16);

/// Asks for exposed memory where the device cannot read it by itself (reads.cpp).
struct ReadRequest {
  std::uint64_t id = 0;      ///< the reader's, comes back with every piece
  std::uint64_t offset = 0;  ///< in the owner's exposed memory
  std::uint64_t bytes = 0;   ///< at least 1
};
static_assert(sizeof(ReadRequest) == 24);

struct PieceHeader {
  Header header;
  std::uint64_t id = 0;
  std::uint64_t offset = 0;  ///< of the piece in what was asked for
};
static_assert(sizeof(PieceHeader) == 32);

}  // namespace trireme::transport::ucx
