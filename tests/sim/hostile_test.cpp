// What a rank may say of references that it was not given. Rank 2 is honest code with messages put into its mouth; the
// program runs on rank 0. A lie is answered by the end of the connection; who only passed it on keeps his.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstdio>
#include <functional>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "core/actors.hpp"
#include "core/current.hpp"
#include "tests/sim/hostile_job.hpp"
#include "trireme/actor.hpp"
#include "trireme/runtime.hpp"
#include "trireme/task.hpp"

namespace trireme::sim {
namespace {

using Numbers = std::vector<std::uint64_t>;
long plus_one(long value) { return value + 1; }
Ref<long> pass_on(Ref<long> ref) { return ref; }
/// Lies in the arena of the rank that makes it.
Ref<Numbers> make_large() { return put(Numbers(3000, 7)); }
Numbers large_result() { return Numbers(3000, 9); }
std::uint64_t first_of(const Numbers& numbers) { return numbers.front(); }

long slow(long value) {
  world_now->at(core::current().context().self).host->compute(kMillisecond);
  return value;
}

struct Keeper {
  void keep(Ref<long> what) { kept = std::move(what); }
  long add() { return get(kept) + 1; }
  Ref<long> kept;
};

struct Counter {
  long next() { return ++value; }
  long value = 0;
};

long count(Actor<Counter> counter) { return get(counter.call<&Counter::next>()); }

TaskOptions on(Rank rank) {
  TaskOptions options;
  options.placement = Placement::on(rank);
  return options;
}

void name_reference(Writer& out, ObjectId id, bool actor = false) {
  out.varint(1);
  out.id(id);
  out.put(static_cast<std::uint8_t>(actor));
}
/// An answer to a question that nobody asked: the shortest message with a reference in it.
void in_a_reply(Writer& out, ObjectId id, bool actor = false) {
  out.varint(1'000'000);
  out.put(std::uint8_t{0});
  name_reference(out, id, actor);
}

}  // namespace

TEST_CASE("what was given to nobody is not told to a rank that asks") {
  Job job;
  job.run([&] {
    const auto mine = put(41L);
    const auto id = job.id_of(mine.cell());
    job.say(0, MessageType::subscribe, [&](Writer& out) {
      out.id(id);
      out.put(std::uint8_t{0});
    });
    CHECK(!job.told(id));
    CHECK(!job.knows(0, kLiar));
    CHECK(get(mine) == 41);
  });
}

TEST_CASE("what was given to another rank is not told to one that asks") {
  Job job;
  job.run([&] {
    const auto mine = put(41L);
    const auto kept = get(submit_with<&pass_on>(on(1), mine));
    job.say(0, MessageType::subscribe, [&](Writer& out) {
      out.id(job.id_of(mine.cell()));
      out.put(std::uint8_t{0});
    });
    CHECK(!job.told(job.id_of(mine.cell())));
    CHECK(!job.knows(0, kLiar));
    CHECK(get(kept) == 41);
  });
}

TEST_CASE("an id that was never drawn closes the connection of who asks for it") {
  Job job;
  job.run([&] {
    job.say(0, MessageType::subscribe, [&](Writer& out) {
      out.id({0, 1'000'000});
      out.put(std::uint8_t{0});
    });
    CHECK(!job.knows(0, kLiar));
  });
}

TEST_CASE("a message cannot refer to an object of its receiver that its sender was not given") {
  for (const bool given_to_another : {false, true}) {
    Job job;
    job.run([&] {
      const auto mine = put(41L);
      if (given_to_another) CHECK(get(submit_with<&plus_one>(on(1), mine)) == 42);
      job.say(0, MessageType::name_reply, [&](Writer& out) { in_a_reply(out, job.id_of(mine.cell())); });
      CHECK(!job.knows(0, kLiar));
      CHECK(get(mine) == 41);
    });
  }
}

TEST_CASE("what was given to nobody cannot be borrowed") {
  Job job;
  job.run([&] {
    const auto mine = put(41L);
    const auto id = job.id_of(mine.cell());
    job.say(0, MessageType::borrow, [&](Writer& out) {
      out.id(id);
      out.varint(1);
      out.put(std::uint8_t{0});
    });
    // Rank 1 might have made it up: no reason to close anything yet.
    CHECK(job.knows(0, kLiar));
    job.say(0, MessageType::subscribe, [&](Writer& out) {
      out.id(id);
      out.put(std::uint8_t{0});
    });
    CHECK(!job.told(id));
    job.say(0, MessageType::release, [&](Writer& out) {
      out.id(id);
      out.varint(1);
    });
    CHECK(job.knows(0, kLiar));
    CHECK(get(mine) == 41);
    job.say(0, MessageType::release, [&](Writer& out) {
      out.id(id);
      out.varint(1);
    });
    CHECK(!job.knows(0, kLiar));
  });
}

TEST_CASE("nobody borrows from itself or from the owner") {
  for (const Rank lender : {Rank{0}, kLiar}) {
    Job job;
    job.run([&] {
      const auto mine = put(41L);
      job.say(0, MessageType::borrow, [&](Writer& out) {
        out.id(job.id_of(mine.cell()));
        out.varint(lender);
        out.put(std::uint8_t{0});
      });
      CHECK(!job.knows(0, kLiar));
    });
  }
}

TEST_CASE("a rank gives back what it was given, once") {
  for (const std::uint64_t count : {std::uint64_t{2}, std::uint64_t{1} << 32U, (std::uint64_t{1} << 32U) + 1}) {
    Job job;
    job.run([&] {
      const auto mine = put(41L);
      const auto here = get(submit_with<&pass_on>(on(1), mine));
      // Granted once.
      const auto there = submit_with<&pass_on>(on(kLiar), mine);
      job.say(0, MessageType::release, [&](Writer& out) {
        out.id(job.id_of(mine.cell()));
        out.varint(count);
      });
      CHECK(!job.knows(0, kLiar));
      CHECK(get(mine) == 41);
      CHECK(get(submit_with<&plus_one>(on(1), here)) == 42);
    });
  }
}

TEST_CASE("who was not given anything gives nothing back") {
  Job job;
  job.run([&] {
    const auto mine = put(41L);
    const auto there = submit_with<&pass_on>(on(1), mine);
    get(there);
    job.say(0, MessageType::release, [&](Writer& out) {
      out.id(job.id_of(mine.cell()));
      out.varint(1);
    });
    CHECK(!job.knows(0, kLiar));
    CHECK(get(get(there)) == 41);
  });
}

TEST_CASE("an actor is called and killed by those who were given it") {
  for (const auto type : {MessageType::actor_call, MessageType::actor_kill}) {
    Job job;
    job.run([&] {
      const auto counter = spawn<Counter>();
      const auto& cell = counter.cell();
      job.say(0, type, [&](Writer& out) {
        out.id(job.id_of(cell));
        if (type == MessageType::actor_kill) return core::encode_error(out, {});
        out.varint(77);  // the call
        out.varint(0);
        out.put(std::uint64_t{0});
        out.varint(0);
        out.varint(0);
        out.varint(0);
      });
      CHECK(!job.knows(0, kLiar));
      CHECK(get(counter.call<&Counter::next>()) == 1);
    });
  }
}

TEST_CASE("the result of a call is cancelled by those who were given it") {
  Job job;
  job.run([&] {
    const auto mine = submit<&slow>(5L);
    job.say(0, MessageType::cancel_result, [&](Writer& out) {
      out.id(job.id_of(mine.cell()));
      out.put(std::uint8_t{0});
    });
    CHECK(!job.knows(0, kLiar));
    CHECK(get(mine) == 5);
  });
}

TEST_CASE("an actor is created once") {
  Job job;
  job.run([&] {
    for (int i = 0; i < 2; ++i) {
      job.say(0, MessageType::actor_create, [&](Writer& out) {
        out.id({kLiar, 500});
        out.put(std::uint64_t{0});
        out.varint(1);
        out.put(std::uint8_t{1});
        out.put(std::int32_t{-1});
        scheduler::Demand demand;
        REQUIRE(demand.resources.set("slot", 0.25).ok());
        demand.encode(out);
        out.varint(0);
        out.varint(0);
        out.varint(0);
      });
    }
    CHECK(!job.knows(0, kLiar));
  });
}

TEST_CASE("an object does not lie beyond the memory of its rank") {
  const std::uint64_t arena = WorldOptions{}.arena_bytes;
  struct Lie {
    std::uint64_t offset, size;
  };
  for (const auto& [offset, size] : {Lie{arena, 8}, Lie{arena - 8, 16}, Lie{8, UINT64_MAX - 4}, Lie{1ULL << 60U, 64}}) {
    Job job({0, 1, 0});
    job.run([&, offset = offset, size = size] {
      const auto large = get(submit_with<&make_large>(on(kLiar)));
      job.say(0, MessageType::value, [&](Writer& out) {
        out.id(large.cell()->entry()->id);
        out.put(kLocated);
        core::Location{kLiar, offset, size, 1}.encode(out);
        out.varint(0);
      });
      CHECK_THROWS_AS(get(large), Exception);
    });
  }
}

TEST_CASE("an object is not what its receiver holds for another rank") {
  Job job;
  job.run([&] {
    const auto large = get(submit_with<&make_large>(on(kLiar)));
    // Rank 1 has a result of its own here.
    Ref<Numbers> result;
    job.program_of(1, [&] { result = submit_with<&large_result>(on(0)); });
    REQUIRE(job.refs(1).entries() == 1);
    const auto place = *result.cell()->entry()->location;
    REQUIRE(place.rank == 0);
    job.say(0, MessageType::value, [&](Writer& out) {
      out.id(large.cell()->entry()->id);
      out.put(kLocated);
      place.encode(out);
      out.varint(0);
    });
    CHECK_THROWS_AS(get(large), Exception);
    std::uint64_t first = 0;
    job.program_of(1, [&] {
      first = get(submit<&first_of>(result));
      result = {};
    });
    CHECK(first == 9);
  });
}

TEST_CASE("a task that runs here is not ended by a rank that says it has it") {
  Job job({0, 1, 2, 3});
  job.run([&] {
    auto& host = *job.world.at(0).host;
    auto& tasks = job.world.at(0).core->tasks();
    std::vector<Ref<long>> results;
    for (long i = 0; i < 16; ++i) results.push_back(submit<&slow>(i));
    host.compute(300 * kMicrosecond);
    // What it stole runs again, here.
    job.world.kill(3);
    const auto again = [&] {
      std::vector<std::uint64_t> indices;
      std::istringstream lines(tasks.dump());
      for (std::string line; std::getline(lines, line);) {
        unsigned long long index = 0;
        if (std::sscanf(line.c_str(), "task 0.%llu attempt 1 hops 0 at rank 0", &index) == 1 &&
            line.find("at rank 0 ") != std::string::npos)
          indices.push_back(index);
      }
      return indices;
    };
    for (int i = 0; i < 1000 && again().empty(); ++i) host.compute(10 * kMicrosecond);
    REQUIRE(!again().empty());
    job.as(kLiar, [&, indices = again()] {
      const auto send = [&](MessageType type, std::uint64_t index, const std::function<void(Writer&)>& fill) {
        Bytes message{static_cast<std::byte>(type)};
        Writer out(message);
        out.id({0, index});
        out.varint(1);  // attempt
        fill(out);
        job.world.at(kLiar).router->send(0, message);
      };
      for (const auto index : indices) {
        send(MessageType::task_moved, index, [](Writer& out) {
          out.varint(5);
          out.varint(kLiar);
        });
        send(MessageType::task_done, index, [](Writer& out) {
          out.put(std::uint8_t{0});
          out.varint(1);
          out.put(std::uint8_t{0});
          const long made_up = 1'000'000;
          out.blob(std::as_bytes(std::span(&made_up, 1)));
          out.varint(0);
        });
      }
    });
    for (long i = 0; i < 16; ++i) CHECK(get(results[static_cast<std::size_t>(i)]) == i);
  });
}

TEST_CASE("a reference that somebody made up is an error wherever it goes, and nobody is closed for passing it on") {
  Job job;
  job.run([&] {
    const auto mine = put(41L);
    const auto id = job.id_of(mine.cell());
    Ref<long> fake;
    job.as(kLiar, [&] {
      Bytes table;
      Writer out(table);
      name_reference(out, id);
      Reader in(table);
      auto cells = job.refs(kLiar).read(in, 1);
      REQUIRE(cells.size() == 1);
      fake = Ref<long>(std::move(cells[0]));
    });
    bool refused = false, refused_here = false;
    job.program_of(kLiar, [&] {
      // Rank 1 passes it back to the owner, as an argument and in a result.
      const auto there = submit_with<&pass_on>(on(1), fake);
      try {
        get(submit_with<&plus_one>(on(0), get(there)));
      } catch (const Exception&) {
        refused = true;
      }
      try {
        get(fake);
      } catch (const Exception&) {
        refused_here = true;
      }
      fake = {};
    });
    CHECK(refused);
    CHECK(refused_here);
    CHECK(job.knows(0, 1));
    CHECK(job.knows(0, kLiar));
    CHECK(job.refs(0).entries() == 1);
    CHECK(get(mine) == 41);
  });
}

TEST_CASE("who was told that a value is an actor does not take it out on the owner") {
  for (const bool owner_first : {false, true}) {
    Job job;
    job.run([&] {
      const auto mine = put(41L);
      const auto id = job.id_of(mine.cell());
      std::vector<detail::CellRef> fake;
      ActorOptions there;
      there.placement = Placement::on(1);
      const auto keeper = spawn_with<Keeper>(there);
      if (owner_first) get(keeper.call<&Keeper::keep>(mine));
      job.as(1, [&] {
        Bytes table;
        Writer out(table);
        name_reference(out, id, true);
        Reader in(table);
        fake = job.refs(1).read(in, kLiar);
        REQUIRE(fake.size() == 1);
      });
      if (!owner_first) get(keeper.call<&Keeper::keep>(mine));
      const auto sum = keeper.call<&Keeper::add>();
      if (owner_first)
        CHECK(get(sum) == 42);
      else
        CHECK_THROWS_AS(get(sum), Exception);
      // It passes on what it believes in.
      job.as(1, [&] {
        Bytes message{static_cast<std::byte>(MessageType::name_reply)};
        Writer out(message);
        out.varint(1'000'000);
        out.put(std::uint8_t{0});
        job.refs(1).write(out, fake, 0);
        job.world.at(1).router->send(0, message);
        fake.clear();
      });
      CHECK(job.knows(0, 1));
      CHECK(job.knows(1, 0));
    });
  }
}

TEST_CASE("an actor that somebody made up cannot be called by those who believe in it") {
  Job job;
  job.run([&] {
    const auto counter = spawn<Counter>();
    const auto id = job.id_of(counter.cell());
    Actor<Counter> fake;
    job.as(1, [&] {
      Bytes table;
      Writer out(table);
      name_reference(out, id, true);
      Reader in(table);
      fake = Actor<Counter>(job.refs(1).read(in, kLiar).at(0));
    });
    int refused = 0;
    job.program_of(1, [&] {
      for (const auto& number : {fake.call<&Counter::next>(), submit_with<&count>(on(0), fake)}) {
        try {
          get(number);
        } catch (const Exception&) {
          ++refused;
        }
      }
      fake.kill();
      fake = {};
    });
    CHECK(refused == 2);
    CHECK(job.knows(0, 1));
    CHECK(get(counter.call<&Counter::next>()) == 1);
  });
}

}  // namespace trireme::sim
