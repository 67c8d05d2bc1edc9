#include <algorithm>

#include <fmt/format.h>

#include "transport/ucx/core.hpp"

namespace trireme::transport::ucx {
namespace {

// Chunks bound what UCX holds and how long a get waits behind a larger one; several under way hide the round trip of
// each request.
constexpr std::size_t kChunkBytes = 1U << 20U;
constexpr std::uint32_t kChunksPerPeerMax = 8;

Error lost_error(const Peer& peer) {
  return make_error(Errc::peer_lost,
                    fmt::format("rank {} is gone{}{}", peer.rank, peer.failure.empty() ? "" : ": ", peer.failure));
}

Status outcome(const Pull& pull) {
  if (pull.status == UCS_OK) return {};
  if (pull.peer->state != Peer::State::alive || pull.peer->failed) return lost_error(*pull.peer);
  return ucx_error(Errc::io, fmt::format("reading {} bytes from rank {}", pull.into.size(), pull.peer->rank),
                   pull.status);
}

}  // namespace

void Core::pull(Peer& peer, std::uint64_t offset, std::span<std::byte> into, GetDone done) {
  if (peer.state != Peer::State::alive || peer.failed) return done(lost_error(peer));
  if (offset > peer.address.memory_bytes || into.size() > peer.address.memory_bytes - offset)
    return done(
        make_error(Errc::invalid_argument, fmt::format("get of {} bytes at {} from rank {}, which exposes {} bytes",
                                                       into.size(), offset, peer.rank, peer.address.memory_bytes)));
  if (into.empty()) return done(Status{});
  auto pull = std::make_unique<Pull>();
  pull->peer = &peer;
  pull->remote = peer.address.memory_base + offset;
  pull->into = into;
  pull->memory = exposed_.covering(into);
  pull->done = std::move(done);
  peer.pulls.push_back(std::move(pull));
  issue(peer);
}

bool Core::unpack_key(Peer& peer) {
  if (peer.key != nullptr) return true;
  const auto status = ucp_ep_rkey_unpack(peer.endpoint, peer.address.memory_key.data(), &peer.key);
  if (status == UCS_OK) return true;
  peer.key = nullptr;
  fail(peer, fmt::format("UCX cannot read its memory: {}", ucs_status_string(status)));
  return false;
}

void Core::issue(Peer& peer) {
  if (!connect(peer)) return;  // settle() ends the gets
  if (!peer.open) return;      // advance_handshake() comes back
  if (!peer.reads_by_message && !unpack_key(peer)) return;
  while (!peer.pulls.empty() && peer.chunks_in_flight < kChunksPerPeerMax) {
    Pull& front = *peer.pulls.front();
    const bool whole = front.issued == front.into.size();
    if (!whole && front.status == UCS_OK) {
      if (issue_chunk(peer, front)) continue;
      if (!std::exchange(peer.active, true)) active_.push_back(&peer);  // again when slots are free
      return;
    }
    auto pull = std::move(peer.pulls.front());
    peer.pulls.pop_front();
    if (pull->in_flight == 0)
      finished_.push_back(std::move(pull));
    else
      pull.release();  // its last chunk finishes it, see chunk_done()
  }
}

bool Core::issue_chunk(Peer& peer, Pull& pull) {
  const auto chunk = pull.into.subspan(pull.issued, std::min(kChunkBytes, pull.into.size() - pull.issued));
  if (peer.reads_by_message) {
    if (!ask_chunk(peer, pull, chunk)) return false;
    pull.issued += chunk.size();
    ++pull.in_flight;
    ++peer.chunks_in_flight;
    return true;
  }
  ucp_request_param_t param{};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  param.cb.send = &Core::on_chunk;
  param.user_data = &pull;
  if (pull.memory != nullptr) {
    param.op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
    param.memh = pull.memory;
  }
  void* request = ucp_get_nbx(peer.endpoint, chunk.data(), chunk.size(), pull.remote + pull.issued, peer.key, &param);
  pull.issued += chunk.size();
  if (UCS_PTR_IS_PTR(request)) {
    ++pull.in_flight;
    ++peer.chunks_in_flight;
  } else if (request != nullptr && pull.status == UCS_OK) {
    pull.status = UCS_PTR_STATUS(request);
  }
  return true;
}

void Core::on_chunk(void* request, ucs_status_t status, void* argument) {
  auto& pull = *static_cast<Pull*>(argument);
  ucp_request_free(request);
  pull.peer->owner.chunk_done(pull, status);
}

void Core::chunk_done(Pull& pull, ucs_status_t status) {
  Peer& peer = *pull.peer;
  --pull.in_flight;
  --peer.chunks_in_flight;
  if (status != UCS_OK && pull.status == UCS_OK) pull.status = status;
  const bool queued = !peer.pulls.empty() && peer.pulls.front().get() == &pull;
  if (!queued && pull.in_flight == 0) finished_.emplace_back(&pull);
  if (!std::exchange(peer.active, true)) active_.push_back(&peer);
}

/// The peer is gone: gets that UCX still holds end when it gives them back, the others now.
void Core::end_pulls(Peer& peer) {
  for (auto& pull : peer.pulls) {
    pull->status = UCS_ERR_CANCELED;
    if (pull->in_flight == 0)
      finished_.push_back(std::move(pull));
    else
      pull.release();
  }
  peer.pulls.clear();
  end_reads(peer);
  if (peer.chunks_in_flight == 0) release_key(peer);
}

void Core::release_key(Peer& peer) {
  if (peer.key != nullptr) ucp_rkey_destroy(peer.key);
  peer.key = nullptr;
}

int Core::run_finished() {
  const auto finished = std::exchange(finished_, {});
  for (const auto& pull : finished) pull->done(outcome(*pull));
  return static_cast<int>(finished.size());
}

}  // namespace trireme::transport::ucx
