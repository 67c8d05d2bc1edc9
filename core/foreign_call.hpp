#pragma once

#include <cstdint>

#include "core/local_actor.hpp"
#include "core/tasks.hpp"

namespace trireme::core {

/// A call or construction that came over the wire, decoded by the runner.
struct ForeignCall final : detail::MailItem {
  ForeignCall(Tasks& t, Context& c, Rank caller) : MailItem(&kOps), tasks(t), context(c), from(caller) {}
  Tasks& tasks;
  Context& context;
  Rank from;
  ObjectId id;  ///< of the outcome; none for a construction
  bool construct = false;
  std::uint64_t returns = 0;  ///< how many values of a result that is split, 0: one that is not
  std::uint64_t function = 0;
  detail::Value args;

 private:
  struct Finisher;
  void answer(Outcome outcome) { answer(tasks, context, id, std::move(outcome)); }
  static void answer(Tasks& tasks, Context& context, ObjectId id, Outcome outcome);
  static Ran run(MailItem* item, detail::LocalActor& actor);
  static void fail(MailItem* item, const detail::ErrorInfo& error);
  static const Ops kOps;
};

}  // namespace trireme::core
