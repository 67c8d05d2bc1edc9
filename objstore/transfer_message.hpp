#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "base/ids.hpp"
#include "base/result.hpp"
#include "base/wire.hpp"
#include "transport/transport.hpp"

namespace trireme::objstore {

/// A whole copy that can be read one-sidedly: `size` bytes at `offset` of that rank's arena.
struct Source {
  Rank rank = kNoRank;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::uint64_t generation = 0;
};

/// What the transfer protocol needs from outside.
///
/// Threading: called under the progress token only.
class TransferEnv {
 public:
  virtual ~TransferEnv() = default;
  /// As transport::Router::get.
  virtual void get(Rank from, std::uint64_t offset, std::span<std::byte> into, transport::GetDone done) = 0;
  /// Delivers to on_message() of that rank's Transfer; to oneself too, later. In order per pair.
  virtual void send(Rank to, BytesView message) = 0;
  virtual bool alive(Rank rank) const = 0;
  /// Runs `step` under the token, now or later. The one call that comes from any thread.
  virtual void post(std::function<void()> step) = 0;
};

struct TransferOptions {
  /// One get. Small enough for a pipelined tree to fill quickly, large enough to cost nothing per byte.
  std::uint64_t chunk_bytes = 1U << 20U;
  /// Up to this size a pull reads from the source it was told, without asking the owner: the round trip would cost more
  /// than a tree gains.
  std::uint64_t direct_bytes_max = 256U << 10U;
  /// From this size an object travels as two halves along two trees, see Planner.
  std::uint64_t striped_bytes_min = 8U << 20U;
  std::uint64_t window_bytes = 4U << 20U;      ///< in flight per half
  std::uint64_t in_flight_bytes = 32U << 20U;  ///< in flight per rank
  std::uint32_t in_flight_gets = 128;
};

/// How an object is cut: one stripe, or two halves.
struct Stripes {
  Stripes(std::uint64_t size, const TransferOptions& options);
  std::uint32_t count = 1;
  std::uint64_t begin[2] = {0, 0};
  std::uint64_t end[2] = {0, 0};
};

/// One message between the Transfers (transfer.hpp) of two ranks. kind, id and pull always travel, other fields by
/// kind.
struct TransferMessage {
  enum class Kind : std::uint8_t {
    want = 1,          ///< puller to owner: size, rank (who surely has a whole copy)
    sources = 2,       ///< owner to puller: sources (stripe, rank)
    failed = 3,        ///< puller to owner: stripe, rank does not serve me (any more): another one
    lost = 4,          ///< owner to puller: nobody has it
    done = 5,          ///< puller to owner: I have all of it
    gave_up = 6,       ///< puller to owner: I failed, nobody may follow me
    subscribe = 7,     ///< puller to source: stripe, position: tell me what you have beyond it
    ready = 8,         ///< source to puller: stripe, position (readable up to here), offset, generation
    gone = 9,          ///< source to puller: tainted; I have no copy (any more)
    unsubscribe = 10,  ///< puller to source: stripe
    settled = 11,      ///< puller to owner: stripe; I have much of it, leave me where I am
    move = 12,         ///< owner to puller: stripe, rank; read the rest from that rank
  };

  Kind kind = Kind::want;
  ObjectId id;
  /// The puller's own number of the pull, given back in answers: late ones to an earlier pull are told apart.
  std::uint64_t pull = 0;
  std::uint64_t size = 0;
  std::uint32_t stripe = 0;
  Rank rank = kNoRank;
  std::uint64_t position = 0;  ///< in the object
  std::uint64_t offset = 0;    ///< of the object in the sender's arena
  std::uint64_t generation = 0;
  bool tainted = false;  ///< what was read from the sender cannot be trusted
  std::vector<std::pair<std::uint32_t, Rank>> sources;

  Bytes encode() const;
  /// Error malformed when the bytes make no sense.
  static Result<TransferMessage> decode(BytesView bytes);
};

}  // namespace trireme::objstore
