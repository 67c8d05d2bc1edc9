#include "ml/collective/watch.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "transport/shm/os.hpp"

namespace trireme::ml {
namespace {

struct Watched {
  transport::Fd pidfd;
  std::weak_ptr<DeathListener> listener;
  std::uint32_t member;
};

class Watcher {
 public:
  Watcher() : epoll_(::epoll_create1(EPOLL_CLOEXEC)), owner_(::getpid()) {
    // Signals are for the program's own threads.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread([this] { run(); }).detach();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  int owner() const { return owner_; }

  Status add(int pid, std::weak_ptr<DeathListener> listener, std::uint32_t member) {
    transport::Fd pidfd = transport::open_pidfd(pid);
    if (!pidfd && errno == ESRCH) {  // it was there when the group was made, and has been waited for since
      if (const auto alive = listener.lock()) alive->on_death(member);
      return {};
    }
    if (!pidfd)
      return make_error(Errc::io, fmt::format("watching process {} by pidfd_open (needs Linux 5.3, and a free file "
                                              "descriptor): {}",
                                              pid, std::strerror(errno)));
    const std::lock_guard lock(mutex_);
    // Groups that ended leave their watches behind; they are dropped when the next one is made.
    std::erase_if(watched_, [](const auto& entry) { return entry.second.listener.expired(); });
    const std::uint64_t id = ++last_id_;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = id;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, pidfd.get(), &event) != 0)
      return make_error(Errc::io, fmt::format("epoll_ctl for process {}: {}", pid, std::strerror(errno)));
    watched_.emplace(id, Watched{std::move(pidfd), std::move(listener), member});
    return {};
  }

 private:
  void run() {
    ::pthread_setname_np(::pthread_self(), "trireme-watch");
    for (;;) {
      epoll_event event{};
      if (::epoll_wait(epoll_.get(), &event, 1, -1) != 1) continue;
      Watched ended;
      {
        const std::lock_guard lock(mutex_);
        const auto found = watched_.find(event.data.u64);
        if (found == watched_.end()) continue;
        ended = std::move(found->second);
        watched_.erase(found);
      }
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, ended.pidfd.get(), nullptr);
      if (const auto listener = ended.listener.lock()) listener->on_death(ended.member);
    }
  }

  transport::Fd epoll_;
  const int owner_;
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, Watched> watched_;
  std::uint64_t last_id_ = 0;
};

}  // namespace

Status watch_process(int pid, std::weak_ptr<DeathListener> listener, std::uint32_t member) {
  // Never destroyed: its thread may run until the process ends.
  static std::mutex mutex;
  static Watcher* watcher = nullptr;
  const std::lock_guard lock(mutex);
  if (watcher == nullptr || watcher->owner() != ::getpid()) watcher = new Watcher;
  return watcher->add(pid, std::move(listener), member);
}

}  // namespace trireme::ml
