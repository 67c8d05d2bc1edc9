#include "core/membership.hpp"

#include <fmt/format.h>

#include "base/log.hpp"

namespace trireme::core {

void Membership::on_lost(Rank peer, std::string_view why) {
  if (stopping_ || dead_[peer]) return;
  TRIREME_LOG(info, "lost rank {}: {}", peer, why);
  if (peer == 0)
    return context_.host->fatal(fmt::format("rank 0, which runs the program, is lost ({}): the job ends", why));
  if (context_.self == 0) return declare(peer, why);
  auto out = context_.begin(MessageType::death_report);
  out.varint(peer);
  out.text(why);
  context_.send(0);
}

void Membership::on_report(Rank from, Reader& in) {
  const auto dead = static_cast<Rank>(in.varint());
  const auto why = in.text();
  if (!in.done() || dead >= context_.size || dead == 0 || context_.self != 0) return in.fail();
  if (stopping_ || dead_[dead] || dead_[from]) return;
  declare(dead, fmt::format("{} (seen by rank {})", why, from));
}

void Membership::declare(Rank dead, std::string_view why) {
  ++epoch_;
  TRIREME_LOG(warning, "rank {} is dead: {}", dead, why);
  for (Rank rank = 1; rank < context_.size; ++rank) {
    // The dead rank is told as well: should it live behind a broken link, it stops.
    if (dead_[rank]) continue;
    auto out = context_.begin(MessageType::death);
    out.varint(epoch_);
    out.varint(dead);
    context_.send(rank);
  }
  bury(dead);
}

void Membership::on_death(Rank from, Reader& in) {
  const auto epoch = in.varint();
  const auto dead = static_cast<Rank>(in.varint());
  if (!in.done() || from != 0 || dead >= context_.size) return in.fail();
  epoch_ = epoch;
  if (dead == context_.self) return context_.host->fatal("rank 0 declared this rank dead: its connection was lost");
  if (!dead_[dead]) bury(dead);
}

void Membership::bury(Rank dead) {
  dead_[dead] = true;
  --alive_;
  context_.router->forget(dead);
  if (on_dead) on_dead(dead);
}

}  // namespace trireme::core
