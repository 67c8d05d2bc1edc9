#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.hpp"
#include "base/log.hpp"
#include "transport/bootstrap.hpp"
#include "transport/bootstrap/channel.hpp"

using namespace trireme;
using namespace trireme::transport;

namespace {

/// A private folder for one cluster's socket.
struct Folder {
  Folder() { REQUIRE(mkdtemp(path.data()) != nullptr); }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string socket() const { return path + "/socket"; }
  std::string path = std::filesystem::temp_directory_path() / "trireme-local-XXXXXX";
};

using Made = Result<std::unique_ptr<Bootstrap>>;

LocalOptions options(const Folder& folder, Rank rank, std::uint32_t size, Nanos timeout = 60 * kSecond) {
  return {rank, size, folder.socket(), timeout};
}

/// Runs `body` for every rank of the list, each in a thread of its own (a rank needs no process to find the others).
void run_ranks(const std::vector<Rank>& ranks, const std::function<void(Rank)>& body) {
  std::vector<std::thread> threads;
  for (const auto rank : ranks) threads.emplace_back([&body, rank] { body(rank); });
  for (auto& thread : threads) thread.join();
}

Bytes pattern(Rank rank, std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(rank * 31 + i * 7 + i / 251);
  return bytes;
}

}  // namespace

TEST_CASE("local ranks find each other in any order of start and exchange bytes of any size") {
  const Folder folder;
  constexpr std::uint32_t kRanks = 5;
  std::vector<std::string> faults(kRanks);
  std::vector<std::string> sessions(kRanks);
  // Rank 0 last: the others look for a socket that is not there yet.
  run_ranks({4, 3, 2, 1, 0}, [&](Rank rank) {
    auto made = bootstrap_local(options(folder, rank, kRanks));
    if (!made) return void(faults[rank] = made.error().message);
    auto& bootstrap = **made;
    sessions[rank] = bootstrap.session();
    if (bootstrap.name() != "local" || bootstrap.rank() != rank || bootstrap.size() != kRanks)
      faults[rank] += "says who it is wrongly;";
    if (!bootstrap.barrier().ok()) faults[rank] += "barrier;";
    for (const std::size_t size : {16UL, 0UL, 5'000UL, 1UL, 3'000'000UL}) {
      const auto own = size == 0 ? 0 : size + rank;
      auto all = bootstrap.all_gather(pattern(rank, own));
      if (!all) return void(faults[rank] += all.error().message);
      for (Rank other = 0; other < kRanks; ++other)
        if ((*all)[other] != pattern(other, size == 0 ? 0 : size + other)) faults[rank] += "other bytes;";
    }
    bootstrap.finalize();
    bootstrap.finalize();
    if (bootstrap.barrier().ok() || bootstrap.all_gather({}).ok()) faults[rank] += "works after finalize;";
  });
  for (Rank rank = 0; rank < kRanks; ++rank) {
    CAPTURE(rank);
    CHECK_MESSAGE(faults[rank] == "", faults[rank]);
    CHECK(sessions[rank] == sessions[0]);
  }
  CHECK_FALSE(sessions[0].empty());
  CHECK(sessions[0].find('/') == std::string::npos);
  CHECK_FALSE(std::filesystem::exists(folder.socket()));
}

TEST_CASE("a rank that never comes is named by all that did") {
  const Folder folder;
  std::optional<Made> made[3];
  const auto start = SystemClock::read();
  run_ranks({0, 2}, [&](Rank rank) {
    // Rank 0's patience is what counts: the other is told.
    made[rank].emplace(bootstrap_local(options(folder, rank, 3, rank == 0 ? kSecond : 60 * kSecond)));
    if (rank == 0 || !made[rank]->ok()) return;
    auto all = (**made[rank])->all_gather({});
    if (!all) made[rank].emplace(all.error());
  });
  CHECK(SystemClock::read() - start < 50 * kSecond);
  for (const Rank rank : {0U, 2U}) {
    CAPTURE(rank);
    REQUIRE_FALSE(made[rank]->ok());
    const auto& error = made[rank]->error();
    CHECK(error.code == Errc::timeout);
    CHECK_MESSAGE(error.message.find("1 of 3 ranks did not come") != std::string::npos, error.message);
    CHECK(error.message.find("rank 1.") != std::string::npos);
  }
  CHECK_FALSE(std::filesystem::exists(folder.socket()));
}

TEST_CASE("a rank that looks for a rank 0 that never comes ends with an error") {
  const Folder folder;
  const auto made = bootstrap_local(options(folder, 1, 2, kSecond / 4));
  REQUIRE_FALSE(made.ok());
  CHECK(made.error().message.find("rank 1 of 2, looking for rank 0") != std::string::npos);
  CHECK(made.error().message.find(folder.socket()) != std::string::npos);
}

TEST_CASE("what is no rank of the cluster is sent away and harms nobody") {
  const Folder folder;
  std::optional<Made> zero, right;
  std::thread leader([&] { zero.emplace(bootstrap_local(options(folder, 0, 2))); });
  const auto connected = [&] {
    for (;;) {
      auto socket = connect_unix(folder.socket());
      if (socket.ok()) return Channel(std::move(*socket));
      std::this_thread::yield();  // until rank 0 listens
    }
  };
  const Nanos deadline = SystemClock::read() + 60 * kSecond;
  const auto sent_away = [&](BytesView introduction) {
    Channel stranger = connected();
    CHECK(stranger.send(introduction, deadline).ok());
    return stranger.receive(deadline);
  };
  // Another program's magic.
  auto answer = sent_away(std::as_bytes(std::span("GET / HTTP/1.1")));
  CHECK(answer.ok());
  // A length that makes no sense: the connection just ends.
  {
    Channel stranger = connected();
    const Bytes nonsense(64, std::byte{0xFF});
    CHECK(::write(stranger.fd(), nonsense.data(), nonsense.size()) == 64);
    CHECK_FALSE(stranger.receive(deadline).ok());
  }
  // One that leaves without a word.
  connected().close();
  // A rank of another cluster.
  auto wrong = bootstrap_local(options(folder, 1, 3));
  REQUIRE_FALSE(wrong.ok());
  CHECK(wrong.error().code == Errc::invalid_argument);
  CHECK_MESSAGE(wrong.error().message.find("TRIREME_LOCAL_SIZE differs") != std::string::npos, wrong.error().message);
  right.emplace(bootstrap_local(options(folder, 1, 2)));
  leader.join();
  CHECK(zero->ok());
  CHECK(right->ok());
}

TEST_CASE("two processes that take themselves for one rank: the second is told") {
  const Folder folder;
  std::optional<Made> zero, last;
  std::thread leader([&] { zero.emplace(bootstrap_local(options(folder, 0, 3))); });
  auto first = bootstrap_local(options(folder, 1, 3));
  auto second = bootstrap_local(options(folder, 1, 3));
  last.emplace(bootstrap_local(options(folder, 2, 3)));
  leader.join();
  CHECK(first.ok());
  CHECK(zero->ok());
  CHECK(last->ok());
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().message.find("rank 1 has come already") != std::string::npos);
}

TEST_CASE("a rank that ends during an exchange is named to the others") {
  const Folder folder;
  std::string texts[3];
  run_ranks({0, 1, 2}, [&](Rank rank) {
    auto made = bootstrap_local(options(folder, rank, 3));
    if (!made) return void(texts[rank] = made.error().message);
    if (rank == 1) return;  // its bootstrap ends here, and with it its connection
    auto all = (*made)->all_gather({});
    texts[rank] = all.ok() ? "no error" : all.error().message;
  });
  for (const Rank rank : {0U, 2U})
    CHECK_MESSAGE(texts[rank].find("waiting for rank 1: the other side has closed") != std::string::npos, texts[rank]);
}

TEST_CASE("a listener that is no rank 0 is an error, not a hang") {
  const Folder folder;
  auto listener = listen_unix(folder.socket());
  REQUIRE(listener.ok());
  std::optional<Made> made;
  std::thread rank([&] { made.emplace(bootstrap_local(options(folder, 1, 2))); });
  Fd guest;
  while (!guest) guest = Fd(::accept(listener->get(), nullptr, nullptr));
  Channel channel(std::move(guest));
  const Nanos deadline = SystemClock::read() + 60 * kSecond;
  CHECK(channel.receive(deadline).ok());
  CHECK(channel.send(std::as_bytes(std::span("220 mail.example.org ESMTP")), deadline).ok());
  rank.join();
  REQUIRE_FALSE(made->ok());
  CHECK(made->error().code == Errc::malformed);
  CHECK(made->error().message.find("TRIREME_LOCAL_SOCKET") != std::string::npos);
}

TEST_CASE("a socket that is there already, or has too long a path, is an error") {
  const Folder folder;
  auto taken = listen_unix(folder.socket());
  REQUIRE(taken.ok());
  auto made = bootstrap_local(options(folder, 0, 2));
  REQUIRE_FALSE(made.ok());
  CHECK(made.error().code == Errc::io);
  CHECK(made.error().message.find("in use") != std::string::npos);
  LocalOptions deep{0, 2, std::string(200, 'x'), kSecond};
  auto refused = bootstrap_local(deep);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message.find("bytes; found 200") != std::string::npos);
}

namespace {

LocalOptions with_seats(const Folder& folder, Rank rank, std::uint32_t size, std::uint32_t seats,
                        Nanos timeout = 60 * kSecond) {
  return {rank, size, folder.socket(), timeout, seats};
}

}  // namespace

TEST_CASE("a late rank takes a seat through rank 0's door and hears what the others said") {
  const Folder folder;
  constexpr std::uint32_t kRanks = 2, kSeats = 3;
  std::vector<std::string> faults(kRanks + kSeats);
  std::unique_ptr<Door> door;
  std::string session;
  run_ranks({0, 1}, [&](Rank rank) {
    auto made = bootstrap_local(with_seats(folder, rank, kRanks, kSeats));
    if (!made) return void(faults[rank] = made.error().message);
    auto& bootstrap = **made;
    if (bootstrap.size() != kRanks || bootstrap.seats() != kSeats || bootstrap.late()) faults[rank] += "who it is;";
    auto all = bootstrap.all_gather(pattern(rank, 100));
    if (!all || all->size() != kRanks) faults[rank] += "all_gather;";
    auto own = bootstrap.door();
    if ((own != nullptr) != (rank == 0)) faults[rank] += "door;";
    if (bootstrap.door() != nullptr) faults[rank] += "a second door;";
    if (rank == 0) {
      door = std::move(own);
      session = bootstrap.session();
    }
    bootstrap.finalize();
  });
  REQUIRE(door != nullptr);

  const Bytes world = pattern(77, 33);
  std::thread keeper([&] {
    while (auto guest = door->next()) {
      std::vector<Bytes> all(kRanks + kSeats);
      all[0] = pattern(0, 100);
      all[1] = pattern(1, 100);
      auto said = guest->hear();
      if (!said) continue;
      all[guest->rank()] = *said;
      if (guest->rank() == 3) {
        guest->refuse(make_error(Errc::already_exists, "that seat is taken"));
        continue;
      }
      if (!guest->tell(all, world).ok()) faults[0] += "tell;";
    }
  });
  run_ranks({4, 3, 2}, [&](Rank rank) {
    auto made = bootstrap_local(with_seats(folder, rank, kRanks, kSeats));
    if (!made) return void(faults[rank] = made.error().message);
    auto& bootstrap = **made;
    if (!bootstrap.late() || bootstrap.session() != session) faults[rank] += "who it is;";
    auto all = bootstrap.all_gather(pattern(rank, 50));
    if (rank == 3) {
      if (all || all.error().message != "that seat is taken") faults[rank] += "was let in;";
      return;
    }
    if (!all || all->size() != kRanks + kSeats) return void(faults[rank] += "all_gather;");
    for (Rank other = 0; other < all->size(); ++other) {
      const auto size = other < kRanks ? 100U : other == rank ? 50U : 0U;
      if ((*all)[other] != (size == 0 ? Bytes{} : pattern(other, size))) faults[rank] += "other bytes;";
    }
    if (Bytes(bootstrap.world().begin(), bootstrap.world().end()) != world) faults[rank] += "another world;";
  });
  for (Rank rank = 0; rank < kRanks + kSeats; ++rank) {
    CAPTURE(rank);
    CHECK_MESSAGE(faults[rank] == "", faults[rank]);
  }

  // Who is no rank of a seat stays outside, and says why.
  const auto outside = [&](const LocalOptions& wrong) {
    auto made = bootstrap_local(wrong);
    REQUIRE(!made.ok());
    return made.error().message;
  };
  CHECK(outside(with_seats(folder, 1, kRanks, kSeats)).find("was to be there at the start") != std::string::npos);
  CHECK(outside(with_seats(folder, 2, kRanks, kSeats + 1)).find("TRIREME_LOCAL_SEATS differs") != std::string::npos);

  door->close();
  keeper.join();
  CHECK(door->next() == nullptr);
  door.reset();
  CHECK(!std::filesystem::exists(folder.socket()));
}

TEST_CASE("a door that closes ends what its guest is waited for") {
  const Folder folder;
  auto made = bootstrap_local(with_seats(folder, 0, 1, 1));
  REQUIRE(made.ok());
  auto door = (*made)->door();
  REQUIRE(door != nullptr);
  std::optional<Result<Bytes>> heard;
  // It comes, and says nothing.
  auto silent = connect_unix(folder.socket());
  REQUIRE(silent.ok());
  std::thread late([&] {
    auto guest = bootstrap_local(with_seats(folder, 1, 1, 1));
    CHECK(guest.ok());
    std::thread closing([&] { door->close(); });
    if (guest.ok()) CHECK(!(*guest)->all_gather({}).ok());
    closing.join();
  });
  silent->reset();
  auto guest = door->next();
  if (guest != nullptr) heard = guest->hear();
  late.join();
  // The door closed before it was let in, or while it was waited for: it was never told anything.
  if (heard && heard->ok()) CHECK(guest->hear().error().code == Errc::peer_lost);
  guest.reset();
  CHECK(door->next() == nullptr);
}
