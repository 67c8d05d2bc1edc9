#include "transport/bootstrap/local_door.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mutex>

#include "base/check.hpp"
#include "base/log.hpp"

namespace trireme::transport::local {
namespace {

class LocalDoor;

class LocalGuest final : public Guest {
 public:
  LocalGuest(LocalDoor& door, Arrival arrival, Nanos timeout)
      : door_(door), rank_(arrival.rank), channel_(std::move(arrival.channel)), timeout_(timeout) {}
  ~LocalGuest() override;
  LocalGuest(const LocalGuest&) = delete;
  LocalGuest& operator=(const LocalGuest&) = delete;

  Rank rank() const override { return rank_; }
  Result<Bytes> hear() override { return channel_.receive(SystemClock::read() + timeout_); }
  Status tell(const std::vector<Bytes>& all, BytesView world) override {
    return channel_.send(round(all, world), SystemClock::read() + timeout_);
  }
  void refuse(const Error& why) override { (void)channel_.send(failure(why), SystemClock::read() + kIntroductionMax); }
  Channel& channel() { return channel_; }

 private:
  LocalDoor& door_;
  const Rank rank_;
  Channel channel_;
  const Nanos timeout_;
};

class LocalDoor final : public Door {
 public:
  LocalDoor(Fd listener, LocalOptions options, std::string session, std::deque<Arrival> early)
      : listener_(std::move(listener)),
        bell_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        options_(std::move(options)),
        session_(std::move(session)),
        early_(std::move(early)) {
    TRIREME_CHECK(bool(bell_), "an eventfd");
  }
  ~LocalDoor() override {
    if (!options_.socket.starts_with('@')) unlink(options_.socket.c_str());
  }

  std::unique_ptr<Guest> next() override {
    for (;;) {
      if (auto arrival = early_.empty() ? accept() : take_early(); arrival.channel.fd() >= 0) {
        if (!arrival.channel.send(welcome(session_), SystemClock::read() + kIntroductionMax).ok()) continue;
        auto guest = std::make_unique<LocalGuest>(*this, std::move(arrival), options_.timeout_ns);
        const std::lock_guard lock(mutex_);
        if (closed_) return nullptr;
        guest_ = guest->channel().fd();
        return guest;
      }
      const std::lock_guard lock(mutex_);
      if (closed_) return nullptr;
    }
  }

  void close() override {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    const std::uint64_t one = 1;
    (void)!::write(bell_.get(), &one, sizeof one);
    // Whoever reads from it or writes to it finds it closed; the descriptor stays its owner's.
    if (guest_ >= 0) ::shutdown(guest_, SHUT_RDWR);
  }

  void gone() {
    const std::lock_guard lock(mutex_);
    guest_ = -1;
  }

 private:
  Arrival take_early() {
    auto arrival = std::move(early_.front());
    early_.pop_front();
    return arrival;
  }

  /// The next that introduces itself as it should; one without a channel when the door closed or nobody did.
  Arrival accept() {
    pollfd events[] = {{listener_.get(), POLLIN, 0}, {bell_.get(), POLLIN, 0}};
    if (::poll(events, 2, -1) <= 0 || events[1].revents != 0) return {};
    Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket) return {};
    Arrival arrival;
    arrival.channel = Channel(std::move(socket));
    const auto until = SystemClock::read() + kIntroductionMax;
    auto said = hear_introduction(arrival.channel, options_.size, options_.seats, until);
    if (said && said->rank < options_.size)
      said = send_away(arrival.channel,
                       fmt::format("rank {} was to be there at the start; the seats are ranks {} to {}", said->rank,
                                   options_.size, options_.size + options_.seats - 1),
                       until);
    if (!said) {
      TRIREME_LOG(warning, "local bootstrap: a process that connected to {} was sent away: {}", options_.socket,
                  said.error().message);
      return {};
    }
    arrival.rank = said->rank;
    return arrival;
  }

  Fd listener_;
  Fd bell_;
  const LocalOptions options_;
  const std::string session_;
  std::deque<Arrival> early_;
  std::mutex mutex_;
  bool closed_ = false;
  int guest_ = -1;
};

LocalGuest::~LocalGuest() { door_.gone(); }

}  // namespace

std::unique_ptr<Door> make_door(Fd listener, LocalOptions options, std::string session, std::deque<Arrival> early) {
  return std::make_unique<LocalDoor>(std::move(listener), std::move(options), std::move(session), std::move(early));
}

}  // namespace trireme::transport::local
