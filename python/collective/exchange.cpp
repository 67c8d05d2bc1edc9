#include "python/collective/exchange.hpp"

#include <cmath>
#include <span>
#include <string>
#include <vector>

namespace py = pybind11;

namespace trireme::python {

std::int64_t nanoseconds(double seconds) {
  if (std::isnan(seconds) || seconds < 0) throw py::value_error("a timeout is a number of seconds, 0 or more");
  return seconds > 9e9 ? INT64_MAX : static_cast<std::int64_t>(seconds * 1e9);
}

ml::Exchange PythonExchange::as_exchange() {
  return
      [this](std::span<const std::byte> mine, std::int64_t timeout_ns) -> Result<std::vector<std::vector<std::byte>>> {
        const py::gil_scoped_acquire locked;
        try {
          const py::bytes blob(reinterpret_cast<const char*>(mine.data()), mine.size());
          std::vector<std::vector<std::byte>> all;
          for (const auto& part : py::list(exchange_(blob, static_cast<double>(timeout_ns) / 1e9))) {
            const std::string bytes = py::bytes(py::reinterpret_borrow<py::object>(part));
            const auto* begin = reinterpret_cast<const std::byte*>(bytes.data());
            all.emplace_back(begin, begin + bytes.size());
          }
          return all;
        } catch (py::error_already_set& error) {
          raised_ = std::current_exception();
          return make_error(Errc::unavailable, error.what());
        }
      };
}

}  // namespace trireme::python
