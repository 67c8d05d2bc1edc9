#include <algorithm>
#include <cstring>

#include <fmt/format.h>

#include "transport/ucx/core.hpp"

// Gets over TCP. It has no one-sided read; UCX emulates one by messages, and up to 1.13 that emulation aborts the
// owner's process when the reader dies while an answer waits for the socket. So the reader asks for a chunk by a
// message of ours, and the owner answers with pieces straight from its memory.

namespace trireme::transport::ucx {
namespace {

// One message, sent from where it lies: what fits beside the headers into the 64 KiB a TCP peer receives at a time.
// Larger ones UCX cuts up and puts together in memory of its own.
constexpr std::size_t kPieceBytes = 60U << 10U;
// UCX holds this many per peer while the socket takes none; frames wait behind them.
constexpr std::uint32_t kPiecesPerPeerMax = 16;
// Between two looks at other peers and frames.
constexpr int kPiecesPerTurnMax = 64;
// A reader asks for kChunksPerPeerMax (pulls.cpp) at a time and no more; this leaves a factor of 8.
constexpr std::size_t kServesPerPeerMax = 64;

}  // namespace

bool Core::ask_chunk(Peer& peer, Pull& pull, std::span<std::byte> chunk) {
  const ReadRequest request{peer.next_read, pull.remote + pull.issued - peer.address.memory_base, chunk.size()};
  auto* slot = fill(peer, kReadMessage, std::as_bytes(std::span(&request, 1)));
  if (slot == nullptr) return false;
  peer.reads.push_back({peer.next_read++, &pull, chunk, chunk.size()});
  transmit(slot);  // a failure ends all reads of the peer, see settle()
  return true;
}

ucs_status_t Core::on_piece_message(void* argument, const void* header, std::size_t header_bytes, void* data,
                                    std::size_t bytes, const ucp_am_recv_param_t* param) {
  auto& core = *static_cast<Core*>(argument);
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) return UCS_OK;
  Peer* peer = core.sender_of(header, header_bytes);
  if (peer == nullptr || peer->state != Peer::State::alive) return UCS_OK;
  PieceHeader piece;
  if (header_bytes != sizeof piece) return UCS_OK;
  std::memcpy(&piece, header, sizeof piece);
  const auto read = std::find_if(peer->reads.begin(), peer->reads.end(),
                                 [&](const Read& candidate) { return candidate.id == piece.id; });
  if (read == peer->reads.end() || bytes > read->left || piece.offset > read->into.size() ||
      bytes > read->into.size() - piece.offset) {
    core.fail(*peer, fmt::format("it sent {} bytes at {} for a read that rank {} did not ask for", bytes, piece.offset,
                                 core.self_));
    return UCS_OK;
  }
  if (bytes != 0) std::memcpy(read->into.data() + piece.offset, data, bytes);
  read->left -= bytes;
  if (read->left != 0) return UCS_OK;
  Pull& pull = *read->pull;
  *read = peer->reads.back();
  peer->reads.pop_back();
  core.chunk_done(pull, UCS_OK);
  return UCS_OK;
}

void Core::end_reads(Peer& peer) {
  for (const auto& read : std::exchange(peer.reads, {})) chunk_done(*read.pull, UCS_ERR_CANCELED);
  peer.serves.clear();
}

ucs_status_t Core::on_read_message(void* argument, const void*, std::size_t, void* data, std::size_t bytes,
                                   const ucp_am_recv_param_t* param) {
  auto& core = *static_cast<Core*>(argument);
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) return UCS_OK;
  Peer* peer = core.sender_of(data, bytes);
  if (peer == nullptr || peer->state != Peer::State::alive) return UCS_OK;
  core.hear(*peer);
  ReadRequest request;
  const auto memory = core.exposed_.memory();
  if (bytes == sizeof(Header) + sizeof request)
    std::memcpy(&request, static_cast<const std::byte*>(data) + sizeof(Header), sizeof request);
  if (request.bytes == 0 || request.offset > memory.size() || request.bytes > memory.size() - request.offset ||
      peer->serves.size() >= kServesPerPeerMax) {
    core.fail(*peer,
              fmt::format("it asked to read {} bytes at {} of the {} that rank {} exposes, with {} reads waiting",
                          request.bytes, request.offset, memory.size(), core.self_, peer->serves.size()));
    return UCS_OK;
  }
  peer->serves.push_back({request.id, memory.subspan(request.offset, request.bytes)});
  if (!std::exchange(peer->serving, true)) core.serving_.push_back(peer);
  return UCS_OK;
}

/// Sends pieces until the peer has all it asked for, or UCX holds enough, or it is others' turn. True when it is to be
/// called again by settle(), not by a piece that is given back.
bool Core::serve(Peer& peer) {
  if (peer.state != Peer::State::alive || peer.failed || peer.endpoint == nullptr) {
    peer.serves.clear();
    return false;
  }
  if (!peer.open) return !peer.serves.empty();  // its own ready came, this side's is on its way
  for (int turn = 0; !peer.serves.empty(); ++turn) {
    if (peer.pieces_in_flight >= kPiecesPerPeerMax) return false;
    if (turn == kPiecesPerTurnMax) return true;
    Serve& next = peer.serves.front();
    const auto bytes = next.memory.subspan(next.sent, std::min(kPieceBytes, next.memory.size() - next.sent));
    auto& piece = pieces_.take();
    piece.peer = &peer;
    piece.header = {{peer.address.token, self_, 0}, next.id, next.sent};
    next.sent += bytes.size();
    if (next.sent == next.memory.size()) peer.serves.pop_front();
    ucp_request_param_t param{};
    param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
    param.flags = UCP_AM_SEND_FLAG_EAGER;
    param.cb.send = &Core::on_piece_sent;
    param.user_data = &piece;
    void* request = ucp_am_send_nbx(peer.endpoint, kPieceMessage, &piece.header, sizeof piece.header, bytes.data(),
                                    bytes.size(), &param);
    if (UCS_PTR_IS_PTR(request)) {
      ++peer.pieces_in_flight;
      continue;
    }
    pieces_.give(piece);
    if (request == nullptr) continue;
    fail(peer, fmt::format("UCX cannot send to it: {}", ucs_status_string(UCS_PTR_STATUS(request))));
    return false;
  }
  return false;
}

void Core::on_piece_sent(void* request, ucs_status_t, void* argument) {
  auto& piece = *static_cast<Piece*>(argument);
  Peer& peer = *piece.peer;
  Core& core = peer.owner;
  --peer.pieces_in_flight;
  core.pieces_.give(piece);
  ucp_request_free(request);
  if (!peer.serves.empty() && !std::exchange(peer.serving, true)) core.serving_.push_back(&peer);
}

}  // namespace trireme::transport::ucx
