#include "scheduler/fiber.hpp"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

using trireme::scheduler::Fiber;

namespace {

struct PingPong {
  Fiber* home = nullptr;
  Fiber* self = nullptr;
  std::vector<int> log;
};

void ping(void* argument) {
  auto* pair = static_cast<PingPong*>(argument);
  for (int i = 0;; ++i) {
    pair->log.push_back(i);
    pair->self->switch_to(*pair->home);
  }
}

void catcher(void* argument) {
  auto* pair = static_cast<PingPong*>(argument);
  try {
    throw std::runtime_error("inner");
  } catch (const std::exception&) {
    pair->self->switch_to(*pair->home);  // the handler is left open
    try {
      throw;
    } catch (const std::exception& again) {
      pair->log.push_back(std::string(again.what()) == "inner" ? 1 : -1);
    }
  }
  pair->log.push_back(std::current_exception() == nullptr ? 2 : -2);
  for (;;) pair->self->switch_to(*pair->home);
}

void wait_in_a_frame(void* argument) {
  auto* pair = static_cast<PingPong*>(argument);
  volatile char frame[1024];
  frame[0] = 1;
  pair->self->switch_to(*pair->home);
  static_cast<void>(frame[0]);
}

int burn(int depth) {
  volatile char frame[4096];
  frame[0] = static_cast<char>(depth);
  return depth > 1'000'000 ? frame[0] : burn(depth + 1) + frame[0];
}

void overflow(void*) {
  volatile int result = burn(0);
  static_cast<void>(result);
  _exit(0);
}

}  // namespace

TEST_CASE("a fiber goes on where it stopped") {
  Fiber home;
  PingPong pair;
  auto fiber = Fiber::create(64 << 10, &ping, &pair);
  REQUIRE(fiber != nullptr);
  pair.home = &home;
  pair.self = fiber.get();
  for (int i = 0; i < 5; ++i) {
    home.switch_to(*fiber);
    CHECK(pair.log.size() == static_cast<std::size_t>(i + 1));
    CHECK(pair.log.back() == i);
  }
}

TEST_CASE("memory where the stack of a fiber was that did not end is like any other") {
  constexpr std::size_t kBytes = 64 << 10;
  Fiber home;
  PingPong pair;
  auto fiber = Fiber::create(kBytes, &wait_in_a_frame, &pair);
  REQUIRE(fiber != nullptr);
  pair.home = &home;
  pair.self = fiber.get();
  home.switch_to(*fiber);
  auto* const low = const_cast<std::byte*>(fiber->low());
  fiber = nullptr;
  void* const map = mmap(low, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  REQUIRE(map == low);
  // AddressSanitizer stops at a mark that the frame left.
  for (std::size_t i = 0; i < kBytes; ++i) low[i] = std::byte{1};
  CHECK(munmap(map, kBytes) == 0);
}

TEST_CASE("the exception being handled belongs to its fiber") {
  Fiber home;
  PingPong pair;
  auto fiber = Fiber::create(256 << 10, &catcher, &pair);
  REQUIRE(fiber != nullptr);
  pair.home = &home;
  pair.self = fiber.get();
  try {
    throw std::logic_error("outer");
  } catch (const std::exception& outer) {
    home.switch_to(*fiber);
    // Here the fiber stands in its own handler; rethrowing must give ours.
    try {
      throw;
    } catch (const std::exception& mine) {
      CHECK(std::string(mine.what()) == "outer");
    }
    CHECK(std::string(outer.what()) == "outer");
  }
  CHECK(std::current_exception() == nullptr);
  home.switch_to(*fiber);
  CHECK(pair.log == std::vector<int>{1, 2});
}

TEST_CASE("a stack overflow ends the process with SIGSEGV at the guard page") {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    signal(SIGSEGV, SIG_DFL);
    const rlimit no_core{0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    auto home = new Fiber;
    auto fiber = Fiber::create(64 << 10, &overflow, nullptr);
    if (fiber == nullptr) _exit(1);
    home->switch_to(*fiber);
    _exit(2);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGSEGV);
}
