#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/log.hpp"
#include "python/native/pool.hpp"
#include "python/native/requests.hpp"

namespace trireme::python {

namespace {

/// Lines that a worker's obituary ends with.
constexpr std::size_t kTailLines = 20;
/// Output without a newline is shown in pieces of this size.
constexpr std::size_t kLineBytesMax = 64U << 10;
/// Lines that wait to be shown; older ones go first when nobody fetches them.
constexpr std::size_t kLogLinesMax = 100'000;
/// Workers in a row that end before they are ready: then no more are started for what waits.
constexpr unsigned kFailedStartsMax = 5;

std::string end_text(int status) {
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    const char* name = ::sigabbrev_np(number);
    return fmt::format("was killed by signal {} ({})", number,
                       name != nullptr ? fmt::format("SIG{}", name) : "unknown");
  }
  return fmt::format("exited with status {}", WEXITSTATUS(status));
}

}  // namespace

Worker* Pool::start_worker(std::string env_key, std::string env, ActorProcess* actor) {
  if (closed_ || closing_ || !zygote_) return nullptr;
  auto made = std::make_unique<Worker>();
  auto file = MemoryFile::create("trireme-worker", kWorkerBytes);
  if (!file) {
    TRIREME_LOG(error, "a worker cannot be started: {}", file.error().message);
    return nullptr;
  }
  for (int stream = 0; stream < 2; ++stream) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) {
      TRIREME_LOG(error, "a worker cannot be started: pipe2: {}", std::strerror(errno));
      return nullptr;
    }
    made->output[stream] = transport::Fd(ends[0]);
    made->output_in[stream] = transport::Fd(ends[1]);
    ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  }
  made->file = std::move(*file);
  if (!free_indices_.empty()) {
    made->index = free_indices_.back();
    free_indices_.pop_back();
  } else if (workers_.size() < kWorkersMax) {
    made->index = static_cast<std::uint32_t>(workers_.size());
    workers_.emplace_back();
    workers_seen_.store(workers_.size(), std::memory_order_release);
  } else {
    TRIREME_LOG(error, "a rank has at most {} worker processes", kWorkersMax);
    return nullptr;
  }
  static std::atomic<std::uint64_t> ids{1};
  made->id = ids.fetch_add(1, std::memory_order_relaxed);
  made->end = RankEnd(made->file.memory.bytes(), board_, made->index);
  made->env_key = std::move(env_key);
  if (actor != nullptr) made->actor = actor->shared_from_this();
  auto* worker = made.get();
  workers_[made->index] = std::move(made);
  by_id_[worker->id] = worker;
  for (const std::uint64_t stream : {0, 1})
    watch(worker->output[stream].get(), (std::uint64_t{worker->index} << 8U) | (stream + 1));
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
    TRIREME_LOG(error, "the template process of the workers cannot be reached: {}", std::strerror(errno));
    retire(*worker);
    return nullptr;
  }
  return worker;
}

int Pool::look_at_descriptors(Lock& lock) {
  epoll_event events[32];
  const int count = ::epoll_wait(epoll_.get(), events, 32, 0);
  for (int i = 0; i < count; ++i) {
    const auto tag = events[i].data.u64;
    if (tag == 0) {
      char buffer[64];
      // One call: more bells than that would ring again.
      [[maybe_unused]] const auto rung = ::read(bell_read_.get(), buffer, sizeof buffer);
    } else if (tag == 3) {
      read_zygote(lock);
    } else if (const auto index = tag >> 8U; index < workers_.size() && workers_[index]) {
      read_output(*workers_[index], static_cast<int>(tag & 0xFFU) - 1);
    }
  }
  // Bells ring at every burst: alone they are no sign of more to come.
  return 0;
}

void Pool::read_zygote(Lock& lock) {
  struct __attribute__((packed)) Packet {
    char what;
    std::uint32_t worker;
    std::int32_t pid;
    std::int32_t status;
  };
  // "<cIii" has no padding: 13 bytes.
  static_assert(sizeof(Packet) == 13);
  for (;;) {
    Packet packet{};
    const auto size = ::recv(zygote_.get(), &packet, sizeof packet, 0);
    if (size <= 0) {
      if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
      if (!closed_ && !closing_) TRIREME_LOG(error, "the template process of the workers has ended: no new workers");
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, zygote_.get(), nullptr);
      // It took its children along.
      std::vector<Worker*> left;
      for (const auto& worker : workers_) {
        if (worker) left.push_back(worker.get());
      }
      for (auto* worker : left) on_worker_gone(lock, *worker, SIGKILL);
      return;
    }
    if (packet.what == 'R') continue;
    const auto at = by_id_.find(packet.worker);
    if (at == by_id_.end()) continue;
    if (packet.what == 'S') {
      at->second->pid = packet.pid;
      if (at->second->end_at_start) kill_process(*at->second, SIGKILL);
    } else if (packet.what == 'D')
      on_worker_gone(lock, *at->second, packet.status);
  }
}

void Pool::read_output(Worker& worker, int stream) {
  char buffer[16 << 10];
  for (;;) {
    const auto size = ::read(worker.output[stream].get(), buffer, sizeof buffer);
    if (size > 0) {
      add_output(worker, stream, {buffer, static_cast<std::size_t>(size)}, false);
      continue;
    }
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, worker.output[stream].get(), nullptr);
    return;
  }
}

void Pool::add_output(Worker& worker, int stream, std::string_view text, bool end) {
  auto& line = worker.line[stream];
  std::vector<LogLine> lines;
  const auto emit = [&](std::string_view whole) {
    if (!whole.starts_with(kCallMark)) {
      worker.tail.emplace_back(whole);
      if (worker.tail.size() > kTailLines) worker.tail.pop_front();
    }
    lines.push_back({worker.pid, stream + 1, worker.label, std::string(whole)});
  };
  line.append(text);
  std::size_t from = 0;
  for (;;) {
    const auto newline = line.find('\n', from);
    if (newline == std::string::npos) break;
    emit(std::string_view(line).substr(from, newline - from));
    from = newline + 1;
  }
  line.erase(0, from);
  if (!line.empty() && (end || line.size() > kLineBytesMax)) {
    emit(line);
    line.clear();
  }
  if (lines.empty()) return;
  const std::lock_guard lock(log_mutex_);
  for (auto& each : lines) log_lines_.push_back(std::move(each));
  while (log_lines_.size() > kLogLinesMax) log_lines_.pop_front();
  log_ready_.notify_one();
}

/// See WorkerPage::interrupted.
void Pool::repeat_interrupts(Nanos now) {
  std::erase_if(interrupts_, [&](Interrupt& each) {
    const auto at = flights_.find(each.token);
    if (at == flights_.end()) return true;
    auto& worker = *at->second->worker;
    if (worker.gone || worker.end.page().interrupted.load(std::memory_order_acquire) == each.token) return true;
    if (now >= each.due) {
      kill_process(worker, SIGINT);
      each.wait = std::min(2 * each.wait, kInterruptRarest);
      each.due = now + each.wait;
    }
    look_again_.store(std::min<Nanos>(look_again_, each.due));
    return false;
  });
}

void Pool::kill_process(Worker& worker, int signal) {
  if (worker.pid > 0) {
    ::kill(worker.pid, signal);
    return;
  }
  // Its pid is on its way: the template process has said nothing yet.
  if (signal == SIGKILL) worker.end_at_start = true;
}

detail::ErrorInfo Pool::death_error(const Worker& worker, Errc code, const std::string& why,
                                    const std::string& name) const {
  auto message = fmt::format("{}: its process (pid {}) {}", name, worker.pid, why);
  if (!worker.tail.empty()) {
    message += "; the last lines of its output:";
    for (const auto& line : worker.tail) message += "\n  " + line;
  }
  auto error = core::runtime_error(context_, code, std::move(message));
  error.task = name;
  return error;
}

void Pool::retire(Worker& worker) {
  const auto index = worker.index;
  by_id_.erase(worker.id);
  std::erase(idle_, &worker);
  // What it held is given up outside the lock: that may lead back here.
  auto* gone = workers_[index].release();
  requests_->drop(*gone);
  board_->pending[index / 64].fetch_and(~(std::uint64_t{1} << (index % 64)), std::memory_order_seq_cst);
  free_indices_.push_back(index);
  after([gone] { delete gone; });
  if (by_id_.empty()) all_gone_.notify_all();
}

void Pool::on_worker_gone(Lock& lock, Worker& worker, int status) {
  // What it said before it ended counts.
  look_at(lock, worker);
  for (const int stream : {0, 1}) {
    read_output(worker, stream);
    add_output(worker, stream, {}, true);
  }
  worker.gone = true;
  auto why = end_text(status);
  if (worker.end.corrupt()) why += ", after it broke the protocol";
  if (worker.actor != nullptr) {
    actor_gone(worker, why);
    retire(worker);
    return dispatch();
  }
  const bool planned = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (!worker.greeted && !planned && !closing_ && ++failed_starts_ >= kFailedStartsMax) {
    const auto error = death_error(worker, Errc::unavailable, why + " before it was ready", "a worker");
    for (auto& queued : std::exchange(pending_, {})) fail_later(queued.call, error, queued.exportable);
    queued_.store(0);
    failed_starts_ = 0;
  }
  const auto tasks = std::exchange(worker.tasks, {});
  std::vector<Queued> again;
  bool first = true;
  for (const auto token : tasks) {
    auto node = flights_.extract(token);
    auto& flight = *node.mapped();
    const auto& text = body_of(static_cast<detail::Invocation*>(flight.call.get())).text;
    tokens_.erase(text.key);
    const auto slot = worker.end.page().slots[flight.slot].load(std::memory_order_acquire);
    const bool begun = slot == WorkerPage::kStarted;
    if (std::exchange(first, false) && worker.waits == 0) vacate(worker, text);
    if (flight.revoked) {
      fail_later(flight.call, revoked_error());
    } else if (flight.cancelled) {
      fail_later(flight.call, core::runtime_error(context_, Errc::cancelled, text.kind->name + " was cancelled"));
    } else if (closing_) {
      fail_later(flight.call, core::runtime_error(context_, Errc::shutdown, "the job ends"));
    } else if (!begun) {
      again.push_back({std::move(flight.call), false, flight.attempt});
    } else if (text.kind->max_retries < 0 || flight.attempt < static_cast<std::uint32_t>(text.kind->max_retries)) {
      TRIREME_LOG(info, "{} runs again: its process {}", text.kind->name, why);
      again.push_back({std::move(flight.call), false, flight.attempt + 1});
    } else {
      fail_later(flight.call, death_error(worker, Errc::worker_lost, why, text.kind->name));
    }
  }
  if (worker.counted) {
    worker.counted = false;
    --running_;
  }
  retire(worker);
  for (auto each = again.rbegin(); each != again.rend(); ++each) enqueue(std::move(*each), true);
  dispatch();
}

}  // namespace trireme::python
