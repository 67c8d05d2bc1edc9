#include "python/native/worker_api.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <future>
#include <thread>

#include "core/context.hpp"
#include "python/native/call.hpp"
#include "tests/python_native/fake_rank.hpp"

namespace trireme::python {
namespace {

Frame kind_of(const Bytes& frame) { return static_cast<Frame>(frame.at(0)); }
Reader body_of(const Bytes& frame) { return Reader(BytesView(frame).subspan(1)); }

/// The next frame, which is of that kind.
Bytes expect(FakeRank& rank, Frame kind) {
  auto frame = rank.take();
  REQUIRE(static_cast<int>(kind_of(frame)) == static_cast<int>(kind));
  return frame;
}

ValueSource source_of(std::string_view data) { return {std::as_bytes(std::span(data)), {}, {}}; }

const Api::Check kNever;

TEST_CASE("a worker greets with its first next(), and gets tasks in order") {
  FakeRank rank;
  WorkerApi api(rank.command());
  CHECK(api.rank() == 3);
  CHECK(api.size() == 4);
  CHECK_FALSE(rank.has_frame());
  rank.send_task(11, 0, "first");
  rank.send_task(12, 1, "second");
  auto first = api.next(kNever);
  expect(rank, Frame::hello);
  REQUIRE(first);
  CHECK(first->token == 11);
  CHECK(first->kind == WorkItem::Kind::task);
  CHECK(text_of(first->args) == "first");
  CHECK(rank.end().page().slots[0].load() == WorkerPage::kStarted);
  CHECK(rank.end().page().slots[1].load() == WorkerPage::kQueued);
  CHECK(api.next(kNever)->token == 12);
  rank.send(Frame::leave, [](Writer&) {});
  CHECK_FALSE(api.next(kNever));
}

TEST_CASE("a task that was taken back is skipped, its slot freed and what it refers to given back") {
  FakeRank rank;
  WorkerApi api(rank.command());
  rank.send_task(1, 0, "taken back", {2});
  rank.send_task(2, 1, "kept");
  rank.end().page().slots[0].store(WorkerPage::kTakenBack);
  CHECK(api.next(kNever)->token == 2);
  CHECK(rank.end().page().slots[0].load() == WorkerPage::kFree);
  expect(rank, Frame::hello);
  const auto frame = expect(rank, Frame::release);
  auto in = body_of(frame);
  CHECK(in.varint() == 1);
  CHECK(in.varint() == 2);
  CHECK(in.varint() == 1);
}

TEST_CASE("one reference per handle, which goes back as often as it came") {
  FakeRank rank;
  WorkerApi api(rank.command());
  rank.send_task(1, 0, "", {4, 4});
  rank.send_task(2, 1, "", {4});
  auto first = api.next(kNever);
  auto second = api.next(kNever);
  expect(rank, Frame::hello);
  CHECK(first->args.refs[0] == first->args.refs[1]);
  CHECK(first->args.refs[0] == second->args.refs[0]);
  first.reset();
  CHECK_FALSE(rank.has_frame());
  second.reset();
  const auto frame = expect(rank, Frame::release);
  auto in = body_of(frame);
  CHECK(in.varint() == 1);
  CHECK(in.varint() == 4);
  CHECK(in.varint() == 3);
  CHECK(in.done());
}

TEST_CASE("small values travel in the frame, large ones in the arena") {
  FakeRank rank;
  WorkerApi api(rank.command());
  auto ref = api.put(source_of("small"), kNever);
  CHECK(ref->ready());
  {
    const auto frame = expect(rank, Frame::put);
    auto in = body_of(frame);
    CHECK(in.varint() == ref->key());
    CHECK(in.get<Form>() == Form::inlined);
    HeldValue value;
    value.blob = in.blob();
    CHECK(text_of(value) == "small");
    CHECK(in.varint() == 0);
    CHECK(in.done());
  }
  const Bytes big(100'000, std::byte{42});
  const std::vector<BytesView> buffers{big};
  auto put = std::async(std::launch::async, [&] {
    return api.put({std::as_bytes(std::span(std::string_view("head"))), buffers, {}}, kNever);
  });
  const auto room = expect(rank, Frame::room);
  auto in = body_of(room);
  const auto request = in.varint();
  const auto bytes = in.varint();
  CHECK(bytes > big.size());
  Located at;
  at.rank = 3;
  at.offset = 4096;
  at.size = bytes;
  at.pin = 9;
  rank.reply(request, [&](Writer& out) { at.encode(out); });
  const auto frame = expect(rank, Frame::put);
  auto large = body_of(frame);
  large.varint();
  CHECK(large.get<Form>() == Form::located);
  CHECK(large.varint() == 9);
  const auto blob = BytesView(rank.arena()).subspan(4096, bytes);
  const auto layout = unpack(blob);
  REQUIRE(layout);
  REQUIRE(layout->buffers.size() == 1);
  CHECK(layout->buffers[0].first % 64 == 0);
  CHECK(std::memcmp(blob.data() + layout->buffers[0].first, big.data(), big.size()) == 0);
  put.get();
}

TEST_CASE("get: values in place are unpinned with their last owner, errors and absent ones are told apart") {
  FakeRank rank;
  WorkerApi api(rank.command());
  std::vector<RefPtr> refs{api.put(source_of("a"), kNever), api.put(source_of("b"), kNever),
                           api.put(source_of("c"), kNever)};
  for (int i = 0; i < 3; ++i) expect(rank, Frame::put);
  auto get = std::async(std::launch::async, [&] { return api.get(refs, kForever, kNever); });
  const auto asked = expect(rank, Frame::get);
  auto in = body_of(asked);
  const auto request = in.varint();
  const auto blob = FakeRank::packed("in place");
  std::memcpy(rank.arena().data() + 128, blob.data(), blob.size());
  rank.reply(request, [&](Writer& out) {
    out.varint(3);
    out.put(Form::located);
    Located at;
    at.rank = 3;
    at.offset = 128;
    at.size = blob.size();
    at.pin = 21;
    at.encode(out);
    out.varint(0);
    out.put(Form::failed);
    detail::ErrorInfo error;
    error.code = Errc::task_failed;
    error.message = "why";
    core::encode_error(out, error);
    out.put(Form::pending);
  });
  auto got = get.get();
  REQUIRE(got.size() == 3);
  CHECK(text_of(std::get<HeldValue>(got[0])) == "in place");
  CHECK(std::get<HeldValue>(got[0]).blob.data() != rank.arena().data() + 128);  // another mapping of the same bytes
  CHECK(std::get<detail::ErrorInfo>(got[1]).message == "why");
  CHECK(got[2].index() == 0);
  CHECK_FALSE(rank.has_frame());
  got.clear();
  const auto frame = expect(rank, Frame::unpin);
  auto unpin = body_of(frame);
  CHECK(unpin.varint() == 1);
  CHECK(unpin.varint() == 21);
}

TEST_CASE("get gives up at its deadline when the rank says so, and takes what came in the meantime") {
  FakeRank rank;
  WorkerApi api(rank.command());
  const std::vector<RefPtr> refs{api.put(source_of("a"), kNever)};
  expect(rank, Frame::put);
  for (const bool came : {false, true}) {
    auto get =
        std::async(std::launch::async, [&] { return api.get(refs, SystemClock::read() + kMillisecond, kNever); });
    const auto asked = expect(rank, Frame::get);
    const auto request = body_of(asked).varint();
    const auto forget = expect(rank, Frame::forget);
    CHECK(body_of(forget).varint() == request);
    if (came) {
      rank.reply(request, [](Writer& out) {
        out.varint(1);
        out.put(Form::inlined);
        out.blob(FakeRank::packed("late"));
        out.varint(0);
      });
      CHECK(text_of(std::get<HeldValue>(get.get()[0])) == "late");
    } else {
      rank.send(Frame::reply, [&](Writer& out) {
        out.varint(request);
        out.put(Answer::forgotten);
      });
      CHECK_THROWS_AS(get.get(), TimeoutError);
    }
  }
}

TEST_CASE("what an interrupted get would have got is given back when it comes") {
  FakeRank rank;
  WorkerApi api(rank.command());
  // Checks are for the main thread, so the rank's part is another one's.
  std::atomic<bool> stop{false};
  std::uint64_t request = 0;
  RefPtr ref = api.put(source_of("a"), kNever);
  std::thread other([&] {
    rank.take();
    request = body_of(rank.take()).varint();
    stop = true;
  });
  CHECK_THROWS_AS(api.get(std::span(&ref, 1), kForever, [&] { return stop.load(); }), Interrupted);
  other.join();
  expect(rank, Frame::forget);
  rank.reply(request, [](Writer& out) {
    out.varint(1);
    out.put(Form::located);
    Located at;
    at.rank = 3;
    at.size = 64;
    at.pin = 5;
    at.encode(out);
    out.varint(1);
    out.varint(8);
  });
  rank.send_task(1, 0, "");
  api.next(kNever);
  expect(rank, Frame::hello);
  // The thread that reads drops it the next time that it waits.
  rank.send(Frame::leave, [](Writer&) {});
  CHECK_FALSE(api.next(kNever));
  bool released = false, unpinned = false;
  while (!released || !unpinned) {
    const auto frame = rank.take();
    released = released || kind_of(frame) == Frame::release;
    unpinned = unpinned || kind_of(frame) == Frame::unpin;
  }
}

TEST_CASE("wait tells at its deadline which are ready by then") {
  FakeRank rank;
  WorkerApi api(rank.command());
  CallSource call;
  const auto results = api.submit(call, nullptr);
  const std::vector<RefPtr> refs{results[0], api.put(source_of("x"), kNever)};
  expect(rank, Frame::submit);
  expect(rank, Frame::put);
  auto wait =
      std::async(std::launch::async, [&] { return api.wait(refs, 2, SystemClock::read() + kMillisecond, kNever); });
  const auto asked = expect(rank, Frame::wait);
  const auto request = body_of(asked).varint();
  expect(rank, Frame::wait_now);
  rank.reply(request, [](Writer& out) { out.blob(Bytes{std::byte{0}, std::byte{1}}); });
  CHECK(wait.get() == std::vector<bool>{false, true});
  CHECK_FALSE(refs[0]->ready());
  CHECK(refs[1]->ready());
}

TEST_CASE("submit says what Pool reads: handles, text, references, options, backpressure") {
  FakeRank rank;
  WorkerApi api(rank.command());
  const std::vector<RefPtr> refs{api.put(source_of("dep"), kNever)};
  expect(rank, Frame::put);
  CallerOptions options;
  options.call.resources.gpus = 2;
  options.call.max_retries = 7;
  options.env_key = "key";
  CallSource call;
  const std::string_view meta = "meta";
  call.meta = std::as_bytes(std::span(meta));
  call.args = source_of("args");
  call.args.refs = refs;
  call.deps = 1;
  call.name = "f";
  call.streaming = 5;
  const auto results = api.submit(call, &options);
  REQUIRE(results.size() == 2);
  const auto frame = expect(rank, Frame::submit);
  auto in = body_of(frame);
  CHECK(in.varint() == 2);
  CHECK(in.varint() == results[0]->key());
  CHECK(in.varint() == results[1]->key());
  const auto text = CallText::decode(in);
  CHECK(text.kind->name == "f");
  CHECK(text.deps == 1);
  CHECK(text.kind->streaming);
  CHECK(text.kind->env_key == "key");
  CHECK(text.kind->max_retries == 7);
  HeldValue args;
  args.blob = text.args;
  CHECK(text_of(args) == "args");
  CHECK(in.varint() == 0);
  CHECK(in.varint() == 1);
  CHECK(in.varint() == refs[0]->key());
  CHECK(in.get<std::uint8_t>() == 1);
  CHECK(CallOptions::decode(in).resources.gpus == 2);
  CHECK(in.get<std::int32_t>() == 5);
  CHECK(in.done());
}

TEST_CASE("whoever waits reads for the others: gets of many threads, watched references and work at the same time") {
  FakeRank rank;
  WorkerApi api(rank.command());
  constexpr int kThreads = 8;
  constexpr int kRounds = 200;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&api, &wrong] {
      const std::vector<RefPtr> refs{api.put(source_of("x"), kNever)};
      for (int i = 0; i < kRounds; ++i) {
        const auto got = api.get(refs, kForever, kNever);
        if (text_of(std::get<HeldValue>(got[0])) != std::to_string(refs[0]->key())) ++wrong;
      }
    });
  }
  std::atomic<int> events{0};
  threads.emplace_back([&] {
    for (;;) {
      const auto tokens = api.next_watched(kNever);
      if (tokens.empty()) return;
      events += static_cast<int>(tokens.size());
    }
  });
  std::atomic<int> tasks{0};
  threads.emplace_back([&] {
    while (const auto item = api.next(kNever)) {
      ++tasks;
      api.finish(item->token, {});
    }
  });
  int answered = 0, done = 0;
  while (answered < kThreads * kRounds || done < kRounds) {
    const auto frame = rank.take();
    auto in = body_of(frame);
    if (kind_of(frame) == Frame::done) {
      ++done;
      rank.end().page().slots[0].store(WorkerPage::kFree);
      if (done < kRounds) rank.send_task(static_cast<std::uint64_t>(done) + 1, 0, "");
    } else if (kind_of(frame) == Frame::hello) {
      rank.send_task(1, 0, "");
    } else if (kind_of(frame) == Frame::get) {
      const auto request = in.varint();
      in.varint();
      const auto handle = in.varint();
      rank.reply(request, [&](Writer& out) {
        out.varint(1);
        out.put(Form::inlined);
        out.blob(FakeRank::packed(std::to_string(handle)));
        out.varint(0);
      });
      ++answered;
      rank.send(Frame::event, [&](Writer& out) { out.varint(static_cast<std::uint64_t>(answered)); });
    }
  }
  for (int t = 0; t < kThreads; ++t) threads[t].join();
  rank.send(Frame::leave, [](Writer&) {});
  threads[kThreads].join();
  threads[kThreads + 1].join();
  CHECK(wrong == 0);
  CHECK(tasks == kRounds);
  CHECK(events == kThreads * kRounds);
}

TEST_CASE("references dropped by many threads all go back, without anybody waiting") {
  FakeRank rank;
  WorkerApi api(rank.command());
  constexpr std::uint64_t kEach = 2'000;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&api] {
      for (std::uint64_t i = 0; i < kEach; ++i) api.put(source_of("x"), kNever);
    });
  }
  std::uint64_t put = 0, released = 0;
  while (put < 4 * kEach || released < 4 * kEach) {
    const auto frame = rank.take();
    auto in = body_of(frame);
    if (kind_of(frame) == Frame::put) ++put;
    if (kind_of(frame) == Frame::release) {
      for (auto left = in.varint(); left != 0; --left) {
        in.varint();
        released += in.varint();
      }
    }
  }
  for (auto& thread : threads) thread.join();
  CHECK(put == 4 * kEach);
  CHECK(released == 4 * kEach);
}

TEST_CASE("an error of the rank is thrown as it is") {
  FakeRank rank;
  WorkerApi api(rank.command());
  auto find = std::async(std::launch::async, [&] { return api.find_actor("nobody", kNever); });
  const auto asked = expect(rank, Frame::find);
  auto in = body_of(asked);
  const auto request = in.varint();
  CHECK(in.text() == "nobody");
  rank.send(Frame::reply, [&](Writer& out) {
    out.varint(request);
    out.put(Answer::error);
    detail::ErrorInfo error;
    error.code = Errc::peer_lost;
    error.message = "gone";
    core::encode_error(out, error);
  });
  try {
    find.get();
    FAIL("no error");
  } catch (const Exception& error) {
    CHECK(error.code() == Errc::peer_lost);
    CHECK(error.message() == "gone");
  }
}

TEST_CASE("a process forked off a worker cannot use its rings, and drops its references silently") {
  FakeRank rank;
  WorkerApi api(rank.command());
  RefPtr ref = api.put(source_of("a"), kNever);
  expect(rank, Frame::put);
  const auto child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ref.reset();
    try {
      api.put(source_of("b"), kNever);
    } catch (const Exception& error) {
      ::_exit(error.code() == Errc::unavailable ? 0 : 1);
    }
    ::_exit(2);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK_FALSE(rank.has_frame());
  ref.reset();
  expect(rank, Frame::release);
}

TEST_CASE("a thread with an event loop is woken by frames, by its descriptor and by another thread that reads") {
  FakeRank rank;
  WorkerApi api(rank.command());
  rank.send_task(1, 0, "");
  REQUIRE(api.next(kNever));
  expect(rank, Frame::hello);
  auto opening = std::async(std::launch::async, [&] { api.open_bell(kNever); });
  auto opened = expect(rank, Frame::bell);
  auto in = body_of(opened);
  const auto request = in.varint();
  REQUIRE(in.varint() == static_cast<std::uint64_t>(::getpid()));
  rank.end().set_bell(transport::open_of_process(::getpid(), static_cast<int>(in.varint()), O_WRONLY | O_NONBLOCK));
  rank.reply(request, [](Writer&) {});
  opening.get();

  int other[2];
  REQUIRE(::pipe2(other, O_CLOEXEC) == 0);
  const transport::Fd other_read(other[0]), other_write(other[1]);
  const auto send_cancel = [&] { rank.send(Frame::cancel, [](Writer& out) { out.put(std::uint64_t{5}); }); };
  const auto waits = [&] {
    return std::async(std::launch::async, [&] { return api.wait_in_loop(other_read.get(), kForever); });
  };
  const auto until_asleep = [&] {
    while (rank.end().page().asleep.load() != WorkerPage::kOnBell) std::this_thread::yield();
  };
  {
    auto waiting = waits();
    until_asleep();
    send_cancel();
    CHECK_FALSE(waiting.get());
    CHECK(api.try_next()->token == 5);
  }
  {
    auto waiting = waits();
    until_asleep();
    REQUIRE(::write(other_write.get(), "x", 1) == 1);
    CHECK(waiting.get());
    char byte = 0;
    REQUIRE(::read(other_read.get(), &byte, 1) == 1);
  }
  {
    // Another thread waits for an answer and reads for both.
    const auto ref = api.put(source_of("a"), kNever);
    expect(rank, Frame::put);
    auto getting = std::async(std::launch::async, [&] { return api.get({&ref, 1}, kForever, kNever).size(); });
    const auto get = expect(rank, Frame::get);
    while (rank.end().page().asleep.load() != WorkerPage::kOnFutex) std::this_thread::yield();
    auto waiting = waits();
    send_cancel();
    CHECK_FALSE(waiting.get());
    CHECK(api.try_next()->token == 5);
    auto asked = body_of(get);
    rank.reply(asked.varint(), [](Writer& out) {
      out.varint(1);
      out.put(Form::pending);
    });
    CHECK(getting.get() == 1);
  }
  CHECK_FALSE(api.has_work());
  CHECK_FALSE(api.told_to_leave());
  rank.send(Frame::leave, [](Writer&) {});
  CHECK_FALSE(api.wait_in_loop(other_read.get(), kForever));
  CHECK(api.told_to_leave());
}

TEST_CASE("wait asks nobody when enough is known to be ready") {
  FakeRank rank;
  WorkerApi api(rank.command());
  const std::vector<RefPtr> refs{api.put(source_of("a"), kNever), api.submit(CallSource{}, nullptr)[0]};
  expect(rank, Frame::put);
  expect(rank, Frame::submit);
  CHECK(api.wait(refs, 1, kForever, kNever) == std::vector<bool>{true, false});
  CHECK_FALSE(rank.has_frame());
}

TEST_CASE("a command that is none is refused with a reason") {
  CHECK_THROWS_WITH_AS(WorkerCommand::parse("{}"), doctest::Contains("worker"), Exception);
  CHECK_THROWS_AS(WorkerCommand::parse("no json"), Exception);
}

}  // namespace
}  // namespace trireme::python
