#include <fmt/format.h>

#include "tests/sim/driver.hpp"
#include "trireme/runtime.hpp"

namespace trireme::sim {

void Driver::inquire_somewhere() {
  auto& rng = inquiry_rng_;
  // A rank that comes later may not be known yet to who asks it.
  const auto to = static_cast<Rank>(rng.below(world_.size() - world_.options.seats));
  Asked asked{to, {rng.next(), static_cast<Nanos>(rng.below(200'000)) - 100'000}, {}, {}};
  for (auto n = rng.below(3); n > 0 && !held_.empty(); --n) asked.refs.push_back(held_[rng.below(held_.size())].ref);
  if (rng.chance(0.6)) {
    note(fmt::format("ask rank {} with {} references", to, asked.refs.size()));
    asked.point = inquire(to, asked.inquiry, asked.refs);
    asked_.push_back(std::move(asked));
    if (rng.chance(0.5)) hear_answer();
    return;
  }
  TaskOptions options;
  options.placement =
      Placement::on(static_cast<Rank>(rng.below(world_.size() - world_.options.seats)), rng.chance(0.5));
  options.max_retries = 0;
  const auto what = fmt::format("rank {} asks rank {}", options.placement.rank, to);
  note(what);
  const auto asks = submit_with<&inquire_for>(options, new_order(0, 0, 0), to, asked.inquiry, asked.refs);
  try {
    add(get(asks), {false, eval_inquiry(asked.inquiry, to)}, {}, what);
  } catch (const Exception& error) {
    // What is wrong with it is noted where it is asked.
    if (world_.deaths == 0 && error.message().find("answer questions of topic") == std::string::npos)
      ledger->fail(fmt::format("{}: {}", what, error.what()));
  }
}

void Driver::hear_answer() {
  if (asked_.empty()) return;
  const auto at = inquiry_rng_.below(asked_.size());
  std::swap(asked_[at], asked_.back());
  const auto asked = std::move(asked_.back());
  asked_.pop_back();
  try {
    add(answer_of(*asked.point, asked.inquiry, asked.to, asked.refs), {false, eval_inquiry(asked.inquiry, asked.to)},
        {}, fmt::format("answer of rank {}", asked.to));
  } catch (const Exception&) {
    // What is wrong with it is noted.
  }
}

}  // namespace trireme::sim
