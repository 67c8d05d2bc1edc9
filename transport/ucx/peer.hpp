#pragma once

#include <ucp/api/ucp.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "transport/transport.hpp"
#include "transport/ucx/address.hpp"

namespace trireme::transport::ucx {

class Core;
struct Peer;
struct Slot;

/// A get under way, read in chunks.
struct Pull {
  Peer* peer = nullptr;
  std::uint64_t remote = 0;  ///< virtual address at the owner
  std::span<std::byte> into;
  ucp_mem_h memory = nullptr;    ///< registration of `into`, when it lies in exposed memory
  std::size_t issued = 0;        ///< bytes asked for so far
  std::uint32_t in_flight = 0;   ///< chunks UCX holds
  ucs_status_t status = UCS_OK;  ///< of the first chunk that failed
  GetDone done;
};

/// A chunk of a get that was asked for by message (reads.cpp).
struct Read {
  std::uint64_t id = 0;
  Pull* pull = nullptr;
  std::span<std::byte> into;
  std::size_t left = 0;  ///< bytes to come
};

/// Memory of this rank that a peer has asked for.
struct Serve {
  std::uint64_t id = 0;
  std::span<const std::byte> memory;
  std::size_t sent = 0;
};

/// Where frames and gets towards one rank stand.
///
/// `alive` until the connection fails, the rank leaves or is forgotten; then never again. Every UCX call is gated on
/// it: UCX may crash when a failed endpoint is used (openucx/ucx#11629).
///
/// Threading: the backend's caller. Lifetime: as long as the backend, since UCX callbacks may name it late.
struct Peer {
  enum class State : std::uint8_t { alive, left, lost };

  Peer(Core& owner, Rank rank, Address address) : owner(owner), rank(rank), address(std::move(address)) {}

  Core& owner;
  const Rank rank;
  const Address address;
  State state = State::alive;

  ucp_ep_h endpoint = nullptr;
  ucp_rkey_h key = nullptr;  ///< unpacked once: 7 to 10 us
  /// Set by the error callback, dealt with after progress returns.
  bool failed = false;
  std::string failure;

  /// Frames and gets may go: no handshake is needed or it is over (handshake.cpp).
  bool open = false;
  bool hello_sent = false;
  bool hello_received = false;
  Slot* ready_message = nullptr;  ///< while UCX holds it
  bool ready_sent = false;        ///< UCX has given it back
  bool ready_received = false;
  bool heard = false;       ///< any message came
  std::deque<Slot*> held;   ///< messages until `open`; they count as sends in flight
  bool leave_sent = false;  ///< while closing

  std::uint64_t frames_sent = 0;
  std::uint64_t frames_received = 0;
  /// How many frames a leaving peer has sent in all. They may still be under way.
  std::optional<std::uint64_t> frames_announced;
  bool settled = false;  ///< while closing: the peer has all of ours, or will never want it

  std::uint32_t sends_in_flight = 0;
  /// Not asked for to the end yet; first come, first served. Only the front is begun. Those asked for to the end
  /// belong to their chunks.
  std::deque<std::unique_ptr<Pull>> pulls;
  std::uint32_t chunks_in_flight = 0;
  bool active = false;  ///< stands in the list of peers with chunks to issue

  bool reads_by_message = false;  ///< set when the endpoint is made
  std::uint64_t next_read = 0;
  std::vector<Read> reads;  ///< few: chunks in flight
  std::deque<Serve> serves;
  bool serving = false;  ///< stands in the list of peers to serve
  std::uint32_t pieces_in_flight = 0;
};

}  // namespace trireme::transport::ucx
