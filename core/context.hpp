#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/check.hpp"
#include "base/clock.hpp"
#include "base/rng.hpp"
#include "core/message.hpp"
#include "objstore/store.hpp"
#include "scheduler/executor.hpp"
#include "scheduler/progress.hpp"
#include "transport/router.hpp"
#include "trireme/detail/cell.hpp"

namespace trireme::core {

/// The threads of a rank as the protocol sees them: compute threads and progress token in production, an event queue in
/// simulation.
class Host {
 public:
  virtual ~Host() = default;
  virtual void push(scheduler::Work* work) = 0;
  virtual void push_back_of_line(scheduler::Work* work) = 0;
  virtual bool pop_if_newest(scheduler::Work* work) = 0;
  /// work->claim() for running it in place.
  virtual bool claim(scheduler::Work* work) { return work->claim(); }
  virtual void post(scheduler::Command* command) = 0;
  virtual bool holds_token() const = 0;
  /// False in simulation, where nothing may block.
  virtual bool can_wait() const = 0;
  /// False when the deadline passed.
  virtual bool wait(scheduler::WaitPoint& point, Nanos deadline) = 0;
  /// False when the running stack is too short for one more task on top.
  virtual bool has_stack() const { return true; }
  virtual void begin_in_place() = 0;
  virtual void end_in_place() = 0;
  /// Compute threads that stay away because tasks hold more than one CPU. Under the token.
  virtual void withhold(unsigned threads) { (void)threads; }
  virtual std::size_t queued() const = 0;
  /// Compute threads that have nothing to run: they are about to take what is queued.
  virtual unsigned idle_threads() const = 0;
  virtual std::size_t take_exportable(std::size_t count, std::vector<scheduler::Work*>& out) = 0;
  /// Memory of a same-node rank's arena mapped here; empty when it is not.
  virtual BytesView peer_memory(Rank rank) const = 0;
  /// The job cannot go on (rank 0 is lost, this rank was declared dead): ends the process.
  virtual void fatal(const std::string& why) = 0;
};

/// What every part of the protocol needs. One per rank.
///
/// Threading: under the token, except `self`, `size`, `host`, `store`, `clock` and `starters`, which never change.
struct Context {
  Rank self = 0;
  std::uint32_t size = 1;
  std::string host_name;
  transport::Router* router = nullptr;
  const Clock* clock = nullptr;
  Host* host = nullptr;
  objstore::Store* store = nullptr;
  Rng rng{0};
  /// Functions whose invocations only start something in another process and never block: tasks of them that have their
  /// resources, and constructions, begin under the token and need no compute thread. Set before the first call.
  std::unordered_set<std::uint64_t> starters;

  bool alive(Rank rank) const { return rank == self || router->alive(rank); }

  /// Begins a message in the shared scratch space; finish with send(). One at a time.
  Writer begin(MessageType type) {
    TRIREME_CHECK(!building, "a message is begun while another is being built");
    building = true;
    scratch.clear();
    scratch.push_back(static_cast<std::byte>(type));
    return Writer(scratch);
  }
  void send(Rank to) {
    building = false;
    router->send(to, scratch);
  }

  Bytes scratch;
  bool building = false;
};

/// Runs `step` under the token, from any thread. Allocates; not for hot paths.
template <class F>
void post(Host& host, F step) {
  struct Posted : scheduler::Command {
    explicit Posted(F f) : step(std::move(f)) {}
    F step;
  };
  auto* posted = new Posted(std::move(step));
  posted->run = [](scheduler::Command* command) {
    std::unique_ptr<Posted> self(static_cast<Posted*>(command));
    self->step();
  };
  host.post(posted);
}

inline detail::ErrorInfo runtime_error(const Context& context, Errc code, std::string message) {
  detail::ErrorInfo info;
  info.code = code;
  info.message = std::move(message);
  info.rank = context.self;
  info.host = context.host_name;
  return info;
}

void encode_error(Writer& out, const detail::ErrorInfo& error);
detail::ErrorInfo decode_error(Reader& in);

}  // namespace trireme::core
