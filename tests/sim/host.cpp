#include "tests/sim/host.hpp"

#include <algorithm>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#endif

#include "core/current.hpp"
#include "core/running.hpp"

namespace trireme::sim {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::size_t kStackBytes = 1 << 20;
#else
constexpr std::size_t kStackBytes = 256 << 10;
#endif

namespace {
Strand* running_strand = nullptr;
}  // namespace

#if defined(__SANITIZE_ADDRESS__)
Unaccounted::Unaccounted(bool on) : on_(on) {
  if (on_) __lsan_disable();
}
Unaccounted::~Unaccounted() {
  if (on_) __lsan_enable();
}
#else
Unaccounted::Unaccounted(bool on) : on_(on) {}
Unaccounted::~Unaccounted() = default;
#endif

/// A fiber that runs one strand after the other.
struct Stack {
  std::unique_ptr<scheduler::Fiber> fiber;
  std::shared_ptr<Strand> strand;
  scheduler::Fiber* starter = nullptr;

  /// Never destroyed, as a strand of a rank that was killed does not end: what a leak check finds is no stack.
  static std::vector<Stack*>& pool() {
    static auto* stacks = new std::vector<Stack*>;
    return *stacks;
  }
  static std::vector<Stack*>& all() {
    static auto* stacks = new std::vector<Stack*>;
    return *stacks;
  }
  static scheduler::Fiber& main() {
    static scheduler::Fiber fiber;
    return fiber;
  }
  static Stack* take() {
    if (!pool().empty()) {
      auto* stack = pool().back();
      pool().pop_back();
      return stack;
    }
    auto* stack = new Stack;
    stack->fiber = make_fiber(stack);
    all().push_back(stack);
    return stack;
  }
  static std::unique_ptr<scheduler::Fiber> make_fiber(Stack* stack) {
    auto fiber = scheduler::Fiber::create(kStackBytes, &Stack::entry, stack);
    TRIREME_CHECK(fiber != nullptr, "no memory for a stack");
    return fiber;
  }
  /// What lies on it is not unwound; the strand, which others of its rank may still point to, stays.
  void drop_strand() {
    static auto* dropped = new std::vector<std::shared_ptr<Strand>>;
    dropped->push_back(std::exchange(strand, nullptr));
    fiber = nullptr;
    fiber = make_fiber(this);
    pool().push_back(this);
  }
  static void entry(void* argument) {
    auto* self = static_cast<Stack*>(argument);
    for (;;) {
      self->strand->body();
      self->strand->body = nullptr;
      self->strand->ended = true;
      self->fiber->switch_to(*self->starter);
    }
  }
  /// From the main stack into the strand, and back when it stops.
  void enter() {
    auto keep = strand;
    auto* core_before = core::set_current(keep->core);
    auto* strand_before = std::exchange(running_strand, keep.get());
    starter = &main();
    main().switch_to(*fiber);
    running_strand = strand_before;
    core::set_current(core_before);
    if (keep->ended) {
      keep->stack_ = nullptr;
      strand = nullptr;
      pool().push_back(this);
    }
    keep->back(*keep);
  }
};

void Strand::start(std::shared_ptr<Strand> strand) {
  TRIREME_CHECK(running_strand == nullptr, "a strand starts from the network's event loop");
  auto* stack = Stack::take();
  strand->stack_ = stack;
  stack->strand = std::move(strand);
  stack->enter();
}

void Strand::resume() {
  TRIREME_CHECK(running_strand == nullptr, "a strand goes on from the network's event loop");
  stack_->enter();
}

void Strand::drop_all(const core::RankCore* core) {
  TRIREME_CHECK(running_strand == nullptr, "a rank is buried from outside of its strands");
  for (auto* stack : Stack::all())
    if (stack->strand != nullptr && stack->strand->core == core) stack->drop_strand();
}

void Strand::stop() { stack_->fiber->switch_to(*stack_->starter); }
Strand* Strand::running() { return running_strand; }

std::size_t Strand::stack_left() const {
  const auto* here = static_cast<const std::byte*>(__builtin_frame_address(0));
  return static_cast<std::size_t>(here - stack_->fiber->low());
}

SimHost::SimHost(transport::SimNetwork& network, Rank self, Options options, std::uint64_t seed)
    : network_(network), self_(self), options_(options), rng_(seed) {}

void SimHost::later(Nanos at, std::function<void()> what) {
  network_.schedule(self_, at, [this, what = std::move(what)] {
    const Unaccounted scope(doomed);
    what();
  });
}

Nanos SimHost::task_time() {
  // Mostly short; now and then one that others steal behind.
  const auto max = rng_.chance(0.05) ? 20 * options_.task_max : options_.task_max;
  return static_cast<Nanos>(rng_.below(static_cast<std::uint64_t>(max) + 1));
}

void SimHost::step(const std::function<void()>& what) {
  if (dead) return;
  const Unaccounted scope(doomed);
  auto* before = core::set_current(core);
  ++depth_;
  if (what) what();
  drain();
  core::set_current(before);
}

/// Ends a step that is outermost: all that was posted, all that has arrived.
void SimHost::drain() {
  if (depth_ > 1) {
    --depth_;
    return;
  }
  for (;;) {
    while (!commands_.empty()) {
      auto* command = commands_.front();
      commands_.pop_front();
      command->run(command);
    }
    const int events = router->poll(*this) + core->poll();
    if (dead) break;
    if (events != 0 || !commands_.empty()) continue;
    // As a thread that goes to sleep: a timer may have sent something to this rank itself.
    if (core->arm()) {
      core->disarm();
      break;
    }
  }
  core->flush();
  --depth_;
  if (dead) return;
  arm_timer();
  wake_blocked();
  dispatch();
}

Status SimHost::on_message(Rank from, BytesView message) {
  if (on_traffic) on_traffic(from, message);
  return core->on_message(from, message);
}

void SimHost::poll() { step(nullptr); }

void SimHost::post(scheduler::Command* command) {
  commands_.push_back(command);
  if (depth_ > 0 || dead) return;
  if (options_.late_posts > 0 && rng_.chance(options_.late_posts)) {
    if (std::exchange(drain_due_, true)) return;
    later(soon(3 * kMicrosecond), [this] {
      drain_due_ = false;
      step(nullptr);
    });
    return;
  }
  step(nullptr);
}

void SimHost::arm_timer() {
  const auto deadline = core->next_deadline();
  if (deadline == kForever || deadline >= timer_) return;
  timer_ = deadline;
  later(deadline, [this] {
    timer_ = kForever;
    step(nullptr);
  });
}

void SimHost::wake_blocked() {
  for (std::size_t i = 0; i < blocked_.size();) {
    if (!blocked_[i]->point->signalled()) {
      ++i;
      continue;
    }
    auto strand = std::move(blocked_[i]);
    blocked_.erase(blocked_.begin() + static_cast<std::ptrdiff_t>(i));
    if (strand->on_core) {
      ready_.push_back(std::move(strand));
      told_idle_ = false;
    } else {
      later(soon(kMicrosecond), [strand] { strand->resume(); });
    }
  }
}

void SimHost::dispatch() {
  while (busy_ < options_.cores && busy_ < queue_.size() + ready_.size()) {
    ++busy_;
    ++picking_;
    later(soon(2 * kMicrosecond), [this] {
      --picking_;
      pick();
    });
  }
}

void SimHost::push(scheduler::Work* work) {
  queue_.push_back(work);
  told_idle_ = false;
  dispatch();
}

void SimHost::push_back_of_line(scheduler::Work* work) {
  queue_.push_front(work);
  told_idle_ = false;
  dispatch();
}

bool SimHost::pop_if_newest(scheduler::Work* work) {
  if (queue_.empty() || queue_.back() != work || !work->claim()) return false;
  queue_.pop_back();
  return true;
}

std::size_t SimHost::take_exportable(std::size_t count, std::vector<scheduler::Work*>& out) {
  std::size_t taken = 0;
  for (auto at = queue_.begin(); at != queue_.end() && taken < count;) {
    auto* work = *at;
    if (!work->exportable) {
      ++at;
      continue;
    }
    at = queue_.erase(at);
    if (work->claim()) {
      out.push_back(work);
      ++taken;
    } else {
      work->action(work, scheduler::Work::Do::drop);
    }
  }
  return taken;
}

void SimHost::begin() {
  const Unaccounted scope(doomed);
  if (std::exchange(told_idle_, true)) return;
  auto* before = core::set_current(core);
  core->went_idle();
  core::set_current(before);
}

void SimHost::core_free() {
  --busy_;
  dispatch();
  if (busy_ == 0 && queue_.empty() && ready_.empty()) begin();
}

/// A compute thread looks for something to run.
void SimHost::pick() {
  if (!ready_.empty()) {
    auto strand = std::move(ready_.front());
    ready_.pop_front();
    return strand->resume();
  }
  while (!queue_.empty()) {
    const bool newest = rng_.chance(0.7);
    auto* work = newest ? queue_.back() : queue_.front();
    newest ? queue_.pop_back() : queue_.pop_front();
    if (!work->claim()) {
      auto* before = core::set_current(core);
      work->action(work, scheduler::Work::Do::drop);
      core::set_current(before);
      continue;
    }
    auto strand = std::make_shared<Strand>();
    strand->core = core;
    strand->on_core = true;
    strand->body = [work] { work->action(work, scheduler::Work::Do::run); };
    strand->back = [this](Strand& s) { after(s); };
    return Strand::start(std::move(strand));
  }
  core_free();
}

/// The strand ended, waits or computes.
void SimHost::after(Strand& strand) {
  if (dead) return;
  wake_blocked();
  if (strand.computing) return;
  if (!strand.on_core) return dispatch();
  if (!strand.ended) return core_free();
  later(network_.now() + task_time(), [this] { pick(); });
  dispatch();
}

void SimHost::run_program(std::function<void()> body) {
  program_ended_ = false;
  run_aside([this, body = std::move(body)] {
    body();
    program_ended_ = true;
  });
}

void SimHost::run_aside(std::function<void()> body) {
  const Unaccounted scope(doomed);
  auto strand = std::make_shared<Strand>();
  strand->core = core;
  strand->body = std::move(body);
  strand->back = [this](Strand& s) { after(s); };
  Strand::start(std::move(strand));
}

void SimHost::compute(Nanos time) {
  auto* strand = Strand::running();
  TRIREME_CHECK(strand != nullptr && depth_ == 0, "user code computes on a strand");
  strand->computing = true;
  // Others run meanwhile.
  const auto running = core::set_running({});
  later(network_.now() + time, [keep = strand->shared_from_this()] {
    keep->computing = false;
    keep->resume();
  });
  strand->stop();
  core::set_running(running);
}

bool SimHost::has_stack() const { return running_strand == nullptr || running_strand->stack_left() >= kStackBytes / 2; }

bool SimHost::wait(scheduler::WaitPoint& point, Nanos deadline) {
  TRIREME_CHECK(deadline == kForever, "virtual time knows no wall-clock deadlines");
  TRIREME_CHECK(depth_ == 0, "a wait under the token");
  // Who waits takes the token if it is free.
  if (!point.signalled() && !commands_.empty()) step(nullptr);
  if (point.signalled()) return true;
  const core::LentCpu lent(*this);
  if (point.signalled()) return true;
  auto* strand = Strand::running();
  TRIREME_CHECK(strand != nullptr, "a wait outside of a strand");
  strand->point = &point;
  blocked_.push_back(strand->shared_from_this());
  strand->stop();
  strand->point = nullptr;
  return true;
}

}  // namespace trireme::sim
