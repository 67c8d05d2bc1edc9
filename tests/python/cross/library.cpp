// What test_cross_language.py calls: every type that may cross, errors, and where things lie.
#include <trireme/python.hpp>

#include <trireme/runtime.hpp>

#include <atomic>
#include <chrono>
#include <complex>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace py = trireme::python;

namespace {

py::Value echo(const py::Value& value) { return value; }
std::int64_t add(std::int64_t a, std::int64_t b) { return a + b; }
std::string repeat(const std::string& text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}
bool negate(bool value) { return !value; }
void nothing() {}
std::uint8_t small(std::uint8_t value) { return value; }
std::vector<double> halves(const std::vector<double>& values) {
  std::vector<double> result;
  for (const double x : values) result.push_back(x / 2);
  return result;
}
py::NdArray<float> scale(const py::NdArray<float>& array, float factor) {
  py::NdArray<float> result(array.shape());
  auto out = result.writable();
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = factor * array[i];
  return result;
}
/// Where the array lies in this process; equal to that of another look when nothing was copied between.
std::uint64_t first_page(const py::NdArray<double>& array) {
  return reinterpret_cast<std::uint64_t>(array.data()) / 4096;
}
std::vector<std::int64_t> shape(const py::NdArray<double>& array) {
  return {array.shape().begin(), array.shape().end()};
}
void write_to(py::NdArray<double> array) { array.writable()[0] = 1; }
double fail(const std::string& text) { throw std::out_of_range(text); }
std::int64_t rank() { return trireme::this_rank(); }

class Counter {
 public:
  explicit Counter(std::int64_t from) : value_(from) {
    if (from < 0) throw std::invalid_argument("a counter does not start below 0");
    ++living;
  }
  ~Counter() { --living; }
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;
  std::int64_t add(std::int64_t amount) { return value_ += amount; }
  py::NdArray<std::int64_t> history() const { return py::NdArray<std::int64_t>({1}, std::vector{value_}); }
  void fail() const { throw std::runtime_error("the counter is broken"); }
  static inline std::atomic<std::int64_t> living{0};

 private:
  std::int64_t value_;
};
std::int64_t living() { return Counter::living; }

/// Makes the file.
std::string touch(const std::string& path) {
  const std::ofstream file(path);
  return path;
}
std::string touch_after(const std::string& path, const py::Value&) { return touch(path); }
/// Makes the file `begun`, then waits for another.
std::string wait_for(const std::string& begun, const std::string& gate) {
  touch(begun);
  while (!std::filesystem::exists(gate)) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  return "value";
}
/// Or until somebody cancels it; then makes a file beside `begun`.
std::string wait_asking(const std::string& begun, const std::string& gate) {
  touch(begun);
  try {
    for (; !std::filesystem::exists(gate); std::this_thread::sleep_for(std::chrono::milliseconds(2)))
      py::check_cancelled();
  } catch (const py::Cancelled&) {
    touch(begun + ".left");
    throw;
  }
  return "value";
}
/// The waiting is done by a task within; this one is asked for what was asked of it.
std::string wait_within(const std::string& begun, const std::string& gate) {
  const auto inner = trireme::submit<&wait_for>(begun, gate);
  (void)trireme::get(inner);
  py::check_cancelled();
  return "value";
}
void throws_cancelled() { throw py::Cancelled(); }

class Desk {
 public:
  std::string wait_for(const std::string& begun, const std::string& gate) { return ::wait_for(begun, gate); }
  std::string wait_asking(const std::string& begun, const std::string& gate) { return ::wait_asking(begun, gate); }
  std::string touch(const std::string& path) { return ::touch(path); }
  std::string touch_after(const std::string& path, const py::Value& value) { return ::touch_after(path, value); }
};

const py::Library library([] {
  py::export_function<&echo>("echo");
  py::export_function<&add>("add");
  py::export_function<&repeat>("repeat");
  py::export_function<&negate>("negate");
  py::export_function<&nothing>("nothing");
  py::export_function<&small>("small");
  py::export_function<&halves>("halves");
  py::export_function<&scale>("scale");
  py::export_function<&first_page>("first_page");
  py::export_function<&shape>("shape");
  py::export_function<&write_to>("write_to");
  py::export_function<&fail>("fail");
  py::export_function<&rank>("rank");
  py::export_function<&living>("living");
  py::export_function<&touch>("touch");
  py::export_function<&touch_after>("touch_after");
  py::export_function<&wait_for>("wait_for");
  py::export_function<&wait_asking>("wait_asking");
  py::export_function<&wait_within>("wait_within");
  py::export_function<&throws_cancelled>("throws_cancelled");
  py::export_actor<Desk>("Desk")
      .method<&Desk::wait_for>("wait_for")
      .method<&Desk::wait_asking>("wait_asking")
      .method<&Desk::touch>("touch")
      .method<&Desk::touch_after>("touch_after");
  py::export_actor<Counter>("Counter")
      .init<std::int64_t>()
      .method<&Counter::add>("add")
      .method<&Counter::history>("history")
      .method<&Counter::fail>("fail");
});

}  // namespace
