#include "trireme/ml/group.hpp"

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "trireme/trireme.hpp"

namespace trireme::ml {
namespace detail {

using Blob = std::vector<std::byte>;
using Blobs = std::vector<Blob>;

/// Where members meet: keeps the blobs of a round until all are there. (Not in an unnamed namespace: ranks know an
/// actor's type and methods by name.)
class Meeting {
 public:
  /// `from`: where the member runs. Members on this rank are answered last: their group's first operation may hold the
  /// thread without which the others' answers do not leave.
  Async<Blobs> exchange(std::uint32_t number, std::uint32_t member, std::uint32_t size, Blob blob, Rank from) {
    const bool near = from == this_rank();
    const std::shared_ptr<Round> round = enter(number, member, size, std::move(blob), near);
    Blobs all = co_await Ref<Blobs>(round->all);
    if (near) {
      co_await Ref<bool>(round->far_left);
    } else {
      leave(*round);
    }
    co_return all;
  }
  /// Ends every exchange that waits: an actor that is killed is kept by its calls until they end.
  void dissolve(const std::string& why) {
    std::map<std::uint32_t, std::shared_ptr<Round>> rounds;
    {
      const std::lock_guard lock(mutex_);
      rounds.swap(rounds_);
    }
    for (auto& [number, round] : rounds) {
      trireme::detail::ErrorInfo error;
      error.code = Errc::timeout;
      error.message = why;
      round->all->complete_error(std::move(error));
    }
  }

 private:
  struct Round {
    std::map<std::uint32_t, Blob> blobs;
    std::uint32_t far = 0;  // calls from other ranks that have not been answered
    trireme::detail::CellRef all = trireme::detail::make_plain_cell();
    trireme::detail::CellRef far_left = trireme::detail::make_plain_cell();
  };
  std::shared_ptr<Round> enter(std::uint32_t number, std::uint32_t member, std::uint32_t size, Blob blob, bool near) {
    std::shared_ptr<Round> round;
    {
      const std::lock_guard lock(mutex_);
      auto& place = rounds_[number];
      if (!place) place = std::make_shared<Round>();
      round = place;
      round->blobs[member] = std::move(blob);
      if (!near) ++round->far;
      if (round->blobs.size() < size) return round;
      rounds_.erase(number);  // who comes next for this number forms the group anew
    }
    Blobs all;
    for (auto& [from, bytes] : round->blobs) all.push_back(std::move(bytes));
    if (round->far == 0) round->far_left->complete(trireme::detail::encode_value<bool>(true));
    round->all->complete(trireme::detail::encode_value<Blobs>(all));
    return round;
  }
  void leave(Round& round) {
    {
      const std::lock_guard lock(mutex_);
      if (--round.far != 0) return;
    }
    round.far_left->complete(trireme::detail::encode_value<bool>(true));
  }

  std::mutex mutex_;  // calls run side by side
  std::map<std::uint32_t, std::shared_ptr<Round>> rounds_;
};

/// The first to come makes it.
Actor<Meeting> meeting_called(const std::string& name, std::uint32_t size) {
  for (;;) {
    try {
      return actor<Meeting>(name);
    } catch (const Exception& error) {
      if (error.code() != Errc::not_found) throw;
    }
    try {
      ActorOptions options;
      options.name = name;
      options.max_concurrency = static_cast<int>(size) + 1;
      return spawn_with<Meeting>(options);
    } catch (const Exception& error) {
      if (error.code() != Errc::already_exists) throw;  // another was faster: look again
    }
  }
}

void dissolve(const Actor<Meeting>& meeting, std::uint32_t rank) {
  constexpr auto kPatience = std::chrono::seconds(10);  // the actor's rank may be about to be declared dead
  try {
    get(meeting.call<&Meeting::dissolve>("member " + std::to_string(rank) + " waited for the others in vain"),
        kPatience);
  } catch (const Exception&) {
    // It is gone already: another member was faster, or its rank died.
  }
  meeting.kill();
}

}  // namespace detail

using detail::Blob;
using detail::Blobs;
using detail::Meeting;

Exchange runtime_exchange(const std::string& name, std::uint32_t rank, std::uint32_t size) {
  return [full = "trireme.ml." + name, rank, size, meeting = std::optional<Actor<Meeting>>(), round = std::uint32_t{0}](
             std::span<const std::byte> mine, std::int64_t timeout_ns) mutable -> Result<Blobs> {
    try {
      if (!meeting) meeting = detail::meeting_called(full, size);
      return get(
          meeting->template call<&Meeting::exchange>(round++, rank, size, Blob(mine.begin(), mine.end()), this_rank()),
          std::chrono::nanoseconds(timeout_ns));
    } catch (const TimeoutError& error) {
      dissolve(*meeting, rank);  // so that a later attempt begins anew
      return make_error(Errc::timeout, "not all members came: " + error.message());
    } catch (const Exception& error) {
      return make_error(error.code(), error.what());
    }
  };
}

Communicator make_group(const std::string& name, std::uint32_t rank, std::uint32_t size, CommunicatorOptions options) {
  options.name = name;
  return Communicator(rank, size, runtime_exchange(name, rank, size), std::move(options));
}

}  // namespace trireme::ml
