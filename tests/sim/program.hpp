#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/sim/world.hpp"
#include "trireme/actor.hpp"
#include "trireme/async.hpp"
#include "trireme/group.hpp"
#include "trireme/task.hpp"

namespace trireme::sim {

inline std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t z = (a ^ (b * 0x9E3779B97F4A7C15ULL)) + 0x7f4a7c15ULL;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31U);
}

/// Every value of the programs: its first word says what the others (few, or enough for an object of its own) must be.
using Blob = std::vector<std::uint64_t>;
Blob make_blob(std::uint64_t value);
/// The value; a blob that is not what make_blob made is noted as a failure.
std::uint64_t check_blob(const Blob& blob);

/// What user code throws on purpose: the value is the text.
struct Refusal : std::runtime_error {
  explicit Refusal(std::uint64_t v) : std::runtime_error(std::to_string(v)) {}
};

/// What a task or a call must give, computed without the runtime.
struct Outcome {
  bool failed = false;
  std::uint64_t value = 0;
  bool operator==(const Outcome&) const = default;
};

/// What a task is about. `value` decides all that it does; `ticket` is new for every submission.
struct Order {
  std::uint64_t value = 0;
  std::uint64_t ticket = 0;
  std::uint32_t depth = 0;
};

/// A call: who makes it and as the how-manyeth of his to that actor.
struct CallOrder {
  std::uint64_t value = 0;
  std::uint64_t ticket = 0;
  std::uint64_t actor = 0;
  std::uint64_t caller = 0;
  std::uint64_t number = 0;
};

/// What happened, over all ranks, as nobody in the job could know it.
class Ledger {
 public:
  explicit Ledger(World& w) : world(w) {}
  World& world;

  std::uint64_t ticket(std::uint32_t retries);
  void ran(std::uint64_t ticket);
  /// The program was told that it was cancelled before it began.
  void never_began(std::uint64_t ticket);
  std::uint64_t caller() { return ++callers_; }
  std::uint64_t actor_key() { return ++actors_; }
  void called(const CallOrder& order, std::uint64_t instance);
  /// A task spawns the actor: once more when it runs again, after a rank died.
  void opens(std::uint64_t key);
  void built(std::uint64_t key);
  void fail(std::string text);

  std::uint64_t instances = 0;
  std::map<Rank, std::int64_t> objects;  ///< living actor objects
  std::uint64_t runs = 0, calls = 0;

 private:
  struct Ticket {
    std::uint32_t retries = 0;
    std::uint32_t runs = 0;
    bool never_began = false;
  };
  std::vector<Ticket> tickets_;
  std::uint64_t callers_ = 0, actors_ = 0;
  std::unordered_map<std::uint64_t, std::uint64_t> last_call_;
  std::unordered_map<std::uint64_t, std::uint32_t> opened_, built_;
};
extern Ledger* ledger;

/// Numbers the calls of one thread of control.
class Caller {
 public:
  Caller() : id_(ledger->caller()) {}
  CallOrder order(std::uint64_t actor, std::uint64_t value) {
    return {value, ledger->ticket(0), actor, id_, ++numbers_[actor]};
  }

 private:
  std::uint64_t id_;
  std::map<std::uint64_t, std::uint64_t> numbers_;
};

class Account {
 public:
  Account(std::uint64_t value, std::uint64_t key, std::uint32_t at_once);
  ~Account();
  Account(const Account&) = delete;
  Blob add(CallOrder order);
  Blob add_to(CallOrder order, const Blob& to);
  Blob add_both(CallOrder order, const Blob& a, Blob b);
  Async<Blob> add_later(CallOrder order, Ref<Blob> to);
  Ref<Blob> delegate(CallOrder order);
  Blob refuse(CallOrder order);
  void keep(CallOrder order, Ref<Blob> what);
  std::uint64_t key(CallOrder order) const;

 private:
  struct Visit;
  const std::uint64_t key_;
  const std::uint64_t instance_;
  const std::uint32_t at_once_;
  std::uint32_t inside_ = 0;
  Rank rank_;
  std::vector<Ref<Blob>> kept_;
};

Outcome eval_add(std::uint64_t value);
Outcome eval_add_to(std::uint64_t value, Outcome to);
Outcome eval_add_both(std::uint64_t value, Outcome a, Outcome b);

// Tasks. What each gives is in eval_*.
Blob leaf(Order order);
Blob combine(Order order, const Blob& a, Blob b);
Blob sum(Order order, const std::vector<Ref<Blob>>& parts);
Async<Blob> sum_later(Order order, std::vector<Ref<Blob>> parts);
std::tuple<Blob, Blob> halves(Order order);
std::vector<Ref<Blob>> fan(Order order);
Ref<Blob> hand_on(Order order, Ref<Blob> what);
Blob tree(Order order);
Async<Blob> tree_later(Order order);
Ref<Blob> branch(Order order);
Blob use_account(Order order, Actor<Account> account, std::uint64_t key);
Async<Blob> use_account_later(Order order, Actor<Account> account, std::uint64_t key);
Actor<Account> open_account(Order order, std::uint64_t key);

Outcome eval_leaf(std::uint64_t value);
Outcome eval_combine(std::uint64_t value, Outcome a, Outcome b);
Outcome eval_sum(std::uint64_t value, const std::vector<Outcome>& parts);
std::pair<Outcome, Outcome> eval_halves(std::uint64_t value);
std::vector<Outcome> eval_fan(std::uint64_t value);
Outcome eval_tree(std::uint64_t value, std::uint32_t depth);
Outcome eval_use(std::uint64_t value);

Order new_order(std::uint64_t value, std::uint32_t depth = 0, std::uint32_t retries = TaskOptions{}.max_retries);
void compute(Rng& rng);
Outcome outcome_of(const Exception& error);

}  // namespace trireme::sim
