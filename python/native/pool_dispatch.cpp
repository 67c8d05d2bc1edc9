#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/log.hpp"
#include "python/native/pool.hpp"
#include "python/native/requests.hpp"

namespace trireme::python {

using detail::CellRef;

namespace {

/// Tasks are sent ahead to a worker that is through with what it has within about this time.
constexpr double kAheadNanos = 1e6;
/// Pending tasks of other kinds than the first that are looked at.
constexpr std::size_t kScanMax = 64;

/// Brings evicted arguments back, on a compute thread, and has the call run then.
struct Recall final : scheduler::Work {
  explicit Recall(CellRef c, std::function<void(std::vector<detail::Value>)> t)
      : Work(&Recall::act), call(std::move(c)), then(std::move(t)) {}
  CellRef call;
  std::function<void(std::vector<detail::Value>)> then;
  static void act(Work* work, Do) {
    const std::unique_ptr<Recall> self(static_cast<Recall*>(work));
    auto* invocation = static_cast<detail::Invocation*>(self->call.get());
    const auto& body = body_of(invocation);
    std::vector<detail::Value> held;
    try {
      for (std::uint32_t i = 0; i < body.text.deps; ++i) held.push_back(detail::pinned(body.refs[i].get()));
    } catch (const Exception& lost) {
      return fail(invocation, lost.info());
    }
    self->then(std::move(held));
  }
};

/// False when one of them was evicted.
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

}  // namespace

void Pool::submit(detail::TaskBase* task) {
  task->claimed.store(true, std::memory_order_relaxed);
  Lock lock(mutex_);
  enqueue({CellRef::share(task), true}, false);
  dispatch();
  const bool waiting = !pending_.empty();
  unlock_and_run(lock);
  if (waiting) session_.core().work_queued();
}

void Pool::run_task(detail::TaskBase* task) {
  Lock lock(mutex_);
  enqueue({CellRef::share(task), false}, false);
  dispatch();
  unlock_and_run(lock);
}

void Pool::enqueue(Queued queued, bool front) {
  if (closed_) {
    after([call = queued.call, exportable = queued.exportable] {
      detail::ErrorInfo error;
      error.code = Errc::shutdown;
      error.message = "the runtime is shutting down";
      auto* invocation = static_cast<detail::Invocation*>(call.get());
      fail(invocation, std::move(error));
      if (exportable) invocation->release();
    });
    return;
  }
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

bool Pool::has_cpu() const { return running_ < std::max(0.0, options_.cpus - std::ceil(held_cpus_)); }

Worker* Pool::worker_for(const CallText& text) {
  const bool cpu = text.placed || has_cpu();
  if (cpu) {
    const auto at = std::find_if(idle_.rbegin(), idle_.rend(), [&](Worker* w) { return w->env_key == text.env_key; });
    if (at != idle_.rend()) {
      auto* worker = *at;
      idle_.erase(std::next(at).base());
      return worker;
    }
    unsigned coming = 0;
    for (const auto& worker : workers_)
      coming += worker && worker->pid >= 0 && !worker->greeted && worker->actor == nullptr && !worker->gone &&
                        worker->env_key == text.env_key
                    ? 1U
                    : 0U;
    const auto wanted = text.placed ? pending_.size() : std::min<std::size_t>(pending_.size(), options_.cpus);
    if (coming < std::max<std::size_t>(wanted, 1)) start_worker(text.env_key, text.env, nullptr);
  }
  if (text.placed) return nullptr;
  Worker* best = nullptr;
  for (const auto& worker : workers_) {
    if (!worker || worker->gone || !worker->greeted || worker->actor != nullptr || worker->waits != 0 ||
        worker->tasks.empty() || worker->env_key != text.env_key)
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
    auto* invocation = static_cast<detail::Invocation*>(at->call.get());
    const auto& text = body_of(invocation).text;
    auto* worker = worker_for(text);
    if (worker == nullptr) {
      // Behind the first, only calls of another kind can find a worker.
      const bool plain = !text.placed && text.env_key.empty();
      ++passed;
      ++at;
      if (plain) {
        while (at != pending_.end() && passed < kScanMax) {
          const auto& next = body_of(static_cast<detail::Invocation*>(at->call.get())).text;
          if (next.placed || !next.env_key.empty()) break;
          ++passed;
          ++at;
        }
      }
      continue;
    }
    auto taken = std::move(*at);
    at = pending_.erase(at);
    queued_.fetch_sub(1, std::memory_order_relaxed);
    if (taken.exportable) taken.call->release();
    start_task(*worker, std::move(taken.call));
  }
}

void Pool::start_task(Worker& worker, CellRef call) {
  auto* invocation = static_cast<detail::Invocation*>(call.get());
  auto& body = body_of(invocation);
  std::vector<Packed> deps;
  if (!hold_deps(body, deps)) {
    if (worker.tasks.empty()) idle_.push_back(&worker);
    after([this, call] {
      context_.host->push(new Recall(call, [this, call](std::vector<detail::Value>) {
        // What it holds lives until this returns: long enough to be sent, or it is recalled again.
        run_task(static_cast<detail::TaskBase*>(call.get()));
      }));
    });
    return;
  }
  auto flight = std::make_unique<InFlight>();
  flight->token = next_token_++;
  flight->call = std::move(call);
  flight->worker = &worker;
  flight->sent = SystemClock::read();
  auto& slots = worker.end.page().slots;
  for (std::uint32_t i = 0; i < kPipelineMax; ++i) {
    if (slots[i].load(std::memory_order_relaxed) == WorkerPage::kFree) {
      flight->slot = static_cast<std::int32_t>(i);
      slots[i].store(WorkerPage::kQueued, std::memory_order_relaxed);  // published with the frame
      break;
    }
  }
  TRIREME_CHECK(flight->slot >= 0, "a worker has more tasks than slots");
  if (worker.tasks.empty()) {
    if (body.text.placed)
      held_cpus_ += body.text.cpus;
    else {
      ++running_;
      worker.counted = true;
    }
  }
  worker.tasks.push_back(flight->token);
  auto& kept = *flight;
  tokens_[kept.call.get()] = kept.token;
  flights_[kept.token] = std::move(flight);
  if (worker.tasks.size() > 1) look_again_ = std::min<Nanos>(look_again_, kept.sent + kMillisecond);
  send_work(worker, kept, std::move(deps));
}

void Pool::send_work(Worker& worker, InFlight& flight, std::vector<Packed> deps) {
  auto* invocation = static_cast<detail::Invocation*>(flight.call.get());
  auto& body = body_of(invocation);
  const auto& text = body.text;
  auto kind = invocation->kind() == detail::CellKind::task ? WorkKind::task : WorkKind::call;
  if (worker.actor != nullptr && worker.actor->create.get() == invocation) kind = WorkKind::create;
  Bytes frame;
  auto out = begin(frame, Frame::work);
  out.put(flight.token);
  out.put(flight.slot);
  out.put(kind);
  out.varint(flight.attempt);
  out.varint(text.returns);
  out.put(static_cast<std::uint8_t>((text.streaming ? 1 : 0) | (text.args_ref ? 2 : 0)));
  out.blob(text.meta);
  out.text(text.name);
  out.blob(text.args);
  out.varint(deps.size());
  for (auto& dep : deps) requests_->write(out, worker, std::move(dep));
  // The stream's reference behind the dependencies is for this rank only.
  const std::size_t hidden_first = text.args_ref ? 1 : 0;
  std::vector<CellRef> refs;
  for (std::size_t i = hidden_first; i < body.refs.size(); ++i) {
    if (text.streaming && i == text.deps) continue;
    refs.push_back(body.refs[i]);
  }
  requests_->write_refs(out, worker, refs);
  worker.end.send(frame);
}

void Pool::take_back(Worker& worker) {
  std::deque<std::uint64_t> kept;
  std::vector<Queued> back;
  for (const auto token : worker.tasks) {
    const auto at = flights_.find(token);
    auto& flight = *at->second;
    auto queued = std::uint32_t{WorkerPage::kQueued};
    auto& slot = worker.end.page().slots[flight.slot];
    // acq_rel: pairs with the worker's own exchange; one of the two gets the task.
    if (kept.empty() || !slot.compare_exchange_strong(queued, WorkerPage::kTakenBack, std::memory_order_acq_rel)) {
      kept.push_back(token);
      continue;
    }
    tokens_.erase(flight.call.get());
    back.push_back({std::move(flight.call), false});
    flights_.erase(at);
  }
  worker.tasks = std::move(kept);
  for (auto each = back.rbegin(); each != back.rend(); ++each) enqueue(std::move(*each), true);
}

void Pool::set_blocked(Worker& worker, bool blocked) {
  if (worker.actor != nullptr) return;
  worker.waits += blocked ? 1 : -1;
  if (worker.tasks.empty() || worker.waits > 1 || (worker.waits == 1 && !blocked)) return;
  const auto& body = body_of(static_cast<detail::Invocation*>(flights_.at(worker.tasks.front())->call.get()));
  const auto holder = body.holder;
  if (holder.tasks != nullptr) {
    after([holder, blocked] { blocked ? holder.tasks->lend_cpu(holder.holder) : holder.tasks->reclaim_cpu(holder.holder); });
  }
  if (body.text.placed)
    held_cpus_ += blocked ? -body.text.cpus : body.text.cpus;
  else if (worker.counted)
    running_ += blocked ? -1U : 1U;
  if (!blocked) return;
  take_back(worker);
  dispatch();
}

Worker* Pool::start_worker(std::string env_key, std::string env, ActorProcess* actor) {
  if (closed_) return nullptr;
  auto made = std::make_unique<Worker>();
  auto file = MemoryFile::create("trireme-worker", kWorkerBytes);
  int out[2], err[2];
  if (!file.ok() || ::pipe2(out, O_CLOEXEC) != 0) {
    TRIREME_LOG(error, "a worker cannot be started: {}", file.ok() ? std::strerror(errno) : file.error().message);
    return nullptr;
  }
  made->output[0] = transport::Fd(out[0]);
  made->output_in[0] = transport::Fd(out[1]);
  if (::pipe2(err, O_CLOEXEC) != 0) return nullptr;
  made->output[1] = transport::Fd(err[0]);
  made->output_in[1] = transport::Fd(err[1]);
  for (const auto& fd : made->output) ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);
  made->file = std::move(*file);
  if (!free_indices_.empty()) {
    made->index = free_indices_.back();
    free_indices_.pop_back();
  } else if (workers_.size() < kWorkersMax) {
    made->index = static_cast<std::uint32_t>(workers_.size());
    workers_.emplace_back();
  } else {
    TRIREME_LOG(error, "a rank has at most {} worker processes", kWorkersMax);
    return nullptr;
  }
  static std::atomic<std::uint64_t> ids{1};
  made->id = ids.fetch_add(1, std::memory_order_relaxed);
  made->end = RankEnd(made->file.memory.bytes(), board_, made->index);
  made->env_key = std::move(env_key);
  made->actor = actor;
  auto* worker = made.get();
  workers_[made->index] = std::move(made);
  if (actor == nullptr) ++starting_;
  watch(worker->output[0].get(), (std::uint64_t{worker->index} << 8U) | 1U);
  watch(worker->output[1].get(), (std::uint64_t{worker->index} << 8U) | 2U);
  nlohmann::json command;
  command["worker"] = worker->id;
  command["index"] = worker->index;
  command["rank"] = context_.self;
  command["size"] = context_.size;
  command["rank_pid"] = ::getpid();
  command["out_fd"] = worker->output_in[0].get();
  command["err_fd"] = worker->output_in[1].get();
  command["file_fd"] = worker->file.fd.get();
  command["board_fd"] = board_file_.fd.get();
  command["bell_fd"] = bell_read_.get();
  command["arena_fd"] = session_.arena().fd();
  command["arena_bytes"] = session_.arena().bytes();
  command["cpus"] = nlohmann::json::array();
  command["env"] = env;
  const auto text = "F" + command.dump();
  if (::send(zygote_.get(), text.data(), text.size(), MSG_NOSIGNAL) < 0) {
    TRIREME_LOG(error, "the template process of the workers is gone: {}", std::strerror(errno));
  }
  return worker;
}

void Pool::run_create(detail::CallBase* create) {
  auto actor = std::make_shared<ActorProcess>();
  auto& body = body_of(create);
  actor->pool = this;
  actor->actor = create->runner;
  actor->actor->retain();
  actor->create = CellRef::share(create);
  Writer text(actor->create_text);
  body.text.encode(text);
  actor->create_refs = body.refs;
  actor->restarts_left = body.text.max_restarts;
  actor->task_retries = body.text.max_task_retries;
  actor->name = body.text.name;
  scheduler::WaitPoint point;
  actor->created = [&point] { point.signal(); };
  {
    Lock lock(mutex_);
    start_actor(*actor);
    unlock_and_run(lock);
  }
  context_.host->wait(point, kForever);
}

/// A process for it; its constructor is the first work.
void Pool::start_actor(ActorProcess& actor) {
  actor.constructed = false;
  auto& body = body_of(static_cast<detail::Invocation*>(actor.create.get()));
  actor.worker = start_worker({}, body.text.env, &actor);
  if (actor.worker != nullptr) {
    // The worker keeps the actor until the process is gone.
    actor.worker->label = actor.name;
    return;
  }
  after([self = actor.shared_from_this()] {
    detail::ErrorInfo error;
    error.code = Errc::unavailable;
    error.message = "no process could be started for the actor " + self->name;
    fail(static_cast<detail::Invocation*>(self->create.get()), std::move(error));
    if (self->created) std::exchange(self->created, nullptr)();
  });
}

void Pool::run_call(detail::CallBase* call, void* object) {
  auto& actor = *static_cast<std::shared_ptr<ActorProcess>*>(object)->get();
  auto outgoing = std::make_shared<ActorProcess::Outgoing>();
  outgoing->call = CellRef::share(call);
  outgoing->ready = hold_deps(body_of(call), outgoing->deps);
  Lock lock(mutex_);
  actor.outbox.push_back(outgoing);
  if (!outgoing->ready) {
    after([this, outgoing, keep = actor.shared_from_this()] {
      context_.host->push(new Recall(outgoing->call, [this, outgoing, keep](std::vector<detail::Value> values) {
        Lock relock(mutex_);
        outgoing->deps.clear();
        for (auto& value : values) outgoing->deps.push_back({std::move(value), nullptr});
        outgoing->ready = true;
        flush_actor(*keep);
        unlock_and_run(relock);
      }));
    });
  }
  flush_actor(actor);
  unlock_and_run(lock);
}

void Pool::flush_actor(ActorProcess& actor) {
  while (!actor.outbox.empty() && actor.outbox.front()->ready && actor.constructed && actor.worker != nullptr) {
    const auto outgoing = std::move(actor.outbox.front());
    actor.outbox.pop_front();
    if (outgoing->call->ready()) continue;  // failed while its arguments were recalled
    auto flight = std::make_unique<InFlight>();
    flight->token = next_token_++;
    flight->call = outgoing->call;
    flight->worker = actor.worker;
    flight->attempt = outgoing->attempt;
    auto& kept = *flight;
    tokens_[kept.call.get()] = kept.token;
    flights_[kept.token] = std::move(flight);
    actor.worker->calls.insert(kept.token);
    send_work(*actor.worker, kept, std::move(outgoing->deps));
  }
  if (actor.ending && actor.outbox.empty() && actor.worker != nullptr && actor.constructed) {
    const Bytes leave{static_cast<std::byte>(Frame::leave)};
    actor.worker->end.send(leave);
  }
}

void Pool::unlock_and_run(Lock& lock) {
  while (!after_.empty()) {
    auto steps = std::exchange(after_, {});
    lock.unlock();
    for (auto& step : steps) step();
    lock.lock();
  }
  lock.unlock();
}

}  // namespace trireme::python
