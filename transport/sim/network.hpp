#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/clock.hpp"
#include "base/ids.hpp"
#include "base/rng.hpp"
#include "transport/transport.hpp"

namespace trireme::transport {

struct SimOptions {
  std::uint32_t ranks = 1;
  std::uint64_t seed = 1;

  Nanos latency = 2 * kMicrosecond;  ///< of every frame
  Nanos jitter = 1 * kMicrosecond;   ///< uniform addition per frame
  double bytes_per_ns = 10;          ///< what a rank sends leaves one after the other at this rate
  /// Frames of a pair may overtake each other. Off: a pair is FIFO.
  bool reorder = true;
  /// With `reorder`, this share of frames waits up to `straggle` more.
  double straggle_share = 0.02;
  Nanos straggle = 50 * kMicrosecond;
  /// Added per frame, say by the distance of two ranks in the machine. May be empty.
  std::function<Nanos(Rank from, Rank to)> distance = {};

  std::size_t frame_bytes_max = 8U << 10U;
  /// Sent and not yet delivered, per pair and direction; above it send() answers would_block.
  std::size_t credit_bytes = 1U << 20U;

  /// From a rank's death until a peer's on_lost, uniform and per peer.
  Nanos detect_min = 10 * kMicrosecond;
  Nanos detect_max = 1 * kMillisecond;
  /// Whether a frame under way from a rank that dies still arrives.
  double survive_share = 0.5;
  /// Who hears of a death: every rank with a backend, or only those that exchanged something with the dead.
  bool tell_everyone = true;
};

/// A network, a clock and a queue of events in one thread: the same seed and calls give the same run.
///
/// A driver makes one backend (under a Router) per rank, sets on_wake() to poll that rank's router, and steps.
/// A rank costs nothing until its backend is made, a pair nothing until it exchanges a frame: 100,000 ranks fit a
/// laptop.
///
/// Threading: one owner, including all backends.
/// Errors:    as Backend. Misuse is a broken invariant.
/// Units:     Nanos of virtual time; bytes.
/// Lifetime:  outlives its backends. A callback may do everything except step() and run_*(), and destroying the backend
///            that it runs in.
class SimNetwork final : public Clock {
 public:
  using Callback = std::function<void()>;

  explicit SimNetwork(SimOptions options);
  ~SimNetwork() override;
  SimNetwork(const SimNetwork&) = delete;
  SimNetwork& operator=(const SimNetwork&) = delete;

  Nanos now() const override;
  Rng& rng();  ///< for the driver's own choices: part of the seeded run
  const SimOptions& options() const;

  /// At most one living backend per rank.
  std::unique_ptr<Backend> make_backend(Rank rank);
  /// Called from step() when something arrived for the rank: poll it. Not called while the rank is paused or dead.
  void on_wake(Rank rank, Callback wake);

  /// Runs `call` at `at` (at once if that is past). With a rank: later when it is paused, never once it is dead or its
  /// backend is gone.
  void schedule(Nanos at, Callback call);
  void schedule(Rank rank, Nanos at, Callback call);

  /// Processes the next event; false when there is none.
  bool step();
  /// All events up to and including `at`; now() is then `at`.
  void run_until(Nanos at);
  /// Until no event is left or `events_max` were processed. True when none is left.
  bool run_until_idle(std::uint64_t events_max = UINT64_MAX);

  /// The rank stops for ever: it is neither woken nor called; its peers learn after their detection delay. Its memory
  /// may be freed at once.
  void kill(Rank rank);
  /// The rank stands still (a long garbage collection, a stopped process); what arrives waits.
  void pause(Rank rank);
  void resume(Rank rank);
  bool alive(Rank rank) const;
  bool paused(Rank rank) const;

  struct Stats {
    std::uint64_t events = 0, frames = 0, frame_bytes = 0, frames_dropped = 0, gets = 0, get_bytes = 0;
  };
  const Stats& stats() const;

 private:
  friend class SimBackend;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::transport
