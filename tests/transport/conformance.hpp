#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "transport/transport.hpp"

namespace trireme::transport::testing {

/// N connected ranks of one backend in this process. conformance.cpp holds the cases; a program of its own per backend
/// links it with a file that defines make_world().
///
/// Lifetime: outlives its backends.
class World {
 public:
  virtual ~World() = default;
  /// The rank's backend, exposed and connected with all others. Once per rank.
  virtual std::unique_ptr<Backend> take(Rank rank) = 0;
  /// The memory that the rank exposes.
  virtual std::span<std::byte> memory(Rank rank) = 0;
  /// Lets time pass; the simulation steps here.
  virtual void progress() {}
  /// Closes and ends a rank's backend. `step` polls the others: where a connection needs both ends to deliver what is
  /// under way, the close runs beside them.
  virtual void close(std::unique_ptr<Backend> backend, std::int64_t grace_ns, const std::function<void()>& step) {
    (void)step;
    backend->close(grace_ns);
  }
};

std::unique_ptr<World> make_world(std::uint32_t ranks, std::size_t exposed_bytes);

}  // namespace trireme::transport::testing
