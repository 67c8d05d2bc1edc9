#include "ml/collective/segment.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>

namespace trireme::ml {
namespace {

constexpr std::size_t kPage = 4096;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;
constexpr std::uint64_t kMagic = 0x31304C4C4F435254;  // "TRCOLL01"

struct Head {
  std::uint64_t magic;
  std::uint64_t nonce;
  std::uint32_t members;
  alignas(64) std::atomic<std::uint32_t> sleepers;
  alignas(64) std::atomic<std::uint32_t> broken;
};

constexpr std::size_t pages(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }
constexpr std::size_t bells_at() { return pages(sizeof(Head)); }
constexpr std::size_t lines_at(std::size_t members) { return bells_at() + pages(members * sizeof(Bell)); }
constexpr std::size_t slots_at(std::size_t members) {
  return lines_at(members) + pages(2 * members * sizeof(PhaseLine));
}
constexpr std::size_t stages_at(std::size_t members) { return slots_at(members) + 2 * members * kSlotBytes; }
constexpr std::size_t rings_at(std::size_t members) { return stages_at(members) + 4 * members * kStageBytes; }

Error failed(std::string_view what) { return make_error(Errc::io, fmt::format("{}: {}", what, std::strerror(errno))); }

Head& head_of(const transport::Mapping& memory) { return *reinterpret_cast<Head*>(memory.bytes().data()); }

}  // namespace

std::size_t Segment::bytes_for(std::uint32_t members) {
  return rings_at(members) + std::size_t{members} * members * kRingBytes;
}

Status Segment::map(std::uint32_t members, int fd) {
  memory_ = transport::Mapping(fd, 0, bytes_for(members), true);
  if (!memory_) return failed(fmt::format("mapping the {} bytes that members of a node share", bytes_for(members)));
  members_ = members;
  std::byte* base = memory_.bytes().data();
  bells_ = reinterpret_cast<Bell*>(base + bells_at());
  lines_ = reinterpret_cast<PhaseLine*>(base + lines_at(members));
  slots_ = base + slots_at(members);
  stages_ = base + stages_at(members);
  rings_ = base + rings_at(members);
  return {};
}

Result<std::unique_ptr<Segment>> Segment::create(std::uint32_t members, std::uint64_t nonce) {
  std::unique_ptr<Segment> made(new Segment);
  made->fd_ = transport::Fd(::memfd_create("trireme-group", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!made->fd_) return failed("memfd_create for a group");
  if (::ftruncate(made->fd(), static_cast<off_t>(bytes_for(members))) != 0)
    return failed("ftruncate of a group's memory");
  if (::fcntl(made->fd(), F_ADD_SEALS, kSeals | F_SEAL_SEAL) != 0) return failed("sealing a group's memory");
  if (auto mapped = made->map(members, made->fd()); !mapped.ok()) return mapped.error();
  Head& head = head_of(made->memory_);
  head.nonce = nonce;
  head.members = members;
  head.magic = kMagic;
  return made;
}

Result<std::unique_ptr<Segment>> Segment::open(std::uint32_t members, std::uint64_t nonce, int pid, int fd) {
  const transport::Fd file = transport::open_of_process(pid, fd, O_RDWR);
  if (!file)
    return failed(
        fmt::format("opening the group's memory as /proc/{}/fd/{} (another user or PID namespace? then give "
                    "each side a TRIREME_NODE_ID of its own)",
                    pid, fd));
  struct stat info {};
  const int seals = ::fcntl(file.get(), F_GET_SEALS);
  if (::fstat(file.get(), &info) != 0 || seals < 0 || (seals & kSeals) != kSeals ||
      static_cast<std::size_t>(info.st_size) != bytes_for(members))
    return make_error(Errc::unavailable, fmt::format("/proc/{}/fd/{} is not the group's memory", pid, fd));
  std::unique_ptr<Segment> made(new Segment);
  if (auto mapped = made->map(members, file.get()); !mapped.ok()) return mapped.error();
  const Head& head = head_of(made->memory_);
  if (head.magic != kMagic || head.nonce != nonce || head.members != members)
    return make_error(Errc::unavailable, fmt::format("process {} is another one by now", pid));
  return made;
}

Status Segment::open_bells(std::span<const Peer> peers) {
  pipes_.resize(peers.size());
  for (std::size_t i = 0; i < peers.size(); ++i) {
    if (peers[i].bell_fd < 0) continue;
    // For reading too, so that ringing at a dead member raises no SIGPIPE.
    pipes_[i] = transport::open_of_process(peers[i].pid, peers[i].bell_fd, O_RDWR | O_NONBLOCK);
    if (!pipes_[i]) return failed(fmt::format("opening the doorbell of process {}", peers[i].pid));
  }
  return {};
}

std::atomic<std::uint32_t>& Segment::sleepers() const { return head_of(memory_).sleepers; }
std::atomic<std::uint32_t>& Segment::broken() const { return head_of(memory_).broken; }

void Segment::wake(std::uint32_t member) const {
  Bell& bell = bells_[member];
  if (bell.sleeping.load(std::memory_order_seq_cst) == Bell::awake) return;
  sound(member, bell.sleeping.exchange(Bell::awake, std::memory_order_seq_cst));
}

void Segment::sound(std::uint32_t member, std::uint32_t how) const {
  Bell& bell = bells_[member];
  if (how == Bell::on_futex) {
    bell.rings.fetch_add(1, std::memory_order_seq_cst);
    ::syscall(SYS_futex, &bell.rings, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  } else if (how == Bell::on_pipe) {
    const char one = 1;
    [[maybe_unused]] const auto written = ::write(pipes_[member].get(), &one, 1);
  }
}

void Segment::raise(Breakage breakage) const {
  std::uint32_t none = 0;
  broken().compare_exchange_strong(none, breakage.pack(), std::memory_order_seq_cst);
  // Whether they seem asleep or not: who was killed may have taken that from a sleeper and not rung.
  for (std::uint32_t member = 0; member < members_; ++member)
    sound(member, member < pipes_.size() && pipes_[member] ? Bell::on_pipe : Bell::on_futex);
}

}  // namespace trireme::ml
