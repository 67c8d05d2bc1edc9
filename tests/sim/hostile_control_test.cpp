// Questions and answers under the token (core/control.hpp), with a rank that says what it likes.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "core/control.hpp"
#include "core/current.hpp"
#include "core/rank_core.hpp"
#include "tests/sim/hostile_job.hpp"

namespace trireme::sim {

TEST_CASE("a question is answered by who was asked, once, and asked with what belongs to its topic") {
  const auto answer = [](Writer& out, std::uint64_t number) {
    out.varint(number);
    out.put(std::uint8_t{0});
    out.varint(0);  // bytes
    out.varint(0);  // references
  };
  constexpr std::uint8_t kTopic = 9;
  const auto question = [](Writer& out, std::uint8_t size) {
    out.varint(77);
    out.put(kTopic);
    out.blob(Bytes(size));
    out.varint(0);
  };
  using Fill = std::function<void(Job&)>;
  const Fill lies[] = {
      [&](Job& job) { job.say(0, MessageType::control_answer, [&](Writer& out) { answer(out, 1000); }); },
      // Rank 1 was asked that.
      [&](Job& job) { job.say(0, MessageType::control_answer, [&](Writer& out) { answer(out, 0); }); },
      [&](Job& job) { job.say(0, MessageType::control, [&](Writer& out) { question(out, 1); }); },
      [&](Job& job) {
        job.say(0, MessageType::control, [&](Writer& out) { question(out, 0); });
        CHECK(job.knows(0, kLiar));
        job.say(0, MessageType::control, [&](Writer& out) { question(out, 0); });
      },
  };
  for (const auto& lie : lies) {
    Job job;
    std::vector<core::Control::Reply> kept;
    for (const Rank rank : {0, 1})
      job.world.at(rank).core->control().serve(kTopic, [&](core::Control::Question asked, core::Control::Reply reply) {
        kept.push_back(std::move(reply));
        return asked.bytes.empty();
      });
    job.run([&] {
      int answers = 0;
      core::current().control().ask(1, kTopic, {}, {}, [&](const core::Control::Answer& given) {
        ++answers;
        CHECK(given.error == nullptr);
      });
      job.settle();
      lie(job);
      CHECK(!job.knows(0, kLiar));
      CHECK(answers == 0);
      for (const auto& reply : kept) {
        reply({});
        reply({});
      }
      job.settle();
      CHECK(answers == 1);
    });
  }
}

namespace {

/// Keeps how each question ended.
auto noting(std::vector<Errc>& heard) {
  return [&heard](const core::Control::Answer& answer) {
    heard.push_back(answer.error == nullptr ? Errc::ok : answer.error->code);
  };
}

}  // namespace

TEST_CASE("who asks a rank that dies, or is dead, hears of it; so does who asks itself") {
  Job job;
  constexpr std::uint8_t kTopic = 9;
  const auto never = [](const core::Control::Question&, const core::Control::Reply&) { return true; };
  for (const Rank rank : {Rank{1}, kLiar}) job.world.at(rank).core->control().serve(kTopic, never);
  job.world.at(0).core->control().serve(kTopic, [](const core::Control::Question&, const core::Control::Reply& reply) {
    reply({});
    return true;
  });
  job.run([&] {
    auto& control = core::current().control();
    std::vector<Errc> heard;
    const auto note = noting(heard);
    control.ask(0, kTopic, {}, {}, note);
    control.ask(17, kTopic, {}, {}, note);
    control.ask(kLiar, kTopic, {}, {}, note);
    // What a dead rank asked is forgotten: see job.run().
    job.say(1, MessageType::control, [&](Writer& out) {
      out.varint(5);
      out.put(kTopic);
      out.varint(0);
      out.varint(0);
    });
    CHECK(job.world.at(1).core->control().owed() == 1);
    CHECK(heard == std::vector{Errc::ok, Errc::not_found});
    job.world.kill(kLiar);
    job.settle();
    control.ask(kLiar, kTopic, {}, {}, note);
    job.settle();
    CHECK(heard == std::vector{Errc::ok, Errc::not_found, Errc::peer_lost, Errc::peer_lost});
  });
}

TEST_CASE("who has ended hears so at once, and takes no late answer amiss") {
  Job job;
  constexpr std::uint8_t kTopic = 9;
  std::vector<core::Control::Reply> kept;
  job.world.at(1).core->control().serve(kTopic, [&](const core::Control::Question&, core::Control::Reply reply) {
    kept.push_back(std::move(reply));
    return true;
  });
  job.run([&] {
    auto& control = core::current().control();
    std::vector<Errc> heard;
    const auto note = noting(heard);
    control.ask(1, kTopic, {}, {}, note);
    job.settle();
    REQUIRE(kept.size() == 1);
    job.as(0, [&] { control.end(); });
    control.ask(1, kTopic, {}, {}, note);
    job.settle();
    CHECK(heard == std::vector{Errc::shutdown, Errc::shutdown});
    kept.front()({});
    job.settle();
    CHECK(heard.size() == 2);
    CHECK(job.knows(0, 1));
  });
}

}  // namespace trireme::sim
