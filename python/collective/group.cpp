#include "python/collective/group.hpp"

#include "python/collective/exchange.hpp"

namespace py = pybind11;

namespace trireme::python {
void PyWork::wait() {
  const py::gil_scoped_release unlocked;
  work_.wait();
}

Group::Group(std::uint32_t rank, std::uint32_t size, const py::function& exchange, const std::string& name,
             double timeout, bool fixed_order) {
  PythonExchange through_python(exchange);
  ml::CommunicatorOptions options{name, nanoseconds(timeout), fixed_order};
  try {
    const py::gil_scoped_release unlocked;
    communicator_.emplace(rank, size, through_python.as_exchange(), std::move(options));
  } catch (const ml::CollectiveError&) {
    through_python.rethrow();
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
