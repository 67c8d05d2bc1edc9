#include "python/collective/group.hpp"

#include <cmath>
#include <cstdint>
#include <exception>
#include <span>

namespace py = pybind11;

namespace trireme::python {
namespace {

std::int64_t nanoseconds(double seconds) {
  if (std::isnan(seconds) || seconds < 0) throw py::value_error("a timeout is a number of seconds, 0 or more");
  return seconds > 9e9 ? INT64_MAX : static_cast<std::int64_t>(seconds * 1e9);
}

}  // namespace

void PyWork::wait() {
  const py::gil_scoped_release unlocked;
  work_.wait();
}

Group::Group(std::uint32_t rank, std::uint32_t size, const py::function& exchange, const std::string& name,
             double timeout, bool fixed_order) {
  ml::CommunicatorOptions options{name, nanoseconds(timeout), fixed_order};
  std::exception_ptr raised;
  const auto through_python = [&](std::span<const std::byte> mine,
                                  std::int64_t timeout_ns) -> Result<std::vector<std::vector<std::byte>>> {
    const py::gil_scoped_acquire locked;
    try {
      const py::bytes blob(reinterpret_cast<const char*>(mine.data()), mine.size());
      std::vector<std::vector<std::byte>> all;
      for (const auto& part : py::list(exchange(blob, static_cast<double>(timeout_ns) / 1e9))) {
        const std::string bytes = py::bytes(py::reinterpret_borrow<py::object>(part));
        const auto* begin = reinterpret_cast<const std::byte*>(bytes.data());
        all.emplace_back(begin, begin + bytes.size());
      }
      return all;
    } catch (py::error_already_set& error) {
      raised = std::current_exception();
      return make_error(Errc::unavailable, error.what());
    }
  };
  try {
    const py::gil_scoped_release unlocked;
    communicator_.emplace(rank, size, through_python, std::move(options));
  } catch (const ml::CollectiveError&) {
    if (raised) std::rethrow_exception(raised);  // what the exchange raised says more
    throw;
  }
}

ml::Communicator& Group::get() {
  if (!communicator_) throw ml::CollectiveError(Errc::shutdown, -1, "the group was closed");
  return *communicator_;
}

void Group::close() {
  if (!communicator_) return;
  {
    const py::gil_scoped_release unlocked;
    communicator_.reset();
  }
  under_way_.clear();
  kept_.clear();
}

}  // namespace trireme::python
