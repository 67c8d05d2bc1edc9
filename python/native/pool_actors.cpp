#include <fmt/format.h>

#include <algorithm>
#include <csignal>

#include "base/log.hpp"
#include "python/native/pool.hpp"
#include "python/native/requests.hpp"

namespace trireme::python {

using detail::CellRef;

namespace {

using Held = std::shared_ptr<ActorProcess>;

detail::Invocation* invocation_of(const CellRef& call) { return static_cast<detail::Invocation*>(call.get()); }

}  // namespace

/// What LocalActor calls when its object ends: the last handle is gone, or the actor was killed.
struct ActorEnd {
  static void end(void* data, bool killed) {
    const std::unique_ptr<Held> held(static_cast<Held*>(data));
    auto& actor = **held;
    auto& pool = *actor.pool;
    pool.object_gone(actor, killed);
    if (auto* local = std::exchange(actor.actor, nullptr)) local->release();
  }
  static void destroy(void* data) { end(data, false); }
  static void abort(void* data) { end(data, true); }
};

void Pool::object_gone(ActorProcess& actor, bool killed) {
  Lock lock(mutex_);
  actor.ending = true;
  if (killed) {
    actor.killed = true;
    if (actor.actor != nullptr && actor.actor->dead()) actor.death = actor.actor->death();
    if (actor.worker != nullptr) kill_process(*actor.worker, SIGKILL);
  } else {
    flush_actor(actor);
  }
  unlock_and_run(lock);
}

void Pool::run_create(detail::CallBase* create) {
  auto actor = std::make_shared<ActorProcess>();
  auto& body = body_of(create);
  actor->pool = this;
  actor->actor = create->runner;
  actor->actor->retain();
  actor->create = CellRef::share(create);
  actor->restarts_left = body.text.kind->max_restarts;
  actor->task_retries = body.text.kind->max_task_retries;
  actor->name = body.text.kind->name;
  actor->key = body.text.key;
  actor->env = body.text.kind->env;
  if (actor->restarts_left != 0) {
    Writer text(actor->create_text);
    body.text.encode(text);
    actor->create_refs = body.refs;
  }
  Lock lock(mutex_);
  if (const auto* error = failed_dep(body)) {
    end_actor(*actor, *error);
  } else {
    if (body.text.kind->gpus != 0) actor->gpus = take_gpus(actor->gpu_amount = body.text.kind->gpus);
    start_actor(*actor);
  }
  unlock_and_run(lock);
}

/// A worker that has done nothing yet and that no task waits for: until its first work it is like any other.
Worker* Pool::fresh_worker() const {
  if (closed_ || closing_ || !pending_.empty()) return nullptr;
  for (const auto& worker : workers_) {
    if (worker && !worker->used && !worker->gone && !worker->end_at_start && worker->actor == nullptr &&
        worker->env_key.empty())
      return worker.get();
  }
  return nullptr;
}

/// A process for it; its constructor is the first work.
void Pool::start_actor(ActorProcess& actor) {
  actor.constructed = false;
  if (auto* worker = actor.env.empty() ? fresh_worker() : nullptr) {
    std::erase(idle_, worker);
    worker->actor = actor.shared_from_this();
    worker->label = actor.name;
    actor.worker = worker;
    if (worker->greeted) send_create(*worker);
    return;
  }
  actor.worker = start_worker({}, actor.env, &actor);
  if (actor.worker != nullptr) {
    actor.worker->label = actor.name;
    return;
  }
  end_actor(actor,
            core::runtime_error(context_, Errc::actor_died,
                                closing_ ? "the job ends" : "no process could be started for the actor " + actor.name));
}

/// It has no process any more and gets none: everything that waits for it fails.
void Pool::end_actor(ActorProcess& actor, detail::ErrorInfo error) {
  actor.worker = nullptr;
  if (!actor.gpus.empty()) give_gpus(std::exchange(actor.gpus, {}), actor.gpu_amount);
  for (auto& outgoing : std::exchange(actor.outbox, {})) fail_later(outgoing->call, error);
  auto* local = actor.actor;
  if (local != nullptr && !actor.ending) {
    local->retain();
    after([local, error] {
      local->kill(error);
      local->release();
    });
  }
  const bool first = std::exchange(actor.first, false);
  after([create = std::exchange(actor.create, {}), refs = std::exchange(actor.create_refs, {}), first, error] {
    if (first) fail(invocation_of(create), error);
  });
}

void Pool::send_create(Worker& worker) {
  auto& actor = *worker.actor;
  auto* create = invocation_of(actor.create);
  std::vector<Packed> deps;
  if (!hold_deps(body_of(create), deps)) {
    after([this, self = worker.actor, index = worker.index, id = worker.id] {
      recall_deps(*context_.host, self->create, [this, index, id](std::vector<Packed>) {
        Lock lock(mutex_);
        if (auto* again = find(index, id)) send_create(*again);
        unlock_and_run(lock);
      });
    });
    return;
  }
  auto flight = std::make_unique<InFlight>();
  flight->token = next_token_++;
  flight->call = actor.create;
  flight->attempt = actor.restarts;
  flight->worker = &worker;
  flight->actor_call = true;
  auto& kept = *flight;
  worker.calls.insert(kept.token);
  flights_[kept.token] = std::move(flight);
  send_work(worker, kept, std::move(deps));
}

void Pool::on_created(Worker& worker, std::unique_ptr<detail::ErrorInfo> error) {
  auto& actor = *worker.actor;
  if (error != nullptr) {
    // No restart: the constructor would fail again.
    actor.killed = true;
    kill_process(worker, SIGKILL);
    error->code = actor.first ? error->code : Errc::actor_died;
    return end_actor(actor, std::move(*error));
  }
  actor.constructed = true;
  if (std::exchange(actor.first, false)) {
    after([self = worker.actor, create = actor.create] {
      detail::Object object;
      object.data = new Held(self);
      object.destroy = &ActorEnd::destroy;
      object.abort = &ActorEnd::abort;
      object.pipelined = true;
      invocation_of(create)->invocation->drop_args(invocation_of(create));
      // Calls that waited for it begin within.
      complete_create(invocation_of(create), object);
    });
  }
  flush_actor(actor);
}

void Pool::run_call(detail::CallBase* call, void* object) {
  auto& actor = **static_cast<Held*>(object);
  auto outgoing = std::make_shared<ActorProcess::Outgoing>();
  outgoing->call = CellRef::share(call);
  outgoing->ready = hold_deps(body_of(call), outgoing->deps);
  Lock lock(mutex_);
  const auto& body = body_of(call);
  if (const auto* error = failed_dep(body)) {
    fail_later(outgoing->call, *error);
  } else if (cancelled_.take(body.text.key)) {
    fail_later(outgoing->call, core::runtime_error(context_, Errc::cancelled, body.text.kind->name + " was cancelled"));
  } else {
    actor.outbox.push_back(outgoing);
    if (!outgoing->ready) recall_outgoing(actor, outgoing);
    flush_actor(actor);
  }
  unlock_and_run(lock);
}

void Pool::recall_outgoing(ActorProcess& actor, const std::shared_ptr<ActorProcess::Outgoing>& outgoing) {
  after([this, outgoing, keep = actor.shared_from_this()] {
    recall_deps(*context_.host, outgoing->call, [this, outgoing, keep](std::vector<Packed> held) {
      Lock lock(mutex_);
      outgoing->deps = std::move(held);
      outgoing->ready = true;
      flush_actor(*keep);
      unlock_and_run(lock);
    });
  });
}

void Pool::flush_actor(ActorProcess& actor) {
  while (!actor.outbox.empty() && actor.constructed && actor.worker != nullptr) {
    if (!actor.outbox.front()->ready && !actor.outbox.front()->call->ready()) return;
    const auto outgoing = std::move(actor.outbox.front());
    actor.outbox.pop_front();
    if (outgoing->call->ready()) continue;  // failed while its arguments were recalled
    auto flight = std::make_unique<InFlight>();
    flight->token = next_token_++;
    flight->call = outgoing->call;
    flight->worker = actor.worker;
    flight->attempt = outgoing->attempt;
    flight->actor_call = true;
    auto& kept = *flight;
    tokens_[body_of(invocation_of(kept.call)).text.key] = kept.token;
    flights_[kept.token] = std::move(flight);
    actor.worker->calls.insert(kept.token);
    send_work(*actor.worker, kept, std::move(outgoing->deps));
  }
  if (actor.ending && !actor.killed && actor.outbox.empty() && actor.worker != nullptr && actor.constructed) {
    const Bytes leave{static_cast<std::byte>(Frame::leave)};
    actor.worker->end.send(leave);
  }
}

void Pool::actor_gone(Worker& worker, const std::string& why) {
  auto& actor = *worker.actor;
  if (actor.worker == &worker) actor.worker = nullptr;
  std::vector<std::uint64_t> tokens(worker.calls.begin(), worker.calls.end());
  std::sort(tokens.begin(), tokens.end());
  worker.calls.clear();
  const bool planned = actor.ending || actor.exiting || actor.killed || closing_;
  const bool restart = !planned && actor.restarts_left != 0;
  auto error = death_error(worker, restart ? Errc::unavailable : Errc::actor_died,
                           actor.exiting ? "ended by exit_actor()" : why, "the actor " + actor.name);
  if (restart) error.message += "; it is being started again";
  if (closing_) error = core::runtime_error(context_, Errc::actor_died, "the job ends");
  if (actor.death)
    error = *actor.death;
  else if (actor.killed && actor.actor != nullptr && actor.actor->dead())
    error = actor.actor->death();
  std::vector<std::shared_ptr<ActorProcess::Outgoing>> again;
  for (const auto token : tokens) {
    auto node = flights_.extract(token);
    auto& flight = *node.mapped();
    if (flight.call == actor.create) continue;
    tokens_.erase(body_of(invocation_of(flight.call)).text.key);
    if (flight.cancelled) {
      fail_later(flight.call, core::runtime_error(context_, Errc::cancelled, "the call was cancelled"));
    } else if (restart && (actor.task_retries < 0 || flight.attempt < static_cast<std::uint32_t>(actor.task_retries))) {
      auto outgoing = std::make_shared<ActorProcess::Outgoing>();
      outgoing->call = flight.call;
      outgoing->attempt = flight.attempt + 1;
      outgoing->ready = hold_deps(body_of(invocation_of(flight.call)), outgoing->deps);
      if (!outgoing->ready) {
        outgoing->deps.clear();
        recall_outgoing(actor, outgoing);
      }
      again.push_back(std::move(outgoing));
    } else {
      fail_later(flight.call, error);
    }
  }
  actor.outbox.insert(actor.outbox.begin(), again.begin(), again.end());
  if (!restart) return end_actor(actor, std::move(error));
  if (actor.restarts_left > 0) --actor.restarts_left;
  ++actor.restarts;
  TRIREME_LOG(info, "the actor {} starts again: its process {}", actor.name, why);
  if (!actor.first) {
    // The first construction's block has answered already.
    Reader text(actor.create_text);
    auto* create = make_create(CallText::decode(text), actor.create_refs);
    actor.create = CellRef::adopt(create);
    create->release();
  }
  start_actor(actor);
}

bool Pool::restart_actor(detail::LocalActor* actor) {
  const Lock lock(mutex_);
  for (const auto& worker : workers_) {
    if (!worker || worker->actor == nullptr || worker->actor->actor != actor) continue;
    kill_process(*worker, SIGKILL);
    return true;
  }
  return false;
}

}  // namespace trireme::python
