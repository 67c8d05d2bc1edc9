#include "base/result.hpp"

namespace trireme {

std::string_view to_string(Errc code) {
  switch (code) {
    case Errc::ok:
      return "ok";
    case Errc::unknown:
      return "unknown";
    case Errc::invalid_argument:
      return "invalid argument";
    case Errc::not_found:
      return "not found";
    case Errc::already_exists:
      return "already exists";
    case Errc::too_large:
      return "too large";
    case Errc::out_of_memory:
      return "out of memory";
    case Errc::would_block:
      return "would block";
    case Errc::peer_lost:
      return "peer lost";
    case Errc::object_lost:
      return "object lost";
    case Errc::owner_died:
      return "owner died";
    case Errc::actor_died:
      return "actor died";
    case Errc::task_failed:
      return "task failed";
    case Errc::unschedulable:
      return "unschedulable";
    case Errc::malformed:
      return "malformed message";
    case Errc::build_mismatch:
      return "build mismatch";
    case Errc::timeout:
      return "timeout";
    case Errc::shutdown:
      return "shutting down";
    case Errc::unavailable:
      return "unavailable";
    case Errc::cancelled:
      return "cancelled";
    case Errc::type_mismatch:
      return "type mismatch";
    case Errc::worker_lost:
      return "worker lost";
    case Errc::io:
      return "input/output error";
    case Errc::stream_end:
      return "end of stream";
  }
  return "unknown";
}

}  // namespace trireme
