#include "core/launcher_watch.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include <fmt/format.h>

#include "base/check.hpp"
#include "base/log.hpp"
#include "scheduler/thread_setup.hpp"

namespace trireme::core {
namespace {

constexpr int kLookMs = 1'000;

std::string read_all(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// 0 when the process is gone.
pid_t parent_of(pid_t pid) {
  const auto stat = read_all(fmt::format("/proc/{}/stat", pid));
  // "pid (name) state parent ...": the name may hold anything, parentheses too.
  const auto after_name = stat.rfind(')');
  return after_name == std::string::npos || after_name + 4 > stat.size() ? 0 : std::atoi(stat.c_str() + after_name + 4);
}

/// Whether the environment, variables that end with a zero, holds this one.
bool holds(const std::string& environment, const char* name, const char* value) {
  const auto line = fmt::format("{}={}", name, value);
  for (std::size_t at = 0; at < environment.size(); at = environment.find('\0', at) + 1) {
    if (environment.compare(at, line.size() + 1, line.c_str(), line.size() + 1) == 0) return true;
    if (environment.find('\0', at) == std::string::npos) break;
  }
  return false;
}

}  // namespace

std::optional<pid_t> find_launcher() {
  const char* space = std::getenv("PMIX_NAMESPACE");
  const char* rank = std::getenv("PMIX_RANK");
  if (space == nullptr || rank == nullptr) return std::nullopt;
  for (pid_t pid = ::getppid(); pid > 0; pid = parent_of(pid)) {
    // What may not be read belongs to another user: a slurmstepd of root.
    const auto environment = read_all(fmt::format("/proc/{}/environ", pid));
    if (!holds(environment, "PMIX_NAMESPACE", space) || !holds(environment, "PMIX_RANK", rank)) return pid;
  }
  return std::nullopt;
}

namespace {
std::atomic<bool> watched_for_good{false};
}

bool watch_launcher_for_good() {
  static const bool found = [] {
    const auto launcher = find_launcher();
    if (!launcher) return false;
    [[maybe_unused]] auto* kept = new LauncherWatch(*launcher);
    watched_for_good.store(true, std::memory_order_relaxed);
    return true;
  }();
  return found;
}

bool launcher_is_watched() { return watched_for_good.load(std::memory_order_relaxed); }

LauncherWatch::LauncherWatch(pid_t launcher) : launcher_(launcher) {
  process_ = static_cast<int>(::syscall(SYS_pidfd_open, launcher, 0U));
  stop_ = ::eventfd(0, EFD_CLOEXEC);
  TRIREME_CHECK(stop_ >= 0, "no eventfd could be made");
  const scheduler::QuietSignals quiet;
  thread_ = std::thread([this] { run(); });
}

LauncherWatch::~LauncherWatch() {
  ::eventfd_write(stop_, 1);
  thread_.join();
  ::close(stop_);
  if (process_ >= 0) ::close(process_);
}

bool LauncherWatch::wait_for_end() {
  while (true) {
    pollfd fds[] = {{stop_, POLLIN, 0}, {process_, POLLIN, 0}};  // poll() passes over a negative descriptor
    const int ready = ::poll(fds, 2, process_ >= 0 ? -1 : kLookMs);
    if (ready < 0 && errno != EINTR) return false;
    if (ready > 0 && fds[0].revents != 0) return false;
    if (ready > 0) return true;
    if (process_ < 0 && ::kill(launcher_, 0) != 0 && errno == ESRCH) return true;
  }
}

void LauncherWatch::run() {
  scheduler::name_this_thread("trireme-launch");
  if (!wait_for_end()) return;
  // The line may find nobody to read it, and must not end the process before its own handlers saw SIGTERM: this thread
  // has SIGPIPE blocked.
  TRIREME_LOG(warning, "the launcher of this rank (pid {}) is gone, so the rank ends", launcher_);
  ::kill(::getpid(), SIGTERM);
  pollfd stop{stop_, POLLIN, 0};
  if (::poll(&stop, 1, kGraceMs) == 0) ::kill(::getpid(), SIGKILL);
}

}  // namespace trireme::core
