#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "trireme/ml/communicator.hpp"

namespace trireme::ml::detail {

/// How the members of a group on the CPU agree on NCCL's unique id, and that all of them can use it. It names nothing
/// of CUDA, so that it can be tested without.
///
/// Threading: one thread. Errors: agree() throws CollectiveError on every member: unavailable when some member cannot
/// take part (with its rank and its reason), timeout, or what the group throws for a lost one.
/// Lifetime: must outlive `control` after a timeout, whose last operation may still write into it.
class NcclAgreement {
 public:
  static constexpr std::size_t kIdBytes = 128;  // NCCL_UNIQUE_ID_BYTES
  using Id = std::array<std::uint8_t, kIdBytes>;

  /// `prepare` makes this member ready and returns an id, of which member 0's is used; it throws when it cannot.
  Id agree(Communicator& control, const std::string& name, const std::function<Id()>& prepare, Nanos until);

 private:
  struct Card {
    std::uint8_t ready = 0;
    Id id{};
    std::array<char, 383> why{};
  };
  static_assert(sizeof(Card) == 512);
  Card mine_;
  std::vector<Card> all_;
};

/// Waits for an operation on the CPU, no longer than `until`. Throws what the operation does; false: the time is up.
bool wait_until(Work& work, Nanos until);

}  // namespace trireme::ml::detail
