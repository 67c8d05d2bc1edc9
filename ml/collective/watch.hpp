#pragma once

#include <functional>
#include <memory>

#include "base/result.hpp"

namespace trireme::ml {

/// Is told that a process has ended: on the watching thread, or by watch_process() if it has ended by then.
class DeathListener {
 public:
  virtual ~DeathListener() = default;
  virtual void on_death(std::uint32_t member) = 0;
};

/// Calls `listener` once when process `pid` ends or has ended, unless the listener is gone by then. One thread for the
/// whole process, asleep until something dies; started by the first call, also again in a forked child.
///
/// Threading: any thread. Errors: io, where pidfd_open does not work (before Linux 5.3) or descriptors run out.
Status watch_process(int pid, std::weak_ptr<DeathListener> listener, std::uint32_t member);

}  // namespace trireme::ml
