#include "python/native/channel.hpp"

#include <fmt/format.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

namespace trireme::python {

using transport::RingState;

namespace {

constexpr auto kMore = std::byte{1};
constexpr auto kLast = std::byte{0};

// Across processes: not the private variants.
void futex_wake(std::atomic<std::uint32_t>& word) {
  ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE, 1, nullptr, nullptr, 0);
}
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t value, Nanos deadline) {
  timespec left{};
  timespec* limit = nullptr;
  if (deadline != kForever) {
    const auto nanos = std::max<Nanos>(deadline - SystemClock::read(), 0);
    left.tv_sec = static_cast<time_t>(nanos / kSecond);
    left.tv_nsec = static_cast<long>(nanos % kSecond);
    limit = &left;
  }
  ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT, value, limit, nullptr, 0);
}

void ring_bell(int bell) {
  // A full pipe is ringing already.
  const char one = 1;
  [[maybe_unused]] const auto written = ::write(bell, &one, 1);
}

std::span<std::byte> ring_to_worker(std::span<std::byte> memory) { return memory.subspan(kPageBytes, kRingBytes); }
std::span<std::byte> ring_to_rank(std::span<std::byte> memory) {
  return memory.subspan(kPageBytes + kRingBytes, kRingBytes);
}

/// Calls `put` with each piece, led by a byte that says whether more follow, until one is refused.
template <class Put>
std::size_t in_pieces(BytesView frame, Bytes& scratch, Put put) {
  std::size_t at = 0;
  do {
    const auto size = std::min(frame.size() - at, kPieceBytes);
    scratch.resize(size + 1);
    scratch[0] = at + size < frame.size() ? kMore : kLast;
    if (size != 0) std::memcpy(scratch.data() + 1, frame.data() + at, size);
    if (!put(BytesView(scratch))) return at;
    at += size;
  } while (at < frame.size());
  return at;
}

}  // namespace

BytesView Assembler::add(BytesView piece) {
  if (piece.empty()) return {};
  const bool last = piece[0] == kLast;
  const auto body = piece.subspan(1);
  if (!within_ && last) return body;
  if (!within_) parts_.clear();
  within_ = !last;
  parts_.insert(parts_.end(), body.begin(), body.end());
  return last ? BytesView(parts_) : BytesView();
}

Result<MemoryFile> MemoryFile::create(const char* name, std::size_t bytes) {
  MemoryFile made;
  made.fd = transport::Fd(::memfd_create(name, MFD_CLOEXEC));
  if (!made.fd || ::ftruncate(made.fd.get(), static_cast<off_t>(bytes)) != 0)
    return make_error(Errc::io, fmt::format("{} bytes of shared memory for a worker: {}", bytes, std::strerror(errno)));
  made.memory = transport::Mapping(made.fd.get(), 0, bytes, true);
  if (!made.memory)
    return make_error(Errc::io, fmt::format("mapping {} bytes for a worker: {}", bytes, std::strerror(errno)));
  return made;
}

RankEnd::RankEnd(std::span<std::byte> memory, Board*, std::uint32_t)
    : page_(reinterpret_cast<WorkerPage*>(memory.data())), out_(ring_to_worker(memory)), in_(ring_to_rank(memory)) {}

bool RankEnd::put(BytesView piece) {
  auto state = out_.put(piece);
  if (state == RingState::full && !out_.ask_for_room()) state = out_.put(piece);
  if (state == RingState::corrupt) corrupt_ = true;
  return state != RingState::full;
}

void RankEnd::send(BytesView frame) {
  if (corrupt_) return;
  in_pieces(frame, scratch_, [this](BytesView piece) {
    if (!backlog_.empty() || !put(piece)) backlog_.emplace_back(piece.begin(), piece.end());
    return true;
  });
  ring();
}

void RankEnd::flush() {
  if (backlog_.empty()) return;
  while (!backlog_.empty() && put(backlog_.front())) backlog_.pop_front();
  ring();
}

void RankEnd::ring() {
  // seq_cst: after the ring's header, see WorkerPage.
  if (page_->asleep.load(std::memory_order_seq_cst) == WorkerPage::kAwake) return;
  const auto how = page_->asleep.exchange(WorkerPage::kAwake, std::memory_order_seq_cst);
  if (how == WorkerPage::kOnFutex) futex_wake(page_->asleep);
  if (how == WorkerPage::kOnBell) ring_bell(bell_.get());
}

BytesView RankEnd::receive() {
  if (corrupt_) return {};
  for (;;) {
    if (std::exchange(popped_, false)) {
      in_.pop();
      if (in_.room_wanted()) futex_wake(page_->asleep);
    }
    BytesView piece;
    const auto state = in_.look(piece);
    if (state == RingState::corrupt) corrupt_ = true;
    if (state != RingState::ready) return {};
    popped_ = true;
    if (const auto frame = assembler_.add(piece); !frame.empty()) return frame;
  }
}

WorkerEnd::WorkerEnd(std::span<std::byte> memory, Board* board, std::uint32_t index, int bell)
    : page_(reinterpret_cast<WorkerPage*>(memory.data())),
      board_(board),
      index_(index),
      bell_(bell),
      out_(ring_to_rank(memory)),
      in_(ring_to_worker(memory)) {}

bool wake_waiter(Board& board) {
  if (board.waiter.load(std::memory_order_seq_cst) == 0 || board.waiter.exchange(0, std::memory_order_seq_cst) == 0)
    return false;
  futex_wake(board.waiter);
  return true;
}

void sleep_as_waiter(Board& board, Nanos deadline) { futex_wait(board.waiter, 1, deadline); }

void WorkerEnd::tell_rank() {
  auto& word = board_->pending[index_ / 64];
  const auto bit = std::uint64_t{1} << (index_ % 64);
  // seq_cst throughout, see Board.
  if ((word.load(std::memory_order_seq_cst) & bit) != 0) return;
  word.fetch_or(bit, std::memory_order_seq_cst);
  if (wake_waiter(*board_)) return;
  if (board_->sleeping.load(std::memory_order_seq_cst) == 0 ||
      board_->sleeping.exchange(0, std::memory_order_seq_cst) == 0)
    return;
  ring_bell(bell_);
}

void WorkerEnd::send(BytesView frame) {
  in_pieces(frame, scratch_, [this](BytesView piece) {
    for (;;) {
      const auto state = out_.put(piece);
      if (state != RingState::full) break;
      tell_rank();
      // The rank takes frames whenever one of its threads polls, at the latest after its tick.
      if (out_.ask_for_room()) ::sched_yield();
    }
    return true;
  });
  tell_rank();
}

BytesView WorkerEnd::receive() {
  for (;;) {
    if (std::exchange(popped_, false)) {
      in_.pop();
      // The rank keeps what had no room and looks again when it is told.
      if (in_.room_wanted()) tell_rank();
    }
    BytesView piece;
    const auto state = in_.look(piece);
    if (state == RingState::corrupt) corrupt_ = true;
    if (state != RingState::ready) return {};
    popped_ = true;
    if (const auto frame = assembler_.add(piece); !frame.empty()) return frame;
  }
}

void WorkerEnd::sleep(Nanos deadline) {
  page_->asleep.store(WorkerPage::kOnFutex, std::memory_order_seq_cst);
  BytesView piece;
  // A frame whose last piece was popped is gone by now: receive() pops before it looks.
  if (in_.look(piece) == RingState::empty) futex_wait(page_->asleep, WorkerPage::kOnFutex, deadline);
  page_->asleep.store(WorkerPage::kAwake, std::memory_order_relaxed);
}

bool WorkerEnd::sleep_on(int bell, int other, bool reads, Nanos deadline) {
  BytesView piece;
  if (reads) {
    page_->asleep.store(WorkerPage::kOnBell, std::memory_order_seq_cst);
    if (in_.look(piece) != RingState::empty) {
      page_->asleep.store(WorkerPage::kAwake, std::memory_order_relaxed);
      return false;
    }
  }
  pollfd at[] = {{other, POLLIN, 0}, {bell, POLLIN, 0}};
  const auto left = std::max<Nanos>(deadline - SystemClock::read(), 0);
  const timespec limit{static_cast<time_t>(left / kSecond), static_cast<long>(left % kSecond)};
  const int ready = ::ppoll(at, 2, &limit, nullptr);
  if (reads) page_->asleep.store(WorkerPage::kAwake, std::memory_order_relaxed);
  if (ready < 0) return true;
  if (at[1].revents != 0) {
    char rung[64];
    [[maybe_unused]] const auto size = ::read(bell, rung, sizeof rung);
  }
  return at[0].revents != 0;
}

}  // namespace trireme::python
