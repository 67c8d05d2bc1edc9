#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <csignal>

#include "base/log.hpp"
#include "python/native/pool.hpp"
#include "python/native/requests.hpp"
#include "python/native/work.hpp"

namespace trireme::python {

using detail::CellRef;

namespace {

/// Tasks are sent ahead to a worker that is through with what it has within about this time.
constexpr double kAheadNanos = 1e6;
/// Pending tasks that are looked at for one that a worker can take.
constexpr std::size_t kScanMax = 64;

/// This thread is within Pool::unlock_and_run().
thread_local bool runs_steps = false;

detail::Invocation* invocation_of(const CellRef& call) { return static_cast<detail::Invocation*>(call.get()); }

}  // namespace

bool hold_deps(const CallBody& body, std::vector<Packed>& deps) {
  for (std::uint32_t i = 0; i < body.text.deps; ++i) {
    auto* cell = body.refs[i].get();
    Packed packed;
    if (cell->form() == detail::CellForm::error)
      packed.error = std::make_unique<detail::ErrorInfo>(cell->error());
    else if (cell->form() == detail::CellForm::typed)
      packed.value = cell->ops()->encode(cell);
    else if (!detail::try_pinned(cell, packed.value))
      return false;
    deps.push_back(std::move(packed));
  }
  return true;
}

void recall_deps(core::Host& host, CellRef call, std::function<void(std::vector<Packed>)> then) {
  push_work(host, [call = std::move(call), then = std::move(then)] {
    const auto& body = body_of(invocation_of(call));
    std::vector<Packed> held;
    try {
      for (std::uint32_t i = 0; i < body.text.deps; ++i) {
        Packed packed;
        packed.value = detail::pinned(body.refs[i].get());
        held.push_back(std::move(packed));
      }
    } catch (const Exception& lost) {
      return fail(invocation_of(call), lost.info());
    }
    then(std::move(held));
  });
}

const detail::ErrorInfo* failed_dep(const CallBody& body) {
  for (std::uint32_t i = 0; i < body.text.deps; ++i) {
    const auto* cell = body.refs[i].get();
    if (cell->ready() && cell->form() == detail::CellForm::error) return &cell->error();
  }
  return nullptr;
}

void Pool::submit(detail::TaskBase* task) {
  task->claimed.store(true, std::memory_order_relaxed);
  Lock lock(mutex_);
  enqueue({CellRef::share(task), true}, false);
  dispatch();
  const bool waiting = !pending_.empty();
  // Within a step, what this puts aside is left to who runs the steps: tasks that fail because their arguments did may
  // be a long chain.
  if (runs_steps)
    lock.unlock();
  else
    unlock_and_run(lock);
  if (waiting) session_.core().work_queued();
}

void Pool::run_task(detail::TaskBase* task) {
  if (const auto holder = body_of(task).holder; holder.in_group) {
    core::post(*context_.host, [this, holder] {
      holder.holders->when_revoked(holder.holder, [this, holder] { end_revoked(holder.holder); });
    });
  }
  Lock lock(mutex_);
  enqueue({CellRef::share(task), false}, false);
  dispatch();
  unlock_and_run(lock);
}

void Pool::fail_later(CellRef call, detail::ErrorInfo error, bool exportable) {
  after([call = std::move(call), error = std::move(error), exportable]() mutable {
    auto* invocation = invocation_of(call);
    fail(invocation, std::move(error));
    if (exportable) invocation->release();
  });
}

void Pool::enqueue(Queued queued, bool front) {
  const auto& body = body_of(invocation_of(queued.call));
  if (closed_ || closing_) {
    return fail_later(queued.call, core::runtime_error(context_, Errc::shutdown, "the runtime is shutting down"),
                      queued.exportable);
  }
  if (cancelled_.take(body.text.key)) {
    return fail_later(queued.call,
                      core::runtime_error(context_, Errc::cancelled, body.text.kind->name + " was cancelled"),
                      queued.exportable);
  }
  if (const auto* error = failed_dep(body)) return fail_later(queued.call, *error, queued.exportable);
  told_idle_ = false;
  if (front)
    pending_.push_front(std::move(queued));
  else
    pending_.push_back(std::move(queued));
  queued_.fetch_add(1, std::memory_order_relaxed);
}

std::size_t Pool::take_exportable(std::size_t count, std::vector<scheduler::Work*>& out) {
  const Lock lock(mutex_);
  std::size_t taken = 0;
  // Oldest first; those of other ranks and those sent back by a worker stay.
  for (auto at = pending_.begin(); at != pending_.end() && taken < count;) {
    if (!at->exportable) {
      ++at;
      continue;
    }
    out.push_back(static_cast<detail::TaskBase*>(at->call.get()));
    at = pending_.erase(at);
    ++taken;
  }
  queued_.fetch_sub(taken, std::memory_order_relaxed);
  return taken;
}

void Pool::list(const std::function<void(const Worker&)>& each, Calls& calls) {
  const std::lock_guard lock(mutex_);
  const auto note = [&calls](const CellRef& call, const char* state) {
    auto* invocation = invocation_of(call);
    calls.states.emplace(call.get(), state);
    if (invocation->extra != nullptr)
      for (const auto& element : invocation->extra->elements) calls.states.emplace(element.get(), state);
    for (const auto& ref : body_of(invocation).refs) calls.used.insert(ref.get());
  };
  for (const auto& [token, flight] : flights_) {
    if (flight->worker == nullptr) continue;
    const auto& tasks = flight->worker->tasks;
    const bool ahead = !flight->actor_call && !tasks.empty() && tasks.front() != token;
    note(flight->call, ahead ? "SUBMITTED_TO_WORKER" : "RUNNING");
  }
  for (const auto& queued : pending_) {
    note(queued.call, "PENDING_NODE_ASSIGNMENT");
    calls.queued.push_back(queued.call);
  }
  for (const auto& worker : workers_)
    if (worker != nullptr && !worker->gone) each(*worker);
}

bool Pool::has_cpu() const { return running_ < std::max(0.0, options_.cpus - std::ceil(held_cpus_)); }

Worker* Pool::worker_for(const CallText& text) {
  const bool cpu = text.kind->placed || has_cpu();
  if (cpu) {
    const auto at =
        std::find_if(idle_.rbegin(), idle_.rend(), [&](Worker* w) { return w->env_key == text.kind->env_key; });
    if (at != idle_.rend()) {
      auto* worker = *at;
      idle_.erase(std::next(at).base());
      return worker;
    }
    std::size_t coming = 0;
    for (const auto& worker : workers_) {
      if (worker && !worker->greeted && worker->actor == nullptr && !worker->gone &&
          worker->env_key == text.kind->env_key)
        ++coming;
    }
    const auto wanted = text.kind->placed ? pending_.size() : std::min<std::size_t>(pending_.size(), options_.cpus);
    if (coming < std::max<std::size_t>(wanted, 1)) start_worker(text.kind->env_key, text.kind->env, nullptr);
  }
  if (text.kind->placed) return nullptr;
  Worker* best = nullptr;
  for (const auto& worker : workers_) {
    if (!worker || worker->gone || !worker->greeted || worker->actor != nullptr || worker->waits != 0 ||
        worker->tasks.empty() || !worker->counted || worker->env_key != text.kind->env_key)
      continue;
    const auto room = std::min<double>(kAheadNanos / worker->task_nanos, kPipelineMax);
    if (static_cast<double>(worker->tasks.size()) >= room) continue;
    if (best == nullptr || worker->tasks.size() < best->tasks.size()) best = worker.get();
  }
  return best;
}

void Pool::dispatch() {
  std::size_t passed = 0;
  for (auto at = pending_.begin(); at != pending_.end() && passed < kScanMax;) {
    const auto& text = body_of(invocation_of(at->call)).text;
    auto* worker = worker_for(text);
    if (worker == nullptr) {
      // Behind the first, only calls of another kind can find a worker.
      const bool plain = !text.kind->placed && text.kind->env_key.empty();
      ++passed;
      ++at;
      while (plain && at != pending_.end() && passed < kScanMax) {
        const auto& next = body_of(invocation_of(at->call)).text;
        if (next.kind->placed || !next.kind->env_key.empty()) break;
        ++passed;
        ++at;
      }
      continue;
    }
    auto taken = std::move(*at);
    at = pending_.erase(at);
    queued_.fetch_sub(1, std::memory_order_relaxed);
    if (start_task(*worker, taken)) continue;
    // It has not freed its slots yet; it does as it works them off.
    pending_.insert(at, std::move(taken));
    queued_.fetch_add(1, std::memory_order_relaxed);
    look_again_.store(std::min<Nanos>(look_again_, SystemClock::read() + kMillisecond));
    return;
  }
}

/// The worker begins to compute for a task: counts its CPUs.
void Pool::occupy(Worker& worker, const CallText& text) {
  if (text.kind->placed) {
    held_cpus_ += text.kind->cpus;
    if (text.kind->gpus != 0) worker.gpus = take_gpus(text.kind->gpus);
  } else {
    ++running_;
    worker.counted = true;
  }
  computing_.store(running_, std::memory_order_relaxed);
}

void Pool::vacate(Worker& worker, const CallText& text) {
  if (text.kind->placed) {
    held_cpus_ -= text.kind->cpus;
    if (text.kind->gpus != 0) give_gpus(std::exchange(worker.gpus, {}), text.kind->gpus);
  } else if (std::exchange(worker.counted, false)) {
    --running_;
  }
  computing_.store(running_, std::memory_order_relaxed);
}

std::vector<int> Pool::take_gpus(double amount) {
  std::vector<int> devices;
  const auto each = std::min(amount, 1.0);
  for (std::size_t i = 0; i < gpu_free_.size() && static_cast<double>(devices.size()) * each < amount; ++i) {
    // Placement has made sure that there is room; a fraction goes to the first device that has it.
    if (gpu_free_[i] + 1e-9 < each) continue;
    gpu_free_[i] -= each;
    devices.push_back(static_cast<int>(i));
  }
  return devices;
}

void Pool::give_gpus(const std::vector<int>& devices, double amount) {
  for (const auto device : devices) gpu_free_[static_cast<std::size_t>(device)] += std::min(amount, 1.0);
}

bool Pool::start_task(Worker& worker, Queued& queued) {
  auto* invocation = invocation_of(queued.call);
  auto& body = body_of(invocation);
  std::vector<Packed> deps;
  if (!hold_deps(body, deps)) {
    if (worker.tasks.empty()) idle_.push_back(&worker);
    after([this, queued] {
      recall_deps(*context_.host, queued.call, [this, queued](std::vector<Packed>) {
        // What it was given lives until this returns: long enough to be sent, or it is recalled again.
        Lock lock(mutex_);
        enqueue({queued.call, queued.exportable, queued.attempt}, true);
        dispatch();
        unlock_and_run(lock);
      });
    });
    return true;
  }
  std::int32_t slot = -1;
  auto& slots = worker.end.page().slots;
  for (std::uint32_t n = 0; n < kPipelineMax && slot < 0; ++n) {
    // acquire: pairs with the worker's release of a slot that it found taken back.
    if (slots[n].load(std::memory_order_acquire) == WorkerPage::kFree) slot = static_cast<std::int32_t>(n);
  }
  if (slot < 0) {
    if (worker.tasks.empty()) idle_.push_back(&worker);
    return false;
  }
  slots[slot].store(WorkerPage::kQueued, std::memory_order_relaxed);  // published with the frame
  worker.used = true;
  if (queued.exportable) invocation->release();
  auto flight = std::make_unique<InFlight>();
  flight->token = next_token_++;
  flight->call = std::move(queued.call);
  flight->worker = &worker;
  flight->attempt = queued.attempt;
  flight->sent = SystemClock::read();
  flight->slot = slot;
  if (worker.tasks.empty()) occupy(worker, body.text);
  worker.tasks.push_back(flight->token);
  auto& kept = *flight;
  tokens_[body.text.key] = kept.token;
  flights_[kept.token] = std::move(flight);
  if (worker.tasks.size() > 1) look_again_.store(std::min<Nanos>(look_again_, kept.sent + kMillisecond));
  send_work(worker, kept, std::move(deps));
  return true;
}

void Pool::send_work(Worker& worker, InFlight& flight, std::vector<Packed> deps) {
  auto* invocation = invocation_of(flight.call);
  auto& body = body_of(invocation);
  const auto& text = body.text;
  auto kind = flight.actor_call ? WorkKind::call : WorkKind::task;
  if (worker.actor != nullptr && worker.actor->create.get() == invocation) kind = WorkKind::create;
  Bytes frame;
  frame.reserve(160 + text.kind->meta.size() + text.args.size());
  auto out = begin(frame, Frame::work);
  out.put(flight.token);
  out.put(flight.slot);
  out.put(kind);
  out.varint(flight.attempt);
  out.varint(text.kind->returns);
  out.put(static_cast<std::uint8_t>((text.kind->streaming ? 1 : 0) | (text.args_ref ? 2 : 0)));
  const auto& gpus = worker.actor != nullptr ? worker.actor->gpus : worker.gpus;
  out.varint(gpus.size());
  for (const auto device : gpus) out.varint(static_cast<std::uint64_t>(device));
  out.blob(text.kind->meta);
  out.text(text.kind->name);
  out.blob(text.args);
  out.varint(deps.size());
  for (auto& dep : deps) requests_->write(out, worker, std::move(dep));
  const std::size_t skipped = text.args_ref ? 1 : 0;
  requests_->write_refs(out, worker, std::span(body.refs).subspan(skipped), text.deps - skipped);
  worker.end.send(frame);
}

void Pool::take_back(Worker& worker) {
  std::deque<std::uint64_t> kept;
  std::vector<Queued> back;
  for (const auto token : worker.tasks) {
    const auto at = flights_.find(token);
    auto& flight = *at->second;
    auto expected = std::uint32_t{WorkerPage::kQueued};
    auto& slot = worker.end.page().slots[flight.slot];
    // acq_rel: pairs with the worker's own exchange; one of the two gets the task.
    if (kept.empty() || !slot.compare_exchange_strong(expected, WorkerPage::kTakenBack, std::memory_order_acq_rel)) {
      kept.push_back(token);
      continue;
    }
    tokens_.erase(body_of(invocation_of(flight.call)).text.key);
    back.push_back({std::move(flight.call), false, flight.attempt});
    flights_.erase(at);
  }
  worker.tasks = std::move(kept);
  for (auto each = back.rbegin(); each != back.rend(); ++each) enqueue(std::move(*each), true);
}

void Pool::set_blocked(Worker& worker, bool blocked) {
  if (worker.actor != nullptr || worker.gone) return;
  if (!blocked && worker.waits == 0) return;  // the task that waited has ended
  worker.waits += blocked ? 1U : -1U;
  if (worker.tasks.empty() || worker.waits > 1 || (worker.waits == 1 && !blocked)) return;
  const auto& body = body_of(invocation_of(flights_.at(worker.tasks.front())->call));
  const auto holder = body.holder;
  if (holder.holders != nullptr) {
    after([this, holder, blocked] {
      core::post(*context_.host, [holder, blocked] {
        blocked ? holder.holders->lend_cpu(holder.holder) : holder.holders->reclaim_cpu(holder.holder);
      });
    });
  }
  if (body.text.kind->placed)
    held_cpus_ += blocked ? -body.text.kind->cpus : body.text.kind->cpus;
  else if (blocked && std::exchange(worker.counted, false))
    --running_;
  else if (!blocked && !std::exchange(worker.counted, true))
    ++running_;
  computing_.store(running_, std::memory_order_relaxed);
  if (!blocked) return;
  take_back(worker);
  dispatch();
}

void Pool::check_long_tasks() {
  const auto now = SystemClock::read();
  if (now < look_again_.load(std::memory_order_relaxed)) return;
  look_again_.store(kForever);
  repeat_interrupts(now);
  bool any = false;
  for (const auto& worker : workers_) {
    if (!worker || worker->tasks.size() < 2 || worker->gone) continue;
    const auto& front = *flights_.at(worker->tasks.front());
    const auto since = std::max(front.sent, worker->last_done);
    if (now - since >= kMillisecond) {
      take_back(*worker);
      // Until it is through with this one, nothing more is sent ahead.
      worker->task_nanos = std::max(worker->task_nanos, static_cast<double>(now - since));
      any = true;
    } else {
      look_again_.store(std::min<Nanos>(look_again_, since + kMillisecond));
    }
  }
  if (any || !pending_.empty()) dispatch();
}

Worker* Pool::find(std::uint32_t index, std::uint64_t id) const {
  if (index >= workers_.size() || !workers_[index] || workers_[index]->id != id) return nullptr;
  return workers_[index].get();
}

bool Pool::cancel(std::uint64_t key, core::CancelOptions options) {
  if (key == 0) return false;
  std::vector<InFlight::Child> children;
  std::vector<CellRef> results;
  bool found = true;
  {
    Lock lock(mutex_);
    const auto in_queue = std::find_if(pending_.begin(), pending_.end(), [&](const Queued& queued) {
      return body_of(invocation_of(queued.call)).text.key == key;
    });
    if (in_queue != pending_.end()) {
      auto taken = std::move(*in_queue);
      pending_.erase(in_queue);
      queued_.fetch_sub(1, std::memory_order_relaxed);
      const auto name = body_of(invocation_of(taken.call)).text.kind->name;
      fail_later(taken.call, core::runtime_error(context_, Errc::cancelled, name + " was cancelled before it began"),
                 taken.exportable);
    } else if (const auto at = tokens_.find(key); at != tokens_.end()) {
      auto& flight = *flights_.at(at->second);
      auto& worker = *flight.worker;
      if (!std::exchange(flight.cancelled, true) && flight.actor_call) ++worker.cancels;
      if (options.recursive) find_children(flight, results, children);
      auto queued = std::uint32_t{WorkerPage::kQueued};
      if (!flight.actor_call && flight.slot >= 0 && !worker.tasks.empty() && worker.tasks.front() != flight.token &&
          worker.end.page().slots[flight.slot].compare_exchange_strong(queued, WorkerPage::kTakenBack,
                                                                       std::memory_order_acq_rel)) {
        auto taken = finished(worker, flight.token);
        fail_later(taken->call, core::runtime_error(context_, Errc::cancelled, "it was cancelled before it began"));
      } else if (options.force && !flight.actor_call) {
        kill_process(worker, SIGKILL);
      } else {
        Bytes frame;
        begin(frame, Frame::cancel).put(flight.token);
        worker.end.send(frame);
        if (flight.actor_call) {
          tell_cancelled(worker);
        } else {
          worker.end.page().cancelled.store(flight.token, std::memory_order_release);
          kill_process(worker, SIGINT);
          const auto now = SystemClock::read();
          interrupts_.push_back({flight.token, now + kInterruptAgain, kInterruptAgain});
          look_again_.store(std::min<Nanos>(look_again_, now + kInterruptAgain));
        }
      }
    } else {
      found = false;
      cancelled_.remember(key);
      for (const auto& worker : workers_) {
        if (!worker || worker->actor == nullptr) continue;
        auto& outbox = worker->actor->outbox;
        const auto waiting = std::find_if(outbox.begin(), outbox.end(), [&](const auto& outgoing) {
          return body_of(invocation_of(outgoing->call)).text.key == key;
        });
        if (waiting == outbox.end()) continue;
        fail_later((*waiting)->call,
                   core::runtime_error(context_, Errc::cancelled, "it was cancelled before it began"));
        outbox.erase(waiting);
        cancelled_.forget(key);
        found = true;
        break;
      }
    }
    unlock_and_run(lock);
  }
  for (const auto& result : results) cancel_result(result, options);
  for (const auto& child : children) session_.core().cancels().everywhere(child.key, options, {});
  return found;
}

void Pool::tell_cancelled(Worker& worker) {
  if (worker.calls.empty()) return;
  const auto first = *std::min_element(worker.calls.begin(), worker.calls.end());
  if (flights_.at(first)->cancelled) worker.end.page().cancelled.store(first, std::memory_order_release);
}

detail::ErrorInfo Pool::revoked_error() const {
  auto error = core::runtime_error(context_, Errc::worker_lost, "the placement group of the task was removed");
  error.type = "TaskPlacementGroupRemoved";
  return error;
}

void Pool::end_revoked(scheduler::HolderId holder) {
  Lock lock(mutex_);
  const auto holds = [holder](const CellRef& call) {
    const auto& held = body_of(invocation_of(call)).holder;
    return held.holders != nullptr && held.holder == holder;
  };
  const auto queued =
      std::find_if(pending_.begin(), pending_.end(), [&](const Queued& each) { return holds(each.call); });
  if (queued != pending_.end()) {
    auto taken = std::move(*queued);
    pending_.erase(queued);
    queued_.fetch_sub(1, std::memory_order_relaxed);
    fail_later(taken.call, revoked_error(), taken.exportable);
  } else {
    const auto at = std::find_if(flights_.begin(), flights_.end(), [&](const auto& each) {
      return !each.second->actor_call && holds(each.second->call);
    });
    if (at != flights_.end()) {
      auto& flight = *at->second;
      auto& worker = *flight.worker;
      flight.revoked = true;
      auto waits = std::uint32_t{WorkerPage::kQueued};
      if (flight.slot >= 0 && !worker.tasks.empty() && worker.tasks.front() != flight.token &&
          worker.end.page().slots[flight.slot].compare_exchange_strong(waits, WorkerPage::kTakenBack,
                                                                       std::memory_order_acq_rel)) {
        auto taken = finished(worker, flight.token);
        fail_later(taken->call, revoked_error());
      } else {
        kill_process(worker, SIGKILL);
      }
    }
  }
  unlock_and_run(lock);
}

Bytes Pool::cancelled_keys() const {
  const Lock lock(mutex_);
  return cancelled_.write();
}

void Pool::hear_cancelled(BytesView keys) {
  const Lock lock(mutex_);
  cancelled_.read(keys);
}

void Pool::find_children(const InFlight& flight, std::vector<CellRef>& results,
                         std::vector<InFlight::Child>& others) const {
  for (const auto& child : flight.children) {
    CellRef result;
    for (const auto& worker : workers_) {
      if (!worker) continue;
      const auto at = worker->handle_of.find(child.result);
      if (at == worker->handle_of.end()) continue;
      const auto& held = worker->handles.at(at->second).cell;
      // The cell may be another one by now.
      if (key_of_result(held.get()) == child.key) result = held;
      break;
    }
    result ? results.push_back(std::move(result)) : others.push_back(child);
  }
}

void Pool::unlock_and_run(Lock& lock) {
  while (!after_.empty()) {
    auto steps = std::exchange(after_, {});
    lock.unlock();
    const bool within = std::exchange(runs_steps, true);
    for (auto& step : steps) step();
    runs_steps = within;
    lock.lock();
  }
  lock.unlock();
}

}  // namespace trireme::python
