#include "transport/router/inbound.hpp"

#include <fmt/format.h>

#include <utility>

#include "transport/router.hpp"

namespace trireme::transport {

std::string Inbound::keep(std::uint32_t number, std::uint32_t ahead, BytesView frame) {
  if (static_cast<std::int32_t>(ahead) < 0) return "its number was used before";
  if (ahead > kFramesAheadMax)
    return fmt::format("it is {} frames ahead of its turn, {} are allowed", ahead, kFramesAheadMax);
  if (ahead_bytes_ + frame.size() > kBytesAheadMax)
    return fmt::format("more than {} bytes arrived ahead of their turn", kBytesAheadMax);
  const auto [at, added] = ahead_.try_emplace(number, frame.begin(), frame.end());
  if (!added) return "its number was used before";
  ahead_bytes_ += frame.size();
  return {};
}

Bytes Inbound::take(std::uint32_t number) {
  auto node = ahead_.extract(number);
  ahead_bytes_ -= node.mapped().size();
  return std::move(node.mapped());
}

std::string Inbound::begin(std::uint64_t total, BytesView fragment) {
  if (assembling()) return "a message begins inside another";
  if (total > Router::kMessageBytesMax)
    return fmt::format("a message of {} bytes was announced, {} are allowed", total, Router::kMessageBytesMax);
  if (fragment.empty() || fragment.size() >= total)
    return fmt::format("a first fragment of {} bytes belongs to a message of {}", fragment.size(), total);
  total_ = total;
  // Untouched memory costs nothing: an announcement alone does not make this rank grow.
  partial_.reserve(total);
  partial_.assign(fragment.begin(), fragment.end());
  return {};
}

std::string Inbound::append(BytesView fragment) {
  if (!assembling()) return "a fragment continues no message";
  if (fragment.empty() || fragment.size() > total_ - partial_.size())
    return fmt::format("a fragment of {} bytes came where {} were missing", fragment.size(), total_ - partial_.size());
  partial_.insert(partial_.end(), fragment.begin(), fragment.end());
  return {};
}

Bytes Inbound::take_message() {
  total_ = 0;
  return std::exchange(partial_, {});
}

}  // namespace trireme::transport
