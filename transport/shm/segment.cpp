#include "transport/shm/segment.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "transport/shm/ring.hpp"

namespace trireme::transport {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kHeadBytes = (sizeof(SegmentHead) + kPage - 1) / kPage * kPage;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;

std::size_t ring_at(std::uint32_t slot, std::size_t ring_bytes) { return kHeadBytes + slot * ring_bytes; }

Error failed(std::string_view what) {
  return make_error(Errc::io, fmt::format("shm: {}: {}", what, std::strerror(errno)));
}

}  // namespace

Result<Segment> Segment::create(Rank rank, std::uint32_t slots, std::size_t ring_bytes) {
  TRIREME_CHECK(slots > 0 && slots <= kSlotsMax, "a segment has 1 to kSlotsMax slots");
  TRIREME_CHECK(ring_bytes % kPage == 0 && ring_bytes >= 2 * kPage, "rings are whole pages, two at least");
  Segment made;
  made.fd_ = Fd(::memfd_create("trireme-shm", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!made.fd_) return failed("memfd_create");
  const std::size_t bytes = ring_at(slots, ring_bytes);
  if (::ftruncate(made.fd(), static_cast<off_t>(bytes)) != 0) return failed("ftruncate of the segment");
  if (::fcntl(made.fd(), F_ADD_SEALS, kSeals | F_SEAL_SEAL) != 0) return failed("sealing the segment");
  made.memory_ = Mapping(made.fd(), 0, bytes, true);
  if (!made.memory_) return failed(fmt::format("mapping a segment of {} bytes", bytes));
  SegmentHead& head = made.head();
  if (::getrandom(&head.nonce, sizeof head.nonce, 0) != static_cast<ssize_t>(sizeof head.nonce))
    return failed("getrandom");
  head.magic = SegmentHead::kMagic;
  head.rank = rank;
  head.slots = slots;
  head.ring_bytes = ring_bytes;
  return made;
}

std::span<std::byte> Segment::ring(std::uint32_t slot) const {
  return memory_.bytes().subspan(ring_at(slot, head().ring_bytes), head().ring_bytes);
}

void Segment::wipe_ring(std::uint32_t slot) {
  const auto memory = ring(slot);
  if (::madvise(memory.data(), memory.size(), MADV_REMOVE) != 0) std::memset(memory.data(), 0, memory.size());
}

Result<PeerSegment> PeerSegment::open(Rank self, Rank peer, int pid, int fd, std::uint64_t nonce) {
  const Fd file = open_of_process(pid, fd, O_RDWR);
  if (!file)
    return failed(
        fmt::format("opening the segment of rank {} as /proc/{}/fd/{} (another user or PID namespace, or a "
                    "process that may not be inspected?)",
                    peer, pid, fd));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return failed("fstat of a peer's segment");
  const auto size = static_cast<std::size_t>(info.st_size);
  const int seals = ::fcntl(file.get(), F_GET_SEALS);
  const auto wrong = [&](std::string_view what) {
    return make_error(Errc::unavailable,
                      fmt::format("shm: /proc/{}/fd/{} is not the segment of rank {}: {}", pid, fd, peer, what));
  };
  if (seals < 0 || (seals & kSeals) != kSeals || size < kHeadBytes) return wrong("not a sealed memory file");
  PeerSegment made;
  made.head_ = Mapping(file.get(), 0, kHeadBytes, true);
  if (!made.head_) return failed("mapping the head of a peer's segment");
  SegmentHead& head = made.head();
  if (head.magic != SegmentHead::kMagic) return wrong("its first bytes are others");
  if (head.nonce != nonce || head.rank != peer) return wrong("the process is another one by now");
  // Read once: the peer could change them.
  const std::uint32_t slots = head.slots;
  const std::size_t ring_bytes = head.ring_bytes;
  if (slots == 0 || slots > kSlotsMax || ring_bytes % kPage != 0 || ring_bytes < 2 * kPage || ring_bytes > size ||
      size != ring_at(slots, ring_bytes))
    return wrong("its sizes do not fit together");
  for (std::uint32_t slot = 0; slot < slots; ++slot) {
    std::uint32_t free = 0;
    if (head.owner[slot].load(std::memory_order_relaxed) != 0) continue;
    // Pairs with the acquire in ShmBackend::attach().
    if (!head.owner[slot].compare_exchange_strong(free, self + 1, std::memory_order_acq_rel)) continue;
    made.slot_ = slot;
    made.ring_ = Mapping(file.get(), ring_at(slot, ring_bytes), ring_bytes, true);
    if (made.ring_) return made;
    const int error = errno;
    head.owner[slot].store(0, std::memory_order_release);
    errno = error;
    return failed("mapping a ring of a peer's segment");
  }
  return make_error(
      Errc::unavailable,
      fmt::format("shm: all {} rings of rank {} are taken: more ranks on this node than it was made for", slots, peer));
}

}  // namespace trireme::transport
