#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.hpp"
#include "base/wire.hpp"

namespace trireme::core {

/// First byte of every message between ranks. Ranks run the same build, yet the numbers stay for tools and corpora.
enum class MessageType : std::uint8_t {
  task = 1,          ///< run this
  task_done = 2,     ///< results or error, to the owner
  task_moved = 3,    ///< a victim that is not the owner gave the task away
  task_bounced = 4,  ///< no resources here now, with what is free
  subscribe = 5,     ///< borrower to owner: tell me the value or where it is
  value = 6,         ///< owner to borrower
  borrow = 7,        ///< a reference came from a third rank; answered to that rank
  loan_done = 8,     ///< owner to lender: the borrower is registered, drop your hold
  release = 9,       ///< borrower to owner: that many grants are given back
  free_result = 10,  ///< owner to the rank that holds a result in its arena
  transfer = 11,     ///< objstore's own messages
  actor_create = 12,
  actor_call = 13,
  actor_end = 15,  ///< owner to host: no handle is left
  actor_kill = 16,
  name_set = 17,
  name_reply = 18,
  name_get = 19,
  name_forward = 20,
  name_del = 21,
  steal = 22,  ///< scheduler's own messages
  group = 23,
  death_report = 24,  ///< to rank 0: I lost this rank
  death = 25,         ///< from rank 0: this rank is dead for everybody, with the epoch
  shutdown = 26,
  shutdown_done = 27,
  group_lookup = 28,  ///< to a group's creator: where are its bundles
  group_info = 29,
  seat = 30,           ///< from rank 0: this rank comes, with its addresses and resources
  seat_known = 31,     ///< to rank 0: I can reach it, and what it must know of me
  joined = 32,         ///< from rank 0: all know that rank
  cancel = 33,         ///< is the call with this key with you? It is to end, or not to begin
  cancel_answer = 34,  ///< whether it was
  cancel_result = 35,  ///< to a result's owner: cancel the call that makes it
  control = 36,        ///< a question of the layers above, see control.hpp
  control_answer = 37,
  report = 38,  ///< what is free in the sender now
  end,          ///< none: one more than the last
};
/// Was a type once.
inline constexpr auto kUnusedMessageType = static_cast<MessageType>(14);

inline std::vector<MessageType> message_types() {
  std::vector<MessageType> all;
  for (int type = 1; type < static_cast<int>(MessageType::end); ++type)
    if (const auto known = static_cast<MessageType>(type); known != kUnusedMessageType) all.push_back(known);
  return all;
}

/// Where a large object lies: readable one-sidedly at `offset` of that rank's arena while the generation holds.
struct Location {
  Rank rank = kNoRank;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::uint64_t generation = 0;

  void encode(Writer& out) const {
    out.varint(rank);
    out.varint(offset);
    out.varint(size);
    out.varint(generation);
  }
  static Location decode(Reader& in) {
    Location l;
    l.rank = static_cast<Rank>(in.varint());
    l.offset = in.varint();
    l.size = in.varint();
    l.generation = in.varint();
    return l;
  }
};

}  // namespace trireme::core
