#include <fmt/format.h>

#include <algorithm>
#include <csignal>

#include "base/log.hpp"
#include "python/native/pool.hpp"
#include "python/native/requests.hpp"

namespace trireme::python {

using detail::CellRef;

namespace {

/// Frames of one worker taken before others get their turn.
constexpr int kBurst = 64;
/// How much the last task counts in the running mean of how long a worker's tasks take.
constexpr double kMeanShare = 0.5;

detail::Invocation* invocation_of(const CellRef& call) { return static_cast<detail::Invocation*>(call.get()); }

}  // namespace

void Drain::begin() {
  const std::lock_guard lock(mutex_);
  ++waiting_;
}

void Drain::done() {
  std::function<void()> step;
  {
    const std::lock_guard lock(mutex_);
    if (--waiting_ != 0) return;
    step.swap(end_);
  }
  if (step) step();
}

void Drain::end(std::function<void()> step) {
  {
    const std::lock_guard lock(mutex_);
    if (waiting_ != 0) {
      end_ = std::move(step);
      return;
    }
  }
  step();
}

int Pool::look_at(Lock& lock, Worker& worker) {
  worker.end.flush();
  int frames = 0;
  for (; frames < kBurst; ++frames) {
    const auto frame = worker.end.receive();
    if (frame.empty()) break;
    on_frame(lock, worker, frame);
    // What one frame asks for is done before the next is looked at: a worker's calls keep their order.
    if (!after_.empty()) {
      unlock_and_run(lock);
      lock.lock();
    }
  }
  if (frames == kBurst)  // seq_cst as in Board: there may be more
    board_->pending[worker.index / 64].fetch_or(std::uint64_t{1} << (worker.index % 64), std::memory_order_seq_cst);
  if (worker.end.corrupt()) {
    TRIREME_LOG(error, "worker {} (pid {}) broke its ring; it is killed", worker.index, worker.pid);
    kill_process(worker, SIGKILL);
  }
  return frames;
}

void Pool::on_frame(Lock&, Worker& worker, BytesView frame) {
  Reader in(frame);
  const auto kind = in.get<Frame>();
  switch (kind) {
    case Frame::hello:
      on_hello(worker);
      break;
    case Frame::done:
      on_done(worker, in);
      break;
    case Frame::failed:
      on_failed(worker, in);
      break;
    case Frame::yielded:
      on_yielded(worker, in);
      break;
    default:
      if (!requests_->handle(worker, kind, in)) in.fail();
      break;
  }
  if (in.ok()) return;
  TRIREME_LOG(error, "worker {} (pid {}) sent a malformed frame of kind {}; it is killed", worker.index, worker.pid,
              static_cast<int>(kind));
  kill_process(worker, SIGKILL);
}

void Pool::on_hello(Worker& worker) {
  worker.greeted = true;
  failed_starts_ = 0;
  // It has opened them: from now on their end is its end.
  for (auto& fd : worker.output_in) fd.reset();
  if (worker.actor != nullptr) {
    if (worker.actor->ending)
      kill_process(worker, SIGKILL);
    else
      send_create(worker);
    return;
  }
  if (closing_) {
    const Bytes leave{static_cast<std::byte>(Frame::leave)};
    worker.end.send(leave);
    return;
  }
  idle_.push_back(&worker);
  dispatch();
}

std::unique_ptr<InFlight> Pool::finished(Worker& worker, std::uint64_t token) {
  const auto at = flights_.find(token);
  if (at == flights_.end() || at->second->worker != &worker) return nullptr;
  auto flight = std::move(at->second);
  flights_.erase(at);
  const auto& text = body_of(invocation_of(flight->call)).text;
  if (const auto key = tokens_.find(text.key); key != tokens_.end() && key->second == token) tokens_.erase(key);
  if (flight->actor_call) {
    worker.calls.erase(token);
    if (flight->cancelled) --worker.cancels;
    if (worker.cancels != 0) tell_cancelled(worker);
    return flight;
  }
  auto& slot = worker.end.page().slots[flight->slot];
  if (slot.load(std::memory_order_relaxed) == WorkerPage::kStarted) slot.store(WorkerPage::kFree);
  const bool front = !worker.tasks.empty() && worker.tasks.front() == token;
  std::erase(worker.tasks, token);
  if (!front) return flight;
  const auto now = SystemClock::read();
  const auto took = static_cast<double>(now - std::max(flight->sent, worker.last_done));
  worker.task_nanos = worker.task_nanos * (1 - kMeanShare) + took * kMeanShare;
  worker.last_done = now;
  if (worker.waits == 0) vacate(worker, text);
  worker.waits = 0;
  if (!worker.tasks.empty()) {
    occupy(worker, body_of(invocation_of(flights_.at(worker.tasks.front())->call)).text);
  } else {
    idle_.push_back(&worker);
  }
  dispatch();
  if (context_.size > 1 && pending_.empty() && has_cpu() && !std::exchange(told_idle_, true))
    after([this] { session_.core().went_idle(); });
  return flight;
}

void Pool::finish_call(std::unique_ptr<InFlight> flight, std::vector<detail::Value> results) {
  auto step = [call = flight->call, results = std::move(results)]() mutable {
    complete(invocation_of(call), std::move(results));
  };
  if (flight->drain) {
    after([drain = flight->drain, step = std::move(step)]() mutable { drain->end(std::move(step)); });
    return;
  }
  after(std::move(step));
}

void Pool::on_done(Worker& worker, Reader& in) {
  const auto token = in.get<std::uint64_t>();
  const auto count = in.count();
  std::vector<detail::Value> results;
  results.reserve(count);
  for (std::uint64_t i = 0; i < count && in.ok(); ++i) results.push_back(requests_->read_value(in, worker));
  if (!in.done()) return in.fail();
  auto flight = finished(worker, token);
  if (flight == nullptr) return;
  if (worker.actor != nullptr && flight->call == worker.actor->create) return on_created(worker, nullptr);
  const auto& text = body_of(invocation_of(flight->call)).text;
  if (!text.kind->streaming && results.size() != text.kind->returns) {
    auto error = core::runtime_error(
        context_, Errc::task_failed,
        fmt::format("{} gave {} values, {} were asked for", text.kind->name, results.size(), text.kind->returns));
    error.task = text.kind->name;
    return fail_later(flight->call, std::move(error));
  }
  finish_call(std::move(flight), std::move(results));
}

void Pool::on_failed(Worker& worker, Reader& in) {
  const auto token = in.get<std::uint64_t>();
  auto error = std::make_unique<detail::ErrorInfo>(core::runtime_error(context_, Errc::task_failed, {}));
  error->message = in.text();
  error->type = in.text();
  error->payload = in.text();
  if (!in.done()) return in.fail();
  auto flight = finished(worker, token);
  if (flight == nullptr) return;
  error->task = body_of(invocation_of(flight->call)).text.kind->name;
  if (worker.actor != nullptr && flight->call == worker.actor->create) return on_created(worker, std::move(error));
  if (flight->cancelled && (error->type.find("KeyboardInterrupt") != std::string::npos ||
                            error->type.find("Cancelled") != std::string::npos))
    error->code = Errc::cancelled;
  auto step = [call = flight->call, failed = std::move(*error)]() mutable {
    fail(invocation_of(call), std::move(failed));
  };
  if (flight->drain)
    after([drain = flight->drain, step = std::move(step)]() mutable { drain->end(std::move(step)); });
  else
    after(std::move(step));
}

void Pool::on_yielded(Worker& worker, Reader& in) {
  const auto request = in.varint();
  const auto token = in.get<std::uint64_t>();
  auto value = requests_->read_value(in, worker);
  if (!in.done()) return in.fail();
  const auto at = flights_.find(token);
  if (at == flights_.end() || at->second->worker != &worker) return in.fail();
  auto& flight = *at->second;
  const auto& text = body_of(invocation_of(flight.call)).text;
  if (!text.kind->streaming) return in.fail();
  if (!flight.drain) flight.drain = std::make_shared<Drain>();
  flight.drain->begin();
  auto item = detail::make_plain_cell();
  item->complete(std::move(value));
  struct Answer {
    bool done = false;
    bool blocked = false;
  };
  auto state = std::make_shared<Answer>();
  after([this, state, request, stream = text.kind->stream, number = flight.yielded, item, drain = flight.drain,
         index = worker.index, id = worker.id, task_token = token] {
    push_to_stream(stream, number, item, [this, state, request, drain, index, id](bool wanted) {
      {
        Lock lock(mutex_);
        state->done = true;
        auto* producer = find(index, id);
        if (producer != nullptr && std::exchange(state->blocked, false)) set_blocked(*producer, false);
        unlock_and_run(lock);
      }
      if (wanted) {
        requests_->answer(index, id, request, [](Writer&, Worker&) {});
      } else {
        requests_->answer_error(index, id, request,
                                core::runtime_error(context_, Errc::cancelled, "nobody reads the values any more"));
      }
      drain->done();
    });
    // A producer that is held back lends its CPU to whoever reads its values.
    Lock lock(mutex_);
    if (auto* producer = find(index, id); producer != nullptr && !state->done && flights_.contains(task_token)) {
      state->blocked = true;
      set_blocked(*producer, true);
    }
    unlock_and_run(lock);
  });
  ++flight.yielded;
}

}  // namespace trireme::python
