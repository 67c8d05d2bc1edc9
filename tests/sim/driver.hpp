#pragma once

#include <array>
#include <string>
#include <vector>

#include "tests/sim/errand.hpp"
#include "tests/sim/inquiry.hpp"
#include "tests/sim/program.hpp"

namespace trireme::sim {

/// How errands ended that somebody cancelled.
struct Cancels {
  std::uint64_t never_began = 0, interrupted = 0, value = 0;
};

/// The program of rank 0: random submissions, calls, drops and waits, each with the outcome that it must have.
///
/// Lifetime: made and destroyed by the strand of rank 0.
class Driver {
 public:
  /// `errands`: among the other actions, errands are submitted, cancelled, looked at. `visits`: other ranks name and
  /// look up actors, use placement groups, and have tasks that wait while they hold CPUs. `chores`: half of the errands
  /// are. `inquiries`: ranks ask each other beside the work. `late`: a rank that is sure to come and to stay; kNoRank
  /// without one.
  Driver(World& world, std::uint64_t seed, bool errands, bool visits, bool chores, bool inquiries, Rank late,
         std::vector<std::string>& log);
  void run();
  const Cancels& cancels() const { return cancels_; }

 private:
  struct Held {
    Ref<Blob> ref;
    Outcome outcome;
    std::set<std::uint64_t> actors;  ///< outcomes that may be "the actor died" instead, if one of these is killed
    std::string what;
    std::uint64_t ticket = 0;  ///< of an errand
    std::uint64_t key = 0;
    std::set<std::uint64_t> keys;  ///< outcomes that may be "cancelled" instead, if one of these errands is cancelled
    bool chore = false;
  };
  struct Seat {
    Ref<detail::Nothing> desk;
    std::uint64_t key = 0;
    bool chores = false;
  };
  struct Hired {
    Actor<Account> actor;
    std::uint64_t key = 0;
    std::uint64_t value = 0;
    std::uint32_t at_once = 1;
    bool broken = false;  ///< its constructor throws
    bool detached = false;
    std::string name;
  };

  void act();
  void submit_tree();
  void submit_many();
  void submit_placed();
  void submit_with_held();
  void put_one();
  void hire();
  void call();
  void lend_actor();
  void let_go();
  void look_up();
  void group();
  void check_one();
  void check(const Held& held);

  // driver_errands.cpp; with draws of their own, so that programs without errands are what they were.
  void errand();
  void send_errand();
  void send_to_desk();
  void send_through_another_rank();
  void use_errand();
  void cancel_one();
  void end_desk();
  void check_errand(const Held& held);
  // driver_visits.cpp; likewise.
  void visit();
  void open_elsewhere();
  void find_elsewhere();
  void end_elsewhere();
  void group_elsewhere();
  void hold_and_wait();
  TaskOptions somewhere();

  struct Asked {
    Rank to = kNoRank;
    Inquiry inquiry;
    std::vector<Ref<Blob>> refs;
    std::shared_ptr<Inquired> point;
  };

  void add_errand(Ref<Blob> ref, const Errand& errand, const std::vector<const Held*>& deps, std::string what);
  Errand new_errand(bool chore);
  bool draw_chore();

  // driver_inquiries.cpp; likewise.
  void inquire_somewhere();
  void hear_answer();
  // driver_late.cpp; likewise.
  void ask_late();
  std::vector<const Held*> pick_deps();
  Held& any();
  void add(Ref<Blob> ref, Outcome outcome, std::set<std::uint64_t> actors, std::string what);
  Order order(std::uint64_t value, std::uint32_t depth = 0);
  void note(std::string text) { log_.push_back(std::move(text)); }

  World& world_;
  Rng rng_;
  std::vector<std::string>& log_;
  Caller caller_;
  std::vector<Held> held_;
  std::vector<Hired> hired_;
  std::vector<PlacementGroup> groups_;
  std::set<std::uint64_t> killed_;
  const bool with_errands_;
  Rng errand_rng_;
  const bool with_chores_;
  Rng chore_rng_;
  const bool with_visits_;
  Rng visit_rng_;
  std::vector<Held> errands_;
  std::vector<Seat> desks_;
  std::set<std::uint64_t> cancelled_;
  Cancels cancels_;
  const bool with_inquiries_;
  Rng inquiry_rng_;
  std::vector<Asked> asked_;
  const Rank late_;
  Rng late_rng_;
  std::vector<Actor<Account>> late_actors_;  ///< one that waits for its place ends with its last handle
  std::vector<PlacementGroup> late_groups_;
  std::uint32_t seats_ = 0;
  std::uint32_t names_ = 0;
};

/// One seed from its beginning to its end. Empty when all is well; else what is wrong, and the program's shape.
struct Verdict {
  std::vector<std::string> failures;
  std::string world;
  std::string traffic;  ///< messages by type
  decltype(World::messages) messages{};
  std::vector<std::string> shape;
  std::uint64_t events = 0, frames = 0, runs = 0, calls = 0;
  std::uint32_t deaths = 0, joins = 0;
  Cancels cancels;
};
enum class Deaths : std::uint8_t { by_seed, none };
/// Errands, and with them cancelling: in half of the seeds.
enum class Errands : std::uint8_t { by_seed, none };
/// Other ranks' part in the program: in half of the seeds.
enum class Visits : std::uint8_t { by_seed, none };
/// Ranks that join after the start: in a third of the seeds.
enum class Joins : std::uint8_t { by_seed, none, always };
/// Chores among the errands: in two thirds of the seeds that have errands.
enum class Chores : std::uint8_t { by_seed, none };
/// Questions beside the work: in half of the seeds.
enum class Inquiries : std::uint8_t { by_seed, none };
Verdict run_seed(std::uint64_t seed, Deaths deaths, Errands errands, Visits visits, Joins joins, Chores chores,
                 Inquiries inquiries);

}  // namespace trireme::sim
