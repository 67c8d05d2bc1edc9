// Functions and a class of a C++ library that Python calls by name: see use_field.py.
#include <trireme/python.hpp>

#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

namespace py = trireme::python;

namespace {

/// The field after one step of diffusion; its border stays.
py::NdArray<double> diffuse(const py::NdArray<double>& field, double rate) {
  if (field.shape().size() != 2) throw std::invalid_argument("diffuse() works on a field of two dimensions");
  const auto rows = field.shape()[0];
  const auto columns = field.shape()[1];
  py::NdArray<double> next(field.shape(), field.view());
  auto out = next.writable();
  for (std::size_t i = 1; i + 1 < rows; ++i) {
    for (std::size_t j = 1; j + 1 < columns; ++j) {
      const double around = field(i - 1, j) + field(i + 1, j) + field(i, j - 1) + field(i, j + 1);
      out[i * columns + j] += rate * (around - 4 * field(i, j));
    }
  }
  return next;
}

double norm(const py::NdArray<double>& field) {
  double sum = 0;
  for (const double x : field) sum += x * x;
  return std::sqrt(sum);
}

/// Keeps the norms of the fields that it was shown.
class Monitor {
 public:
  explicit Monitor(std::string name) : name_(std::move(name)) {}
  long show(const py::NdArray<double>& field) {
    norms_.push_back(norm(field));
    return static_cast<long>(norms_.size());
  }
  std::vector<double> norms() const { return norms_; }
  std::string name() const { return name_; }

 private:
  std::string name_;
  std::vector<double> norms_;
};

const py::Library library([] {
  py::export_function<&diffuse>("diffuse");
  py::export_function<&norm>("norm");
  py::export_actor<Monitor>("Monitor")
      .init<std::string>()
      .method<&Monitor::show>("show")
      .method<&Monitor::norms>("norms")
      .method<&Monitor::name>("name");
});

}  // namespace
