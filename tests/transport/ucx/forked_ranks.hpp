#pragma once

#include <doctest/doctest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "transport/ucx/backend.hpp"

namespace trireme::test {

using namespace trireme::transport;

/// In a forked rank: prints and ends it when the condition does not hold (doctest reports only in the parent).
#define EXPECT(...)                                                                                \
  do {                                                                                             \
    if (!(__VA_ARGS__)) {                                                                          \
      std::fprintf(stderr, "%s:%d: EXPECT(%s) does not hold\n", __FILE__, __LINE__, #__VA_ARGS__); \
      std::_Exit(1);                                                                               \
    }                                                                                              \
  } while (false)

/// What a rank saw.
class Recorder final : public Sink {
 public:
  std::function<void(Rank, BytesView)> frame = [](Rank, BytesView) {};
  std::size_t frames = 0;
  std::vector<Rank> lost;
  std::vector<Rank> left;

  void on_frame(Rank from, BytesView bytes) override {
    ++frames;
    frame(from, bytes);
  }
  void on_lost(Rank peer, std::string_view why) override {
    EXPECT(!why.empty());
    lost.push_back(peer);
  }
  void on_left(Rank peer) override { left.push_back(peer); }
};

/// Memory of all ranks of one test: a barrier and room for their addresses.
struct Meeting {
  static constexpr std::size_t kRanksMax = 16;
  std::atomic<unsigned> arrived{0};
  std::atomic<unsigned> round{0};
  std::atomic<unsigned> notes[kRanksMax] = {};  ///< for the tests' own signs
  std::size_t bytes[kRanksMax] = {};
  std::byte address[kRanksMax][4096];
};

/// One rank: a process of its own with a UCX backend that knows all others.
class RankProcess {
 public:
  RankProcess(Rank rank, unsigned size, Meeting& meeting, std::size_t memory_bytes)
      : rank(rank), size(size), meeting(meeting), memory(memory_bytes) {
    auto made = make_ucx_backend(rank, size);
    if (!made) std::fprintf(stderr, "%s\n", made.error().message.c_str());
    EXPECT(made.ok());
    backend = std::move(*made);
    if (!memory.empty()) EXPECT(backend->expose(memory, -1).ok());
    const auto mine = backend->address();
    EXPECT(mine.size() <= sizeof meeting.address[rank]);
    std::memcpy(meeting.address[rank], mine.data(), mine.size());
    meeting.bytes[rank] = mine.size();
    barrier();
    for (Rank peer = 0; peer < size; ++peer)
      if (peer != rank) EXPECT(backend->add_peer(peer, address_of(peer)).ok());
  }

  BytesView address_of(Rank peer) const { return {meeting.address[peer], meeting.bytes[peer]}; }

  /// All ranks of the test; none of them polls meanwhile.
  void barrier() {
    // acq_rel/acquire: what a rank wrote into the meeting before is seen by all after.
    const auto round = meeting.round.load(std::memory_order_acquire);
    if (meeting.arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
      meeting.arrived.store(0, std::memory_order_relaxed);
      meeting.round.fetch_add(1, std::memory_order_release);
      return;
    }
    while (meeting.round.load(std::memory_order_acquire) == round) sched_yield();
  }

  /// Polls, and sleeps on the event descriptor between events, until `reached`.
  template <class Reached>
  void sleep_until(Reached reached) {
    while (!reached()) {
      if (backend->poll(seen) != 0 || !backend->arm()) continue;
      pollfd event{backend->event_fd(), POLLIN, 0};
      EXPECT(::poll(&event, 1, -1) == 1);
      backend->disarm();
    }
  }

  void send(Rank to, BytesView frame) {
    SendStatus status = backend->send(to, frame);
    while (status == SendStatus::would_block) {
      backend->poll(seen);
      status = backend->send(to, frame);
    }
    EXPECT(status == SendStatus::sent);
  }
  void send_text(Rank to, std::string_view text) { send(to, std::as_bytes(std::span(text))); }

  const Rank rank;
  const unsigned size;
  Meeting& meeting;
  std::vector<std::byte> memory;
  std::unique_ptr<Backend> backend;
  Recorder seen;
};

/// Runs `body` in `size` processes, forked before any of them touches UCX; `killed` is the rank that dies by SIGKILL.
inline void run_ranks(unsigned size, std::size_t memory_bytes, const std::function<void(RankProcess&)>& body,
                      Rank killed = kNoRank) {
  void* shared = mmap(nullptr, sizeof(Meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  REQUIRE(shared != MAP_FAILED);
  auto* meeting = new (shared) Meeting;
  std::fflush(nullptr);
  const pid_t parent = getpid();
  std::vector<pid_t> ranks;
  for (Rank rank = 0; rank < size; ++rank) {
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) std::_Exit(1);
      {
        RankProcess process(rank, size, *meeting, memory_bytes);
        body(process);
      }
      std::fflush(nullptr);
      std::_Exit(0);
    }
    ranks.push_back(pid);
  }
  // The first rank that fails ends the others, which may wait for it.
  bool failed = false;
  for (unsigned ended = 0; ended < size; ++ended) {
    int status = 0;
    const pid_t pid = wait(&status);
    Rank rank = 0;
    while (ranks[rank] != pid) ++rank;
    ranks[rank] = 0;
    const bool right = rank == killed ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                                      : WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!failed) CHECK_MESSAGE(right, "rank " << rank << " ended with wait status " << status);
    if (right || failed) continue;
    failed = true;
    for (const pid_t other : ranks)
      if (other != 0) kill(other, SIGKILL);
  }
  munmap(shared, sizeof(Meeting));
}

inline std::byte pattern_at(Rank rank, std::size_t index) {
  return static_cast<std::byte>(rank * 37 + index * 13 + index / 509);
}

}  // namespace trireme::test
