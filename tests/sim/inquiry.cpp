#include "tests/sim/inquiry.hpp"

#include <fmt/format.h>

#include "core/current.hpp"
#include "trireme/runtime.hpp"

namespace trireme::sim {

using core::Control;

namespace {

constexpr std::uint8_t kTopic = 1;
/// Nobody serves it.
constexpr std::uint8_t kUnserved = 2;

bool unserved(const Inquiry& inquiry) { return inquiry.value % 16 == 0; }

}  // namespace

std::uint64_t eval_inquiry(Inquiry inquiry, Rank to) {
  // Small: a handler makes no room for objects.
  constexpr std::size_t kWordsMax = 100;
  auto value = mix(inquiry.value, to);
  while (make_blob(value).size() > kWordsMax) ++value;
  return value;
}

std::shared_ptr<Inquired> inquire(Rank to, Inquiry inquiry, const std::vector<Ref<Blob>>& refs) {
  auto asked = std::make_shared<Inquired>();
  Bytes question;
  Writer out(question);
  out.put(inquiry.value);
  out.put(inquiry.delay);
  std::vector<detail::CellRef> cells;
  for (const auto& ref : refs) cells.push_back(ref.cell());
  core::current().control().ask(to, unserved(inquiry) ? kUnserved : kTopic, std::move(question), std::move(cells),
                                [asked](Control::Answer answer) {
                                  if (asked->point.signalled()) ledger->fail("a question is answered twice");
                                  asked->answer = std::move(answer);
                                  asked->point.signal();
                                });
  return asked;
}

Ref<Blob> answer_of(Inquired& asked, Inquiry inquiry, Rank to, const std::vector<Ref<Blob>>& refs) {
  auto& world = ledger->world;
  core::current().context().host->wait(asked.point, kForever);
  const auto& answer = asked.answer;
  if (answer.error != nullptr) {
    const auto code = answer.error->code;
    const bool right = code == Errc::peer_lost ? !world.alive(to) : code == Errc::unavailable && unserved(inquiry);
    if (!right) ledger->fail(fmt::format("rank {} asks rank {}: {}", this_rank(), to, answer.error->message));
    throw Exception(*answer.error);
  }
  if (unserved(inquiry) || answer.refs.size() != refs.size() + 1) {
    ledger->fail(fmt::format("rank {} answers with {} references", to, answer.refs.size()));
    throw Exception({});
  }
  for (std::size_t i = 0; i < refs.size(); ++i)
    if (answer.refs[i] != refs[i].cell() && world.deaths == 0)
      ledger->fail(fmt::format("rank {} answers with another reference than it was asked with", to));
  return Ref<Blob>(answer.refs.back());
}

Ref<Blob> inquire_for(Order order, std::uint32_t to, Inquiry inquiry, std::vector<Ref<Blob>> refs) {
  ledger->ran(order.ticket);
  const auto asked = inquire(to, inquiry, refs);
  return answer_of(*asked, inquiry, to, refs);
}

void serve_inquiries(World& world, Rank self, core::RankCore& core) {
  core.control().serve(kTopic, [&world, self](Control::Question question, const Control::Reply& reply) {
    Reader in(question.bytes);
    Inquiry inquiry;
    inquiry.value = in.get<std::uint64_t>();
    inquiry.delay = in.get<Nanos>();
    if (!in.done()) return false;
    auto answer = std::make_shared<Control::Answer>();
    answer->refs = std::move(question.refs);
    answer->refs.push_back(detail::make_plain_cell());
    answer->refs.back()->complete(detail::encode_value<Blob>(make_blob(eval_inquiry(inquiry, self))));
    const auto say = [reply, answer] { reply(std::move(*answer)); };
    if (inquiry.delay < 0) {
      say();
      return true;
    }
    constexpr Nanos kDelayMax = kMillisecond;
    world.network.schedule(self, world.network.now() + std::min(inquiry.delay, kDelayMax),
                           [&world, self, say] { world.at(self).host->step(say); });
    return true;
  });
}

}  // namespace trireme::sim
