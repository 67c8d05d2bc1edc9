#include "transport/router.hpp"

#include <doctest/doctest.h>

#include <functional>

#include "tests/transport/memory_backend.hpp"
#include "tests/transport/support.hpp"

namespace trireme::transport::testing {
namespace {

struct Rig {
  explicit Rig(std::size_t frame_max = 4096) : router(0, 100'000) {
    auto made = std::make_unique<MemoryBackend>(frame_max);
    backend = made.get();
    router.add_default_backend(std::move(made));
  }
  void arrive(Rank from, Bytes frame) { backend->arriving.emplace_back(from, std::move(frame)); }
  int poll() { return router.poll(handler); }
  MemoryBackend* backend;
  Router router;
  Messages handler;
};

Bytes text(std::string_view value) {
  const auto bytes = std::as_bytes(std::span(value));
  return {bytes.begin(), bytes.end()};
}

TEST_CASE("small messages to one peer share a frame until flush") {
  Rig rig;
  for (int i = 0; i < 10; ++i) rig.router.send(7, text("hello"));
  rig.router.send(8, text("x"));
  CHECK(rig.backend->sent.empty());
  rig.router.flush();
  REQUIRE(rig.backend->sent.size() == 2);
  CHECK(rig.backend->sent[0].second.size() == 4 + 10 * 6);
  CHECK(rig.router.stats(7).messages_sent == 10);
  CHECK(rig.router.stats(7).frames_sent == 1);
  rig.router.flush();
  CHECK(rig.backend->sent.size() == 2);
}

TEST_CASE("what one router sends another understands, at every size around the frame size") {
  for (std::size_t size = 0; size < 700; ++size) {
    CAPTURE(size);
    Rig from(256), to(256);
    from.router.send(1, pattern(1, size));
    from.router.send(1, pattern(2, 3));
    from.router.flush();
    for (auto& [rank, frame] : from.backend->sent) {
      CHECK(frame.size() <= 256);
      to.arrive(1, frame);
    }
    to.poll();
    REQUIRE(to.handler.messages.size() == 2);
    CHECK(to.handler.messages[0].second == pattern(1, size));
    CHECK(to.handler.messages[1].second == pattern(2, 3));
    CHECK(to.handler.lost.empty());
  }
}

TEST_CASE("frames that overtake each other are put back in order") {
  Rig from(64), to(64);
  const Bytes big = pattern(5, 2000);
  from.router.send(1, text("first"));
  from.router.send(1, big);
  from.router.send(1, text("last"));
  from.router.flush();
  for (auto it = from.backend->sent.rbegin(); it != from.backend->sent.rend(); ++it) to.arrive(1, it->second);
  to.poll();
  REQUIRE(to.handler.messages.size() == 3);
  CHECK(to.handler.messages[0].second == text("first"));
  CHECK(to.handler.messages[1].second == big);
  CHECK(to.handler.messages[2].second == text("last"));
}

TEST_CASE("without credit messages wait in order, share frames, and go when credit returns") {
  Rig rig(256);
  rig.backend->credit = 0;
  for (int i = 0; i < 100; ++i) {
    rig.router.send(3, pattern(static_cast<std::uint64_t>(i), 20));
    rig.router.flush();
  }
  CHECK(rig.router.backlog(3) >= 2000);
  CHECK(rig.router.backlog(4) == 0);
  CHECK(rig.router.arm());
  rig.backend->credit = 2;
  CHECK(rig.poll() == 2);
  rig.backend->credit = 1000;
  CHECK_FALSE(rig.router.arm());
  rig.poll();
  CHECK(rig.router.backlog(3) == 0);
  CHECK(rig.backend->sent.size() < 15);
  Rig to(256);
  for (auto& [rank, frame] : rig.backend->sent) to.arrive(1, frame);
  to.poll();
  REQUIRE(to.handler.messages.size() == 100);
  for (std::uint64_t i = 0; i < 100; ++i) CHECK(to.handler.messages[i].second == pattern(i, 20));
}

TEST_CASE("messages to oneself come with the next poll, also those sent from the handler") {
  struct Again final : MessageHandler {
    Status on_message(Rank from, BytesView message) override {
      CHECK(from == 0);
      if (++count < 5) router->send(0, message);
      return {};
    }
    void on_lost(Rank, std::string_view) override {}
    Router* router = nullptr;
    int count = 0;
  } handler;
  Rig rig;
  handler.router = &rig.router;
  rig.router.send(0, pattern(1, 100'000));
  CHECK(handler.count == 0);
  CHECK_FALSE(rig.router.arm());
  for (int i = 1; i <= 5; ++i) {
    CHECK(rig.router.poll(handler) == 1);
    CHECK(handler.count == i);
  }
  CHECK(rig.router.poll(handler) == 0);
  CHECK(rig.router.arm());
}

TEST_CASE("every kind of malformed frame names its sender, closes its connection and harms nobody else") {
  struct Case {
    const char* name;
    std::vector<Bytes> frames;
    const char* says;
  };
  const std::vector<Case> cases = {
      {"too short", {Bytes(3)}, "it has 3 bytes"},
      {"record over the end", {numbered(0, {5 << 2, 1})}, "reaches over its end"},
      {"endless varint",
       {numbered(0, {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255})},
       "reaches over its end"},
      {"unknown kind", {numbered(0, {1 << 2 | 3, 1})}, "no known kind"},
      {"more without first", {numbered(0, {1 << 2 | 2, 1})}, "continues no message"},
      {"first is all", {numbered(0, {1 << 2 | 1, 1, 9})}, "belongs to a message of 1"},
      {"first is empty", {numbered(0, {0 << 2 | 1, 8})}, "first fragment of 0 bytes"},
      {"too large", {numbered(0, {1 << 2 | 1, 0x81, 0x80, 0x80, 0x20, 9})}, "67108865 bytes was announced"},
      {"more than announced", {numbered(0, {1 << 2 | 1, 2, 9, 2 << 2 | 2, 1, 1})}, "2 bytes came where 1 were missing"},
      {"two firsts", {numbered(0, {1 << 2 | 1, 2, 9, 1 << 2 | 1, 2, 9})}, "begins inside another"},
      {"whole between", {numbered(0, {1 << 2 | 1, 2, 9, 0})}, "between the fragments"},
      {"number again", {numbered(0, {0}), numbered(0, {0})}, "used before"},
      {"number twice ahead", {numbered(2, {0}), numbered(2, {0})}, "used before"},
      {"number far ahead", {numbered(20'000, {0})}, "20000 frames ahead"},
  };
  for (const Case& each : cases) {
    CAPTURE(each.name);
    Rig rig;
    for (const Bytes& frame : each.frames) rig.arrive(1, frame);
    rig.arrive(1, numbered(1, {0}));
    rig.arrive(2, numbered(0, {0}));
    rig.poll();
    REQUIRE(rig.handler.lost.size() == 1);
    CHECK(rig.handler.lost[0].first == 1);
    CHECK_MESSAGE(rig.handler.lost[0].second.find(each.says) != std::string::npos, rig.handler.lost[0].second);
    CHECK(rig.backend->forgotten == std::vector<Rank>{1});
    CHECK_FALSE(rig.router.alive(1));
    CHECK(rig.router.alive(2));
    CHECK(rig.handler.messages.back().first == 2);
    rig.router.send(1, text("dropped"));
    rig.router.send(2, text("kept"));
    rig.router.flush();
    REQUIRE(rig.backend->sent.size() == 1);
    CHECK(rig.backend->sent[0].first == 2);
  }
}

TEST_CASE("a message the handler rejects costs the peer its connection") {
  Rig rig;
  rig.handler.answer = make_error(Errc::malformed, "no such kind of message");
  rig.arrive(1, numbered(0, {0, 0}));
  rig.poll();
  CHECK(rig.handler.messages.size() == 1);
  REQUIRE(rig.handler.lost.size() == 1);
  CHECK(rig.handler.lost[0].second.find("no such kind of message") != std::string::npos);
}

TEST_CASE("a lost peer is reported once; its backlog goes and gets from it fail at once") {
  Rig rig;
  rig.backend->credit = 0;
  rig.router.send(1, text("never"));
  rig.router.flush();
  CHECK(rig.router.backlog(1) > 0);
  rig.backend->dying = {{1, "cable cut"}, {1, "again"}};
  rig.poll();
  REQUIRE(rig.handler.lost.size() == 1);
  CHECK(rig.handler.lost[0].second == "cable cut");
  CHECK(rig.router.backlog(1) == 0);
  CHECK(rig.poll() == 0);
  Errc code = Errc::ok;
  Bytes into(4);
  rig.router.get(1, 0, into, [&](Status status) { code = status.error().code; });
  CHECK(code == Errc::peer_lost);
}

TEST_CASE("the handler may forget any peer, send and get while messages are delivered") {
  struct Busy final : MessageHandler {
    Status on_message(Rank from, BytesView) override {
      ++count;
      if (act) act(from);
      return {};
    }
    void on_lost(Rank, std::string_view) override { ++lost; }
    std::function<void(Rank)> act;
    int count = 0, lost = 0;
  } handler;
  Rig rig(64);
  handler.act = [&](Rank from) {
    for (Rank r = 1; r < 50; ++r) rig.router.send(r, pattern(r, 200));
    Bytes into(4);
    rig.router.get(from, 0, into, [](Status) {});
    rig.router.forget(from);
  };
  rig.arrive(1, numbered(0, {0, 0, 0}));
  rig.arrive(2, numbered(0, {1 << 2 | 1, 2, 9, 1 << 2 | 2, 1, 0}));
  rig.poll();
  CHECK(handler.count == 0);  // Rig::poll has its own handler
  rig.arrive(3, numbered(0, {0, 0, 0}));
  rig.arrive(4, numbered(0, {1 << 2 | 1, 2, 9, 1 << 2 | 2, 1, 0}));
  rig.router.poll(handler);
  CHECK(handler.count == 2);  // each peer's first message, then it was forgotten
  CHECK(handler.lost == 0);
  CHECK_FALSE(rig.router.alive(3));
  CHECK(rig.backend->forgotten == std::vector<Rank>{4, 3});
}

TEST_CASE("a seat is nobody until its rank is admitted, and then a peer like any other") {
  MemoryBackend* backend = nullptr;
  Router router(0, 3);
  {
    auto made = std::make_unique<MemoryBackend>(4096);
    backend = made.get();
    router.add_backend(std::move(made), {1});
  }
  router.forget(2);
  CHECK(router.alive(1));
  CHECK(!router.alive(2));
  // Dropped, as what goes to a dead rank.
  router.send(2, text("early"));
  router.flush();
  CHECK(backend->sent.empty());
  Errc got = Errc::ok;
  router.get(2, 0, {}, [&got](const Status& status) { got = status.error().code; });
  CHECK(got == Errc::peer_lost);
  router.admit(2, *backend);
  CHECK(router.alive(2));
  router.send(2, text("hello"));
  router.flush();
  REQUIRE(backend->sent.size() == 1);
  CHECK(backend->sent[0].first == 2);
  // Its frames count from the first.
  Rig from;
  from.router.send(0, text("x"));
  from.router.send(2, text("and you"));
  from.router.flush();
  backend->arriving.emplace_back(2, from.backend->sent.back().second);
  Messages handler;
  router.poll(handler);
  REQUIRE(handler.messages.size() == 1);
  CHECK(handler.messages[0].first == 2);
  CHECK(handler.messages[0].second == text("and you"));
  router.forget(2);
  CHECK(!router.alive(2));
}

}  // namespace
}  // namespace trireme::transport::testing
