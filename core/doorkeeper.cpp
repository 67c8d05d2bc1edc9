#include "core/doorkeeper.hpp"

#include <fmt/format.h>

#include <chrono>
#include <future>

#include "base/log.hpp"

namespace trireme::core {

Doorkeeper::Doorkeeper(std::unique_ptr<transport::Door> door, Host& host, Membership& membership, Records first,
                       Records second)
    : door_(std::move(door)),
      host_(host),
      membership_(membership),
      first_(std::move(first)),
      second_(std::move(second)),
      thread_([this] { run(); }) {}

Doorkeeper::~Doorkeeper() {
  door_->close();
  under_token([this] { membership_.close(); });
  thread_.join();
}

template <class F>
void Doorkeeper::under_token(F step) {
  std::promise<void> done;
  post(host_, [&] {
    step();
    done.set_value();
  });
  done.get_future().wait();
}

void Doorkeeper::run() {
  while (auto guest = door_->next()) let_in(*guest);
}

void Doorkeeper::let_in(transport::Guest& guest) {
  const auto rank = guest.rank();
  const auto lost = [&](std::string_view doing, const Error& error) {
    TRIREME_LOG(warning, "rank {}, which wanted to join, is gone: {}: {}", rank, doing, error.message);
  };
  // The rounds of a start (Session::join), with those that are there already. First: who is where.
  auto said = guest.hear();
  if (!said) return lost("waiting for its place", said.error());
  std::vector<Bytes> all;
  under_token([&] { all = first_(); });
  if (rank < all.size()) all[rank] = std::move(*said);
  if (auto status = guest.tell(all, {}); !status.ok()) return lost("telling it the others' places", status.error());

  // Second: addresses and resources. From what it is told now, everything declared reaches it as a message.
  said = guest.hear();
  if (!said) return lost("waiting for its address", said.error());
  Bytes world;
  const auto verdict = std::make_shared<std::promise<Status>>();
  const auto admitted = verdict->get_future().share();
  under_token([&] {
    membership_.admit(rank, *said, [verdict](Status status) { verdict->set_value(std::move(status)); });
    all = second_();
    world = membership_.world().encode();
  });
  const auto refused = [&] { return !admitted.get().ok(); };
  if (admitted.wait_for(std::chrono::seconds(0)) == std::future_status::ready && refused())
    return guest.refuse(admitted.get().error());
  const auto declare = [&](std::string_view doing, const Error& error) {
    under_token([&] { membership_.on_lost(rank, fmt::format("{}: {}", doing, error.message)); });
  };
  if (auto status = guest.tell(all, world); !status.ok())
    return declare("telling it the others' addresses", status.error());

  // Third: it may begin.
  said = guest.hear();
  if (!said) return declare("waiting until it is ready", said.error());
  if (refused()) return guest.refuse(admitted.get().error());
  under_token([&] { world = membership_.world().encode(); });
  if (auto status = guest.tell(all, world); !status.ok()) declare("letting it begin", status.error());
}

}  // namespace trireme::core
