#include "python/native/call_kind.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "python/native/call.hpp"

namespace {

using trireme::Bytes;
using trireme::BytesView;
using trireme::Reader;
using trireme::Writer;
using trireme::python::CallKind;
using trireme::python::CallKindView;
using trireme::python::CallText;

CallKindView kind_named(std::string_view name) {
  CallKindView kind;
  kind.name = name;
  kind.meta = std::as_bytes(std::span(name));
  return kind;
}

TEST_CASE("calls of one kind share a record, and what differs in anything has another") {
  const auto first = CallKind::of(kind_named("f"));
  CHECK(CallKind::of(kind_named("f")) == first);
  CHECK(CallKind::of(first->view()) == first);
  std::vector<CallKindView> others(13, kind_named("f"));
  const std::string text = "other";
  others[0].meta = std::as_bytes(std::span(text));
  others[1].name = text;
  others[2].env_key = text;
  others[3].env = text;
  others[4].returns = 2;
  others[5].streaming = true;
  others[6].placed = true;
  others[7].max_retries = 0;
  others[8].max_restarts = 1;
  others[9].max_task_retries = 1;
  others[10].cpus = 0.5;
  others[11].gpus = 1;
  others[12].stream = {0, 1};
  for (std::size_t i = 0; i < others.size(); ++i) {
    CAPTURE(i);
    const auto other = CallKind::of(others[i]);
    CHECK(other != first);
    Bytes a, b;
    Writer of_view(a), of_record(b);
    CallText::encode(of_view, others[i], {}, 0, false, 0);
    CallText::encode(of_record, other->view(), {}, 0, false, 0);
    CHECK(a == b);
    Reader in(a);
    Bytes c;
    Writer again(c);
    CallText::decode(in).encode(again);
    CHECK(in.done());
    CHECK(a == c);
  }
}

TEST_CASE("more kinds than are remembered, from several threads") {
  constexpr int kThreads = 4;
  constexpr int kKinds = 1000;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        for (int i = 0; i < kKinds; ++i) {
          const auto name = fmt::format("function {}", i);
          if (CallKind::of(kind_named(name))->name != name) ++wrong;
        }
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong.load() == 0);
}

}  // namespace
