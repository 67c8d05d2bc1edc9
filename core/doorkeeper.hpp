#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "core/context.hpp"
#include "core/membership.hpp"
#include "transport/bootstrap.hpp"

namespace trireme::core {

/// Rank 0 of a job with seats: lets late ranks in through the bootstrap's door, one after the other, in a thread of its
/// own that sleeps while nobody comes.
///
/// Threading: made and ended by one thread. Lifetime: membership, host and the door's world outlive it; the engine
/// works from before the first guest until after the end.
class Doorkeeper {
 public:
  /// `first`, `second`: what all ranks said in the two rounds of a start, by rank, empty where nobody is; called under
  /// the token.
  using Records = std::function<std::vector<Bytes>()>;
  Doorkeeper(std::unique_ptr<transport::Door> door, Host& host, Membership& membership, Records first, Records second);
  /// Closes the door: who is not in by then stays outside.
  ~Doorkeeper();

 private:
  void run();
  void let_in(transport::Guest& guest);
  /// Runs `step` under the token and waits for it.
  template <class F>
  void under_token(F step);

  std::unique_ptr<transport::Door> door_;
  Host& host_;
  Membership& membership_;
  Records first_, second_;
  std::thread thread_;
};

}  // namespace trireme::core
