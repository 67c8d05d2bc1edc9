#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/log.hpp"
#include "transport/bootstrap.hpp"
#include "transport/bootstrap/channel.hpp"
#include "transport/bootstrap/local_door.hpp"
#include "transport/bootstrap/local_records.hpp"

// Rank 0 listens; every other rank connects and introduces itself. From then on each round of an exchange is one record
// from every rank to rank 0 and one record with all of them back.

namespace trireme::transport {
namespace {

using local::kIntroductionMax;

// Between two attempts to reach a rank 0 that does not listen yet: far below a process start, far above nothing.
constexpr Nanos kRetry = 2 * kMillisecond;

void sleep_for(Nanos duration) {
  const timespec time{duration / kSecond, duration % kSecond};
  nanosleep(&time, nullptr);
}

class Local final : public Bootstrap {
 public:
  explicit Local(LocalOptions options)
      : options_(std::move(options)), deadline_(SystemClock::read() + options_.timeout_ns), ranks_(options_.size) {}
  ~Local() override {
    finalize();
    if (listener_ && !options_.socket.starts_with('@')) unlink(options_.socket.c_str());
  }

  Status open() { return options_.rank == 0 ? gather_ranks() : introduce(); }

  std::uint32_t seats() const override { return options_.seats; }
  BytesView world() const override { return world_; }
  std::unique_ptr<Door> door() override {
    if (!listener_) return nullptr;
    return local::make_door(std::move(listener_), options_, session_, std::move(early_));
  }

  std::string_view name() const override { return "local"; }
  Rank rank() const override { return options_.rank; }
  std::uint32_t size() const override { return options_.size; }
  std::string session() const override { return session_; }

  Result<std::vector<Bytes>> all_gather(BytesView mine) override {
    if (finalized_)
      return make_error(Errc::invalid_argument, "bootstrap: all_gather after finalize(); exchange everything before");
    deadline_ = SystemClock::read() + options_.timeout_ns;
    auto round = options_.rank == 0 ? lead(mine) : follow(mine);
    if (!round && options_.rank == 0) give_up(round.error());
    return round;
  }
  Status barrier() override {
    auto all = all_gather({});
    return all ? Status{} : Status(all.error());
  }
  void finalize() override {
    finalized_ = true;
    ranks_.clear();
    zero_.close();
  }

 private:
  Error local_error(const Error& error, std::string_view doing) const {
    return make_error(error.code, fmt::format("local bootstrap, rank {} of {}, {}: {}", options_.rank, options_.size,
                                              doing, error.message));
  }

  // Rank 0.

  Status gather_ranks() {
    auto listener = listen_unix(options_.socket);
    if (!listener) {
      auto error = local_error(listener.error(), "waiting for the others");
      error.message += ". TRIREME_LOCAL_SOCKET names a new file in a folder of the user's own, one for each cluster";
      return error;
    }
    session_ = fmt::format("local-{}-{:x}", getpid(), SystemClock::read());
    auto status = accept_all(*listener);
    if (status.ok() && options_.seats > 0) {
      listener_ = std::move(*listener);
      return status;
    }
    // Nobody is to come any more, and nothing is to stay.
    if (!options_.socket.starts_with('@')) unlink(options_.socket.c_str());
    if (!status.ok()) give_up(status.error());
    return status;
  }

  struct Guest {
    Channel channel;
    Nanos until;
  };

  Status accept_all(const Fd& listener) {
    std::deque<Guest> guests;
    while (!missing().empty()) {
      std::vector<pollfd> events{{listener.get(), POLLIN, 0}};
      Nanos until = deadline_;
      for (const auto& guest : guests) {
        events.push_back({guest.channel.fd(), POLLIN, 0});
        until = std::min(until, guest.until);
      }
      const Nanos left = until - SystemClock::read();
      if (left > 0 && ::poll(events.data(), events.size(), static_cast<int>(left / kMillisecond + 1)) < 0 &&
          errno != EINTR)
        return make_error(Errc::io, fmt::format("local bootstrap: poll failed: {}", std::strerror(errno)));
      const Nanos now = SystemClock::read();
      std::deque<Guest> waiting;
      for (std::size_t i = 0; i < guests.size(); ++i) {
        if (events[i + 1].revents != 0)
          admit(std::move(guests[i].channel));
        else if (now < guests[i].until)
          waiting.push_back(std::move(guests[i]));
      }
      guests = std::move(waiting);
      if (events[0].revents != 0) {
        Fd guest(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
        if (guest) guests.push_back({Channel(std::move(guest)), std::min(deadline_, now + kIntroductionMax)});
      }
      if (now >= deadline_ && !missing().empty()) return missing_error();
    }
    return {};
  }

  std::vector<Rank> missing() const {
    std::vector<Rank> ranks;
    for (Rank rank = 1; rank < options_.size; ++rank)
      if (ranks_[rank].fd() < 0) ranks.push_back(rank);
    return ranks;
  }

  Error missing_error() const {
    constexpr std::size_t kNamedMax = 8;
    auto ranks = missing();
    const auto count = ranks.size();
    ranks.resize(std::min(count, kNamedMax));
    return make_error(
        Errc::timeout,
        fmt::format("local bootstrap: {} of {} ranks did not come to {} within {:.1f} s: {} {}{}. Check that every one "
                    "was started, and its standard error",
                    count, options_.size, options_.socket, static_cast<double>(options_.timeout_ns) / kSecond,
                    count == 1 ? "rank" : "ranks", fmt::join(ranks, ", "), count > kNamedMax ? ", ..." : ""));
  }

  /// Lets a guest in as the rank it says it is, or sends it away: it harms none but itself.
  void admit(Channel guest) {
    const Nanos until = std::min(deadline_, SystemClock::read() + kIntroductionMax);
    auto said = local::hear_introduction(guest, options_.size, options_.seats, until);
    if (said && said->rank < options_.size && ranks_[said->rank].fd() >= 0)
      said = local::send_away(
          guest, fmt::format("rank {} has come already: TRIREME_LOCAL_RANK is given twice", said->rank), until);
    if (!said) {
      TRIREME_LOG(warning, "local bootstrap: a process that connected to {} was sent away: {}", options_.socket,
                  said.error().message);
    } else if (said->rank >= options_.size) {
      early_.push_back({said->rank, std::move(guest)});
    } else if (guest.send(local::welcome(session_), until).ok()) {
      ranks_[said->rank] = std::move(guest);
    }
  }

  Result<std::vector<Bytes>> lead(BytesView mine) {
    std::vector<Bytes> all(options_.size);
    all[0].assign(mine.begin(), mine.end());
    for (Rank rank = 1; rank < options_.size; ++rank) {
      auto record = ranks_[rank].receive(deadline_);
      if (!record) return local_error(record.error(), fmt::format("waiting for rank {}", rank));
      all[rank] = std::move(*record);
    }
    const auto record = local::round(all, std::nullopt);
    for (Rank rank = 1; rank < options_.size; ++rank)
      if (auto status = ranks_[rank].send(record, deadline_); !status.ok())
        return local_error(status.error(), fmt::format("telling rank {}", rank));
    return all;
  }

  /// So that all ranks end with the same text.
  void give_up(const Error& error) {
    const auto record = local::failure(error);
    for (auto& rank : ranks_)
      if (rank.fd() >= 0) (void)rank.send(record, SystemClock::read() + kIntroductionMax);
    finalize();
  }

  // The other ranks.

  Status introduce() {
    for (;;) {
      auto socket = connect_unix(options_.socket);
      if (socket) {
        zero_ = Channel(std::move(*socket));
        if (!zero_.same_user())
          return make_error(Errc::unavailable,
                            fmt::format("local bootstrap: {} belongs to another user", options_.socket));
        break;
      }
      if (socket.error().code != Errc::not_found || SystemClock::read() >= deadline_)
        return local_error(socket.error(), fmt::format("looking for rank 0 for {:.1f} s",
                                                       static_cast<double>(options_.timeout_ns) / kSecond));
      sleep_for(kRetry);
    }
    const local::Introduction me{options_.rank, options_.size, options_.seats};
    if (auto status = zero_.send(me.encode(), deadline_); !status.ok())
      return local_error(status.error(), "introducing itself to rank 0");
    auto record = zero_.receive(deadline_);
    if (!record) return local_error(record.error(), "waiting for rank 0's welcome");
    auto welcome = local::answer(*record);
    if (!welcome) return welcome.error();
    Reader in(*welcome);
    session_ = std::string(in.text());
    if (!in.done()) return make_error(Errc::malformed, "local bootstrap: rank 0's welcome makes no sense");
    return {};
  }

  Result<std::vector<Bytes>> follow(BytesView mine) {
    // Rank 0 may have given up already; its reason then waits here to be read.
    if (auto status = zero_.send(mine, deadline_); !status.ok() && status.error().code != Errc::peer_lost)
      return local_error(status.error(), "telling rank 0");
    // Rank 0 waits for the slowest rank with the same patience, and then tells which it was.
    auto record = zero_.receive(deadline_ + kIntroductionMax);
    if (!record) return local_error(record.error(), "waiting for rank 0");
    auto body = local::answer(*record);
    if (!body) return body.error();
    Reader in(*body);
    std::vector<Bytes> all;
    const auto records = late() ? options_.size + options_.seats : options_.size;
    for (Rank rank = 0; rank < records; ++rank) {
      const auto blob = in.blob();
      all.emplace_back(blob.begin(), blob.end());
    }
    if (late()) {
      const auto blob = in.blob();
      world_.assign(blob.begin(), blob.end());
    }
    if (!in.done()) return make_error(Errc::malformed, "local bootstrap: an answer of rank 0 makes no sense");
    return all;
  }

  const LocalOptions options_;
  Nanos deadline_;
  std::string session_;
  std::vector<Channel> ranks_;  // rank 0: by rank
  Channel zero_;                // the others
  bool finalized_ = false;
  // With seats.
  Fd listener_;                       // rank 0, until door()
  std::deque<local::Arrival> early_;  // rank 0: late ranks that came before the others were through
  Bytes world_;                       // a late rank
};

/// A whole number, or an error that names the variable.
Result<std::uint64_t> number(const char* variable) {
  const char* text = std::getenv(variable);
  char* end = nullptr;
  const bool digits = text != nullptr && *text >= '0' && *text <= '9';
  const auto value = digits ? std::strtoull(text, &end, 10) : 0;
  if (!digits || *end != '\0' || value > UINT32_MAX)
    return make_error(
        Errc::invalid_argument,
        fmt::format("{} is {}; a local cluster sets TRIREME_LOCAL_RANK, TRIREME_LOCAL_SIZE (whole numbers) "
                    "and TRIREME_LOCAL_SOCKET (a path) for each rank",
                    variable, text == nullptr ? "not set" : fmt::format("\"{}\"", text)));
  return value;
}

}  // namespace

Result<std::unique_ptr<Bootstrap>> bootstrap_local(LocalOptions options) {
  constexpr std::uint32_t kSeatsMax = 1U << 16U;
  if (options.size == 0 || options.seats > kSeatsMax || options.rank >= options.size + options.seats)
    return make_error(Errc::invalid_argument,
                      fmt::format("local bootstrap: rank {} of {} ranks and {} seats makes no sense; ranks count from "
                                  "0, and seats are {} at most",
                                  options.rank, options.size, options.seats, kSeatsMax));
  auto local = std::make_unique<Local>(std::move(options));
  if (auto status = local->open(); !status.ok()) return status.error();
  return std::unique_ptr<Bootstrap>(std::move(local));
}

Result<LocalOptions> local_options_from_environment() {
  LocalOptions options;
  const auto rank = number("TRIREME_LOCAL_RANK");
  if (!rank) return rank.error();
  const auto size = number("TRIREME_LOCAL_SIZE");
  if (!size) return size.error();
  options.rank = static_cast<Rank>(rank.value());
  options.size = static_cast<std::uint32_t>(size.value());
  const char* socket = std::getenv("TRIREME_LOCAL_SOCKET");
  if (socket == nullptr || *socket == '\0') return number("TRIREME_LOCAL_SOCKET").error();
  options.socket = socket;
  if (std::getenv("TRIREME_LOCAL_SEATS") != nullptr) {
    const auto seats = number("TRIREME_LOCAL_SEATS");
    if (!seats) return seats.error();
    options.seats = static_cast<std::uint32_t>(seats.value());
  }
  if (std::getenv("TRIREME_LOCAL_TIMEOUT_S") != nullptr) {
    const auto seconds = number("TRIREME_LOCAL_TIMEOUT_S");
    if (!seconds) return seconds.error();
    options.timeout_ns = static_cast<Nanos>(seconds.value()) * kSecond;
  }
  return options;
}

}  // namespace trireme::transport
