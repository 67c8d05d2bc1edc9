#include <doctest/doctest.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <functional>

#include "tests/transport/support.hpp"
#include "transport/router.hpp"
#include "transport/shm/backend.hpp"
#include "transport/shm/os.hpp"

namespace trireme::transport::testing {
namespace {

void write_all(int fd, BytesView bytes) {
  const auto size = static_cast<std::uint32_t>(bytes.size());
  TRIREME_CHECK(::write(fd, &size, sizeof size) == sizeof size, "write");
  TRIREME_CHECK(::write(fd, bytes.data(), size) == static_cast<ssize_t>(size), "write");
}
Bytes read_all(int fd) {
  std::uint32_t size = 0;
  TRIREME_CHECK(::recv(fd, &size, sizeof size, MSG_WAITALL) == sizeof size, "read");
  Bytes bytes(size);
  TRIREME_CHECK(::recv(fd, bytes.data(), size, MSG_WAITALL) == static_cast<ssize_t>(size), "read");
  return bytes;
}

/// Processes of a node: this one is rank 0, children run `body` as the others.
class Processes {
 public:
  using Body = std::function<void(Router&, Messages&)>;

  Processes(std::uint32_t ranks, const Body& body) : ranks_(ranks) {
    for (Rank r = 1; r < ranks; ++r) {
      int ends[2];
      REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
      const pid_t pid = ::fork();
      REQUIRE(pid >= 0);
      if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        child(r, ends[1], body);
        ::_exit(0);
      }
      ::close(ends[1]);
      pids_.push_back(pid);
      sockets_.push_back(ends[0]);
    }
    auto mine = ShmBackend::create(0).value();
    std::vector<Bytes> addresses = {mine->address()};
    for (const int fd : sockets_) addresses.push_back(read_all(fd));
    for (const int fd : sockets_)
      for (const Bytes& address : addresses) write_all(fd, address);
    router = connect(0, std::move(mine), addresses);
    // Nobody ends before everybody has connected.
    for (const int fd : sockets_) read_all(fd);
    for (const int fd : sockets_) write_all(fd, Bytes(1));
  }
  ~Processes() {
    for (std::size_t i = 0; i < pids_.size(); ++i) {
      if (pids_[i] > 0) kill(static_cast<Rank>(i + 1));
      ::close(sockets_[i]);
    }
  }
  void kill(Rank rank) {
    const pid_t pid = std::exchange(pids_[rank - 1], 0);
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  void step() { router->poll(handler); }

  std::unique_ptr<Router> router;
  Messages handler;

 private:
  static std::unique_ptr<Router> connect(Rank self, std::unique_ptr<ShmBackend> backend,
                                         const std::vector<Bytes>& addresses) {
    std::vector<Rank> peers;
    for (Rank r = 0; r < addresses.size(); ++r)
      if (r != self) {
        const Status added = backend->add_peer(r, addresses[r]);
        TRIREME_CHECK(added.ok(), added.error().message);
        peers.push_back(r);
      }
    auto router = std::make_unique<Router>(self, static_cast<std::uint32_t>(addresses.size()));
    router->add_backend(std::move(backend), peers);
    return router;
  }
  void child(Rank self, int fd, const Body& body) {
    auto mine = ShmBackend::create(self).value();
    write_all(fd, mine->address());
    std::vector<Bytes> addresses;
    for (Rank r = 0; r < ranks_; ++r) addresses.push_back(read_all(fd));
    auto own = connect(self, std::move(mine), addresses);
    write_all(fd, Bytes(1));
    read_all(fd);
    Messages heard;
    body(*own, heard);
  }

  std::uint32_t ranks_;
  std::vector<pid_t> pids_;
  std::vector<int> sockets_;
};

/// Sleeps as an idle rank does; true when woken.
bool sleep_armed(Router& router) {
  bool woken = true;
  if (router.arm()) {
    std::vector<pollfd> fds;
    for (const int fd : router.event_fds()) fds.push_back({fd, POLLIN, 0});
    woken = ::poll(fds.data(), fds.size(), 30'000) > 0;
  }
  router.disarm();
  return woken;
}

/// Answers every message with itself, for ever.
void echo(Router& router, Messages& handler) {
  for (;;) {
    if (router.poll(handler) == 0) sleep_armed(router);
    for (const auto& [from, message] : std::exchange(handler.messages, {})) router.send(from, message);
    router.flush();
  }
}

TEST_CASE("a killed process is reported once, after all it sent, and wakes a sleeping peer; the others go on") {
  Processes all(3, [](Router& router, Messages& handler) {
    if (router.self() == 1) {
      for (std::uint32_t i = 0; i < 100; ++i) router.send(0, pattern(i, 300));
      router.flush();
      for (;;) ::pause();
    }
    echo(router, handler);
  });
  // The frames lie in this rank's memory; nothing of them is looked at before the sender is dead.
  REQUIRE(until(
      [&] {
        all.router->send(2, pattern(1, 8));
        all.router->flush();
        all.step();
      },
      [&] { return all.router->stats(1).messages_received > 0; }));
  REQUIRE(until([&] { all.step(); }, [&] { return all.router->stats(1).messages_received == 100; }));
  while (!all.router->arm()) {
    all.step();
  }
  all.kill(1);
  CHECK(sleep_armed(*all.router));
  REQUIRE(until([&] { all.step(); }, [&] { return !all.handler.lost.empty(); }));
  CHECK(all.handler.lost.size() == 1);
  CHECK(all.handler.lost[0].first == 1);
  CHECK(all.handler.lost[0].second.find("ended without leaving") != std::string::npos);
  CHECK_FALSE(all.router->alive(1));
  all.handler.messages.clear();
  all.router->send(2, pattern(9, 5000));
  all.router->flush();
  REQUIRE(
      until([&] { all.step(); },
            [&] { return !all.handler.messages.empty() && all.handler.messages.back().second == pattern(9, 5000); }));
  CHECK(all.handler.lost.size() == 1);
  CHECK(all.handler.left.empty());
}

TEST_CASE("a process that closes and exits has left; it was not lost") {
  Processes all(2, [](Router& router, Messages&) {
    for (std::uint32_t i = 0; i < 50; ++i) router.send(0, pattern(i, 100));
    router.flush();
    router.close(kSecond);
  });
  REQUIRE(until([&] { all.step(); }, [&] { return !all.handler.left.empty(); }));
  CHECK(all.handler.messages.size() == 50);
  CHECK(all.handler.lost.empty());
  for (int i = 0; i < 10'000; ++i) all.step();
  CHECK(all.handler.left.size() == 1);
  CHECK(all.handler.lost.empty());
}

TEST_CASE("what a dead process left in the ring is delivered before its loss") {
  Processes all(2, [](Router& router, Messages&) {
    for (std::uint32_t i = 0; i < 200; ++i) router.send(0, pattern(i, 100));
    router.flush();
    ::raise(SIGKILL);
  });
  // No poll until the death is certain: the frames and the death wait together.
  siginfo_t info{};
  REQUIRE(::waitid(P_ALL, 0, &info, WEXITED | WNOWAIT) == 0);
  bool lost_last = true;
  REQUIRE(until(
      [&] {
        all.step();
        lost_last = lost_last && (all.handler.lost.empty() || all.handler.messages.size() == 200);
      },
      [&] { return !all.handler.lost.empty(); }));
  CHECK(lost_last);
  REQUIRE(all.handler.messages.size() == 200);
  for (std::uint32_t i = 0; i < 200; ++i) CHECK(all.handler.messages[i].second == pattern(i, 100));
}

TEST_CASE("sleeping processes wake each other through a long exchange") {
  Processes all(3, echo);
  std::size_t sent = 0;
  for (std::uint32_t round = 0; round < 300; ++round) {
    for (Rank to = 1; to < 3; ++to) {
      all.router->send(to, pattern(round, round % 40 == 0 ? 150'000 : 30));
      ++sent;
    }
    all.router->flush();
    while (all.handler.messages.size() < sent || all.router->backlog(1) + all.router->backlog(2) > 0) {
      if (all.router->poll(all.handler) == 0) REQUIRE(sleep_armed(*all.router));
    }
  }
  for (const auto& [from, message] : all.handler.messages) CHECK(message.size() >= 30);
}

TEST_CASE("exposed memory of another process is read in place and by get") {
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  constexpr std::size_t kBytes = 1U << 20;
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const Fd fd(::memfd_create("trireme-test", MFD_CLOEXEC));
    if (::ftruncate(fd.get(), kBytes) != 0) ::_exit(1);
    const Mapping memory(fd.get(), 0, kBytes, true);
    const Bytes content = pattern(5, kBytes);
    std::copy(content.begin(), content.end(), memory.bytes().begin());
    auto backend = ShmBackend::create(1).value();
    TRIREME_CHECK(backend->expose(memory.bytes(), fd.get()).ok(), "expose");
    write_all(ends[1], backend->address());
    read_all(ends[1]);
    ::_exit(0);
  }
  auto backend = ShmBackend::create(0).value();
  REQUIRE(backend->add_peer(1, read_all(ends[0])).ok());
  const auto memory = backend->peer_memory(1);
  REQUIRE(memory.size() == kBytes);
  CHECK(is_pattern(5, memory));
  Bytes into(1001);
  bool done = false;
  backend->get(1, 4097, into, [&](Status status) { done = status.ok(); });
  CHECK(done);
  CHECK(std::equal(into.begin(), into.end(), memory.begin() + 4097));
  write_all(ends[0], Bytes(1));
  ::waitpid(pid, nullptr, 0);
  // The mapping outlives its process: who reads an object in place does not crash.
  CHECK(is_pattern(5, memory));
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("a peer that cannot be opened is a clear error, so that another transport can be tried") {
  auto backend = ShmBackend::create(0).value();
  auto other = ShmBackend::create(1).value();
  const Bytes address = other->address();
  CHECK(backend->add_peer(1, Bytes(3)).error().code == Errc::malformed);
  Bytes no_process = address;
  no_process[0] = no_process[1] = no_process[2] = std::byte{0xFF};
  no_process[3] = std::byte{0x3F};
  CHECK(backend->add_peer(1, no_process).error().code == Errc::io);
  Bytes wrong_nonce = address;
  wrong_nonce.back() ^= std::byte{1};
  const Status wrong = backend->add_peer(1, wrong_nonce);
  CHECK(wrong.error().code == Errc::unavailable);
  CHECK(wrong.error().message.find("rank 1") != std::string::npos);
  CHECK(backend->add_peer(1, address).ok());
}

TEST_CASE("more senders than slots are refused") {
  auto receiver = ShmBackend::create(0, {.slots = 2}).value();
  std::vector<std::unique_ptr<ShmBackend>> senders;
  for (Rank r = 1; r <= 3; ++r) {
    senders.push_back(ShmBackend::create(r).value());
    const Status added = senders.back()->add_peer(0, receiver->address());
    CHECK(added.ok() == (r <= 2));
    if (!added.ok()) CHECK(added.error().message.find("all 2 rings") != std::string::npos);
  }
}

}  // namespace
}  // namespace trireme::transport::testing
