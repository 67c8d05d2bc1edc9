#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "core/context.hpp"

namespace trireme::core {

/// Who is alive, as everybody agrees: rank 0 decides.
///
/// A rank that loses a peer reports it to rank 0, which declares the death once, under a growing epoch, to all. Only
/// the declaration has consequences, so every rank drops the same peers, and a rank that is cut off but alive learns
/// that it was given up and stops. Without rank 0, which runs the program, there is no job: the others end.
///
/// Threading: under the token.
class Membership {
 public:
  explicit Membership(Context& context) : context_(context), dead_(context.size, false) {}
  /// Runs once per dead rank, after the router dropped it.
  std::function<void(Rank)> on_dead;

  void on_lost(Rank peer, std::string_view why);
  void on_report(Rank from, Reader& in);
  void on_death(Rank from, Reader& in);
  std::uint64_t epoch() const { return epoch_; }
  std::uint32_t alive_count() const { return alive_; }
  /// Losses no longer matter: everybody leaves.
  void stop() { stopping_ = true; }

 private:
  void declare(Rank dead, std::string_view why);
  void bury(Rank dead);

  Context& context_;
  std::vector<bool> dead_;
  std::uint64_t epoch_ = 0;
  std::uint32_t alive_ = context_.size;
  bool stopping_ = false;
};

}  // namespace trireme::core
