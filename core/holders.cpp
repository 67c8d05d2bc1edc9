#include "core/holders.hpp"

#include <optional>
#include <utility>
#include <vector>

namespace trireme::core {

scheduler::HolderId Holders::offer(const scheduler::Demand& demand, std::int32_t bundle, std::uint32_t bounced,
                                   std::function<void(bool)> start, bool* bounce) {
  const auto holder = next_++;
  std::optional<scheduler::BundleKey> key;
  if (bundle >= 0) key = scheduler::BundleKey{demand.group, static_cast<std::uint32_t>(bundle)};
  using Offer = scheduler::PlacementQueue::Offer;
  const auto answer = queue_.offer(holder, demand.resources, key, bounced, context_.clock->now());
  switch (answer) {
    case Offer::start:
      start(true);
      break;
    case Offer::queued:
      waiting_.emplace(holder, std::move(start));
      break;
    case Offer::bounce:
      if (bounce != nullptr) *bounce = true;
      break;
    case Offer::refused:
      start(false);
      break;
  }
  context_.host->withhold(pool_.threads_withheld());
  return holder;
}

void Holders::when_revoked(scheduler::HolderId holder, scheduler::BundleKey bundle, std::function<void()> end) {
  revocable_.insert_or_assign(holder, std::pair(bundle, std::move(end)));
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
    if (!node.empty()) node.mapped()(true);
  }
  context_.host->withhold(pool_.threads_withheld());
}

void Holders::revoke(scheduler::BundleKey bundle) {
  std::vector<scheduler::HolderId> cancelled;
  queue_.cancel_bundle(bundle, cancelled);
  for (const auto holder : cancelled) {
    auto node = waiting_.extract(holder);
    if (!node.empty()) node.mapped()(false);
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
