#pragma once

#include <doctest/doctest.h>
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
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "trireme/ml/communicator.hpp"

namespace trireme::ml::test {

/// In a forked member: prints and ends it when the condition does not hold (doctest reports only in the parent).
#define EXPECT(...)                                                                                \
  do {                                                                                             \
    if (!(__VA_ARGS__)) {                                                                          \
      std::fprintf(stderr, "%s:%d: EXPECT(%s) does not hold\n", __FILE__, __LINE__, #__VA_ARGS__); \
      std::_Exit(1);                                                                               \
    }                                                                                              \
  } while (false)

/// Shared memory in which up to sixteen processes exchange blobs.
class Meeting {
 public:
  static Meeting& make() {
    void* memory = mmap(nullptr, sizeof(Meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    return *new (memory) Meeting;
  }
  Exchange exchange(std::uint32_t rank, std::uint32_t size) {
    return [this, rank, size, round = 0](std::span<const std::byte> mine, std::int64_t) mutable {
      Round& now = rounds_[round++];
      if (!mine.empty()) std::memcpy(now.bytes[rank], mine.data(), mine.size());
      now.sizes[rank] = mine.size();
      now.arrived.fetch_add(1, std::memory_order_release);
      while (now.arrived.load(std::memory_order_acquire) < size) sched_yield();
      std::vector<std::vector<std::byte>> all;
      for (std::uint32_t i = 0; i < size; ++i) all.emplace_back(now.bytes[i], now.bytes[i] + now.sizes[i]);
      return Result<std::vector<std::vector<std::byte>>>(std::move(all));
    };
  }
  std::atomic<std::uint32_t> note{0};  ///< for the tests' own signs

 private:
  struct Round {
    std::atomic<std::uint32_t> arrived{0};
    std::size_t sizes[16] = {};
    std::byte bytes[16][8192];
  };
  Round rounds_[3];
};

enum class Layout { one_node, apart, pairs };
inline const char* to_string(Layout layout) {
  return layout == Layout::one_node ? "one node" : layout == Layout::apart ? "apart" : "pairs";
}

/// Runs `body(rank)` in `size` processes; `killed` is the one that dies by SIGKILL, if any.
inline void run_members(std::uint32_t size, Layout layout, const std::function<void(std::uint32_t)>& body,
                        std::uint32_t killed = UINT32_MAX) {
  std::fflush(nullptr);
  const pid_t parent = getpid();
  std::vector<pid_t> members;
  for (std::uint32_t rank = 0; rank < size; ++rank) {
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) std::_Exit(1);
      const auto node = layout == Layout::one_node ? 0 : layout == Layout::apart ? rank : rank / 2;
      setenv("TRIREME_NODE_ID", ("node" + std::to_string(node)).c_str(), 1);
      body(rank);
      std::fflush(nullptr);
      std::_Exit(0);
    }
    members.push_back(pid);
  }
  bool failed = false;
  for (std::uint32_t ended = 0; ended < size; ++ended) {
    int status = 0;
    const pid_t pid = wait(&status);
    std::uint32_t rank = 0;
    while (members[rank] != pid) ++rank;
    members[rank] = 0;
    const bool right = rank == killed ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                                      : WIFEXITED(status) && WEXITSTATUS(status) == 0;
    if (!failed) CHECK_MESSAGE(right, "member " << rank << " ended with wait status " << status);
    if (right || failed) continue;
    failed = true;
    for (const pid_t other : members)
      if (other != 0) kill(other, SIGKILL);
  }
}

}  // namespace trireme::ml::test
