#include "core/holders.hpp"

#include <optional>
#include <utility>
#include <vector>

namespace trireme::core {

namespace {

// Long enough that a rank whose bundles are in use, and become free, is not left for another in the same case.
constexpr Nanos kStuckAfter = 50 * kMillisecond;
// Of equal demands at a time: who waits elsewhere for nothing is soon gone from here, and a job that is full of long
// tasks does not send its whole queue round.
constexpr std::uint32_t kStuckBatch = 16;

}  // namespace

scheduler::HolderId Holders::offer(const scheduler::Demand& demand, std::int32_t bundle, std::uint32_t bounced,
                                   std::function<void(Answer)> start) {
  const auto holder = next_++;
  std::optional<scheduler::BundleKey> key;
  const bool any = bundle >= 0 && demand.bundle < 0;
  if (bundle >= 0)
    key = scheduler::BundleKey{demand.group, any ? scheduler::BundleKey::kAny : static_cast<std::uint32_t>(bundle)};
  using Offer = scheduler::PlacementQueue::Offer;
  const auto answer = queue_.offer(holder, demand.resources, key, bounced, context_.clock->now());
  switch (answer) {
    case Offer::start:
      start(Answer::granted);
      break;
    case Offer::queued:
      waiting_.emplace(holder, std::move(start));
      if (any && bounced != UINT32_MAX && look_for_stuck_at_ == kForever)
        look_for_stuck_at_ = context_.clock->now() + kStuckAfter;
      break;
    case Offer::bounce:
      start(Answer::elsewhere);
      break;
    case Offer::refused:
      start(Answer::refused);
      break;
  }
  context_.host->withhold(pool_.threads_withheld());
  return holder;
}

void Holders::run_timers() {
  if (look_for_stuck_at_ == kForever) return;
  const auto now = context_.clock->now();
  if (look_for_stuck_at_ > now) return;
  std::vector<scheduler::HolderId> stuck;
  const bool others = queue_.take_stuck(now - kStuckAfter, kStuckBatch, stuck);
  look_for_stuck_at_ = others ? now + kStuckAfter : kForever;  // those that come back here set it anew
  for (const auto holder : stuck) {
    auto node = waiting_.extract(holder);
    if (!node.empty()) node.mapped()(Answer::elsewhere);
  }
}

void Holders::when_revoked(scheduler::HolderId holder, std::function<void()> end) {
  if (const auto bundle = pool_.bundle_of(holder))
    revocable_.insert_or_assign(holder, std::pair(*bundle, std::move(end)));
}

void Holders::release(scheduler::HolderId holder) {
  revocable_.erase(holder);
  if (!pool_.holds(holder)) return;
  pool_.release(holder);
  freed();
}

void Holders::lend_cpu(scheduler::HolderId holder) {
  if (!pool_.holds(holder)) return;
  pool_.lend_cpu(holder);
  freed();
}

void Holders::reclaim_cpu(scheduler::HolderId holder) {
  if (!pool_.holds(holder)) return;
  pool_.reclaim_cpu(holder);
  context_.host->withhold(pool_.threads_withheld());
}

void Holders::drain() {
  std::vector<scheduler::HolderId> ready;
  queue_.drain(context_.clock->now(), ready);
  for (const auto holder : ready) {
    auto node = waiting_.extract(holder);
    if (!node.empty()) node.mapped()(Answer::granted);
  }
  context_.host->withhold(pool_.threads_withheld());
}

void Holders::revoke(scheduler::BundleKey bundle) {
  std::vector<scheduler::HolderId> cancelled;
  queue_.cancel_bundle(bundle, cancelled);
  for (const auto holder : cancelled) {
    auto node = waiting_.extract(holder);
    if (!node.empty()) node.mapped()(Answer::refused);
  }
  std::vector<std::function<void()>> ends;
  std::erase_if(revocable_, [&](auto& entry) {
    if (!(entry.second.first == bundle)) return false;
    ends.push_back(std::move(entry.second.second));
    return true;
  });
  for (const auto& end : ends) end();
  // The reservation goes once this returns; what it held is then there for those who wait.
  post(*context_.host, [this] { freed(); });
}

void Holders::freed() {
  drain();
  if (on_freed) on_freed();
}

void Holders::drop_waiting() {
  // They go when nothing here can be found any more: what they hold may lead back.
  const auto waiting = std::exchange(waiting_, {});
  const auto revocable = std::exchange(revocable_, {});
}

}  // namespace trireme::core
