#pragma once

#include <deque>
#include <memory>
#include <string>

#include "transport/bootstrap.hpp"
#include "transport/bootstrap/local_records.hpp"

namespace trireme::transport::local {

/// A rank that introduced itself and has not been welcomed.
struct Arrival {
  Rank rank = kNoRank;
  Channel channel;
};

/// The door of a local cluster. Takes the listener, which it closes in the end, and those who came early.
std::unique_ptr<Door> make_door(Fd listener, LocalOptions options, std::string session, std::deque<Arrival> early);

}  // namespace trireme::transport::local
