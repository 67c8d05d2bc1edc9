#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "trireme/error.hpp"

namespace trireme::detail {

struct LocalActor;

/// Reference arguments of an item that are not here yet. Outlives the item when the actor is killed first.
struct MailDeps {
  std::atomic<std::uint32_t> left{0};
};

/// Something an actor does in turn: a call from this rank, a call that came over the wire, the end.
///
/// Threading: built by one thread, linked into the mailbox, then owned by the actor's runner.
struct MailItem {
  enum class Ran : std::uint8_t { done, suspended };
  struct Ops {
    Ran (*run)(MailItem*, LocalActor&);               ///< executes, answers, gives the item up unless suspended
    void (*fail)(MailItem*, const ErrorInfo& error);  ///< answers with the error and gives the item up
  };
  explicit MailItem(const Ops* ops) : mail_ops(ops) {}

  const Ops* mail_ops;
  MailItem* mail_next = nullptr;
  /// Reference arguments that are not here yet; the runner waits at an item that has some (calls stay in order).
  std::shared_ptr<MailDeps> mail_deps;
};

}  // namespace trireme::detail
