#pragma once

#include "objstore/planner.hpp"
#include "objstore/puller.hpp"

namespace trireme::objstore {

/// Object transfer of one rank: its own pulls, its followers, and the broadcasts of the objects that it owns.
///
/// Threading: under the token.
/// Errors:    on_message() is `malformed` for bytes that make no sense; pulls as Puller.
/// Lifetime:  as Puller.
class Transfer {
 public:
  Transfer(Rank self, Store& store, TransferEnv& env, TransferOptions options = {});

  /// Reads the object into this rank's store as a secondary copy; see Puller::pull.
  void pull(ObjectId id, const Source& source, bool held, Puller::Done done) {
    puller_.pull(id, source, held, std::move(done));
  }
  Status on_message(Rank from, BytesView message);
  void on_lost(Rank dead);

  const Puller& puller() const { return puller_; }
  const Planner& planner() const { return planner_; }

 private:
  Planner planner_;
  Puller puller_;
};

}  // namespace trireme::objstore
