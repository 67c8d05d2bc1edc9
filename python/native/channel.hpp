#pragma once

#include <deque>
#include <functional>
#include <span>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/wire.hpp"
#include "python/native/frames.hpp"
#include "transport/shm/os.hpp"
#include "transport/shm/ring.hpp"

namespace trireme::python {

/// Puts the pieces of a frame together. Threading: one owner.
class Assembler {
 public:
  /// The whole frame when this was its last piece, else empty. Valid until the next call.
  BytesView add(BytesView piece);

 private:
  Bytes parts_;
  bool within_ = false;
};

/// A memory file of this process, mapped. Threading: one owner.
struct MemoryFile {
  static Result<MemoryFile> create(const char* name, std::size_t bytes);
  transport::Fd fd;
  transport::Mapping memory;
};

/// Wakes the rank's thread that sleeps on Board::waiter, if there is one. True: there was.
bool wake_waiter(Board& board);
/// Sleeps until that, the deadline (SystemClock) or a signal; the word is 1 on entry.
void sleep_as_waiter(Board& board, Nanos deadline);

/// The rank's end of a worker's ring pair.
///
/// Threading: one owner at a time (the pool's lock).
class RankEnd {
 public:
  RankEnd() = default;
  RankEnd(std::span<std::byte> memory, Board* board, std::uint32_t index);
  /// Never blocks: what the ring has no room for waits in this process until flush().
  void send(BytesView frame);
  void flush();
  /// Wakes the worker if it sleeps.
  void ring();
  /// The pipe that wakes the worker when it sleeps in poll().
  void set_bell(transport::Fd bell) { bell_ = std::move(bell); }
  /// The next frame; empty when there is none. Valid until the next call.
  BytesView receive();
  /// The worker broke the ring.
  bool corrupt() const { return corrupt_; }
  WorkerPage& page() const { return *page_; }

 private:
  bool put(BytesView piece);

  WorkerPage* page_ = nullptr;
  transport::Fd bell_;
  transport::RingProducer out_;
  transport::RingConsumer in_;
  std::deque<Bytes> backlog_;
  Assembler assembler_;
  bool popped_ = false;
  bool corrupt_ = false;
  Bytes scratch_;
};

/// The worker's end. Threading: send() from one thread at a time, receive() and sleep() from one thread at a time.
class WorkerEnd {
 public:
  WorkerEnd() = default;
  /// `bell`: the rank's pipe.
  WorkerEnd(std::span<std::byte> memory, Board* board, std::uint32_t index, int bell);
  /// Blocks while the ring is full.
  void send(BytesView frame);
  BytesView receive();
  /// Until a frame may be there, the deadline (SystemClock) or a signal.
  void sleep(Nanos deadline);
  /// The same in poll(), for a thread that looks at a descriptor as well; the rank rings `bell`. `reads`: it is this
  /// thread that takes the frames, else it is woken by the bell alone. True: `other` is ready, or a signal came.
  bool sleep_on(int bell, int other, bool reads, Nanos deadline);
  /// The rank broke the ring; receive() and sleep() find nothing then.
  bool corrupt() const { return corrupt_; }
  WorkerPage& page() const { return *page_; }

 private:
  void tell_rank();

  WorkerPage* page_ = nullptr;
  Board* board_ = nullptr;
  std::uint32_t index_ = 0;
  int bell_ = -1;
  transport::RingProducer out_;
  transport::RingConsumer in_;
  Assembler assembler_;
  bool popped_ = false;
  bool corrupt_ = false;
  Bytes scratch_;
};

}  // namespace trireme::python
