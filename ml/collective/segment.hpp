#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "transport/shm/os.hpp"

namespace trireme::ml {

/// Why a group ended, and the member to blame. One word, so that it can be set from any process in one step.
struct Breakage {
  enum class Cause : std::uint8_t { none = 0, died, unreachable, left, timeout, disagreement };
  Cause cause = Cause::none;
  std::uint32_t member = 0;

  static Breakage unpack(std::uint32_t word) { return {static_cast<Cause>(word >> 24U), word & 0xFFFFFFU}; }
  std::uint32_t pack() const { return static_cast<std::uint32_t>(cause) << 24U | member; }
};
inline constexpr std::uint32_t kMembersMax = 1U << 24U;

/// Sizes of the parts of a segment. Untouched pages cost nothing.
inline constexpr std::size_t kInlineBytes = 48;         ///< beside the phase, in its cache line
inline constexpr std::size_t kSlotBytes = 32U << 10U;   ///< small contributions, read by every member
inline constexpr std::size_t kStageBytes = 1U << 20U;   ///< one of a member's four staging buffers
inline constexpr std::size_t kRingBytes = 256U << 10U;  ///< messages of one member to one other

/// A member's contribution to one phase. Two lines alternate: a member that writes for phase p + 2 has seen everybody
/// in p + 1, so everybody is done with p.
struct alignas(64) PhaseLine {
  /// The phase that the rest of the line, the slot and the staging buffers belong to. Released by the member after it
  /// has written them, acquired by the others; Fabric::announce() follows.
  std::atomic<std::uint64_t> phase;
  std::uint64_t signature;  ///< of the operation, to notice members that disagree
  std::byte data[kInlineBytes];
};
static_assert(sizeof(PhaseLine) == 64);

/// How a member sleeps and is woken.
struct alignas(64) Bell {
  enum : std::uint32_t { awake = 0, on_futex = 1, on_pipe = 2 };
  std::atomic<std::uint32_t> sleeping;  ///< set by the member, taken by who wakes it; partner: `rings` and the phases
  std::atomic<std::uint32_t> rings;     ///< the futex
  std::atomic<std::uint32_t> left;      ///< 1 once the member closed in an orderly way
};

/// The memory that members of one node share: a sealed memfd made by the first of them, opened by the others through
/// /proc/<pid>/fd. No name in a file system, nothing to clean up.
///
///   head | bells | phase lines [2][members] | slots [2][members] | staging [members][4] | rings [from][to]
///
/// Threading: immutable after opening; what lies in the memory says who writes it. raise() and ring() from any thread.
class Segment {
 public:
  struct Peer {
    int pid = 0;
    int bell_fd = -1;  ///< read end of its pipe in its process, or -1: it sleeps on the futex
  };

  static Result<std::unique_ptr<Segment>> create(std::uint32_t members, std::uint64_t nonce);
  static Result<std::unique_ptr<Segment>> open(std::uint32_t members, std::uint64_t nonce, int pid, int fd);
  int fd() const { return fd_.get(); }
  void forget_fd() { fd_.reset(); }
  /// Opens the pipes of members that sleep on one.
  Status open_bells(std::span<const Peer> peers);

  std::uint32_t members() const { return members_; }
  PhaseLine& line(std::uint64_t phase, std::uint32_t member) const { return lines_[(phase & 1U) * members_ + member]; }
  std::byte* slot(std::uint64_t phase, std::uint32_t member) const {
    return slots_ + ((phase & 1U) * members_ + member) * kSlotBytes;
  }
  /// Contributions that belong to a phase, and results.
  std::byte* stage_in(std::uint32_t member, std::uint64_t phase) const {
    return stages_ + (member * 4U + (phase & 1U)) * kStageBytes;
  }
  std::byte* stage_out(std::uint32_t member, std::uint64_t phase) const {
    return stages_ + (member * 4U + 2 + (phase & 1U)) * kStageBytes;
  }
  std::span<std::byte> ring(std::uint32_t from, std::uint32_t to) const {
    return {rings_ + (std::size_t{from} * members_ + to) * kRingBytes, kRingBytes};
  }
  Bell& bell(std::uint32_t member) const { return bells_[member]; }

  /// Members that sleep or are about to. Sequentially consistent, with what they wait for: either the sleeper sees the
  /// news, or who brings them sees the sleeper.
  std::atomic<std::uint32_t>& sleepers() const;
  /// Wakes one member if it sleeps; all that do.
  void wake(std::uint32_t member) const;
  void wake_all() const {
    if (sleepers().load(std::memory_order_seq_cst) == 0) [[likely]]
      return;
    for (std::uint32_t member = 0; member < members_; ++member) wake(member);
  }

  /// Ends the group on this node. The first cause stays.
  void raise(Breakage breakage) const;
  Breakage breakage() const { return Breakage::unpack(broken().load(std::memory_order_acquire)); }

 private:
  Segment() = default;
  void sound(std::uint32_t member, std::uint32_t how) const;
  static std::size_t bytes_for(std::uint32_t members);
  Status map(std::uint32_t members, int fd);
  std::atomic<std::uint32_t>& broken() const;

  transport::Fd fd_;
  transport::Mapping memory_;
  std::uint32_t members_ = 0;
  Bell* bells_ = nullptr;
  PhaseLine* lines_ = nullptr;
  std::byte* slots_ = nullptr;
  std::byte* stages_ = nullptr;
  std::byte* rings_ = nullptr;
  std::vector<transport::Fd> pipes_;  // by member, for those that sleep on one
};

}  // namespace trireme::ml
