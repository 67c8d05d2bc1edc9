#include "core/control.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace trireme::core {

void Control::ask(Rank to, std::uint8_t topic, Bytes bytes, std::vector<CellRef> refs, Then then) {
  post(*context_.host,
       [this, to, topic, bytes = std::move(bytes), refs = std::move(refs), then = std::move(then)]() mutable {
         const auto number = next_number_++;
         asked_[number] = {to, std::move(then)};
         if (ended_) return fail(number, Errc::shutdown, "the runtime has been shut down");
         if (to >= context_.size) return fail(number, Errc::not_found, fmt::format("there is no rank {}", to));
         if (to == context_.self) {
           owed_.insert({to, number});
           TRIREME_CHECK(handle({to, number}, topic, bytes, std::move(refs)), "a rank asks itself what makes no sense");
           return;
         }
         if (!context_.alive(to)) return fail(number, Errc::peer_lost, fmt::format("rank {} is dead", to));
         auto out = context_.begin(MessageType::control);
         out.varint(number);
         out.put(topic);
         out.blob(bytes);
         refs_.write(out, refs, to);
         context_.send(to);
       });
}

void Control::on_ask(Rank from, Reader& in) {
  const auto number = in.varint();
  const auto topic = in.get<std::uint8_t>();
  const auto bytes = in.blob();
  auto refs = refs_.read(in, from);
  if (!in.done() || !owed_.insert({from, number}).second) return in.fail();
  if (!handle({from, number}, topic, bytes, std::move(refs))) in.fail();
}

bool Control::handle(Owed owed, std::uint8_t topic, BytesView bytes, std::vector<CellRef> refs) {
  const auto reply = [this, owed](Answer given) {
    // Behind what has happened in this rank so far: who asks hears of that first.
    post(*context_.host, [this, owed, given = std::move(given)]() mutable { answer(owed, std::move(given)); });
  };
  const auto at = handlers_.find(topic);
  if (at != handlers_.end()) return at->second({owed.first, bytes, std::move(refs)}, reply);
  Answer none;
  none.error = std::make_unique<detail::ErrorInfo>(
      runtime_error(context_, Errc::unavailable,
                    fmt::format("rank {} does not answer questions of topic {}: start every rank of the job in the "
                                "same way",
                                context_.self, topic)));
  reply(std::move(none));
  return true;
}

void Control::answer(Owed owed, Answer answer) {
  if (owed_.erase(owed) == 0) return;
  const auto [to, number] = owed;
  if (to == context_.self) return heard(number, std::move(answer));
  if (!context_.alive(to)) return;
  auto out = context_.begin(MessageType::control_answer);
  out.varint(number);
  out.put(static_cast<std::uint8_t>(answer.error != nullptr));
  if (answer.error != nullptr) {
    encode_error(out, *answer.error);
  } else {
    out.blob(answer.bytes);
    refs_.write(out, answer.refs, to);
  }
  context_.send(to);
}

void Control::on_answer(Rank from, Reader& in) {
  const auto number = in.varint();
  const auto failed = in.get<std::uint8_t>();
  Answer answer;
  if (failed == 1) {
    answer.error = std::make_unique<detail::ErrorInfo>(decode_error(in));
  } else {
    const auto bytes = in.blob();
    answer.bytes.assign(bytes.begin(), bytes.end());
    answer.refs = refs_.read(in, from);
  }
  if (!in.done() || failed > 1) return in.fail();
  const auto at = asked_.find(number);
  if (at == asked_.end() && ended_) return;  // who asked has been told that nobody answers any more
  if (at == asked_.end() || at->second.to != from) return in.fail();
  heard(number, std::move(answer));
}

void Control::heard(std::uint64_t number, Answer answer) {
  auto node = asked_.extract(number);
  if (!node.empty() && node.mapped().then) node.mapped().then(std::move(answer));
}

void Control::fail(std::uint64_t number, Errc code, std::string why) {
  Answer failed;
  failed.error = std::make_unique<detail::ErrorInfo>(runtime_error(context_, code, std::move(why)));
  heard(number, std::move(failed));
}

void Control::on_rank_dead(Rank dead) {
  owed_.erase(owed_.lower_bound({dead, 0}), owed_.lower_bound({dead + 1, 0}));
  std::vector<std::uint64_t> lost;
  for (const auto& [number, asked] : asked_)
    if (asked.to == dead) lost.push_back(number);
  std::sort(lost.begin(), lost.end());
  for (const auto number : lost) fail(number, Errc::peer_lost, fmt::format("rank {} died before it answered", dead));
}

void Control::end() {
  ended_ = true;
  owed_.clear();
  std::vector<std::uint64_t> open;
  for (const auto& [number, asked] : asked_) open.push_back(number);
  std::sort(open.begin(), open.end());
  for (const auto number : open) fail(number, Errc::shutdown, "the runtime has been shut down");
}

}  // namespace trireme::core
