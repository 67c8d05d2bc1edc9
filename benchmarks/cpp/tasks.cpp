// Tasks in one rank: fork and join, and empty ones.
#include "benchmarks/cpp/common.hpp"

namespace {

using namespace trireme::bench;

long fib(long n) {
  if (n < 2) return n;
  const auto left = trireme::submit<&fib>(n - 1);
  const long right = fib(n - 2);
  return trireme::get(left) + right;
}

// Forks of fib(n): one in every call with n >= 2.
std::uint64_t forks(std::uint64_t n) { return n < 2 ? 0 : 1 + forks(n - 1) + forks(n - 2); }

std::optional<double> fork_join(const Arguments& arguments) {
  const auto n = static_cast<long>(arguments.number("n", 30));
  trireme::get(trireme::submit<&fib>(20L));
  long result = 0;
  const double seconds = seconds_of([&] { result = trireme::get(trireme::submit<&fib>(n)); });
  expect(n != 30 || result == 832040, "fib(30)");
  return seconds * 1e9 / static_cast<double>(forks(static_cast<std::uint64_t>(n)));
}

int nothing() { return 0; }

double submit_and_wait(std::uint64_t batch) {
  std::vector<trireme::Ref<int>> refs;
  refs.reserve(batch);
  return nanos_per_op(0.2,
                      [&](std::uint64_t n) {
                        for (std::uint64_t i = 0; i < n; ++i) {
                          for (std::uint64_t j = 0; j < batch; ++j) refs.push_back(trireme::submit<&nothing>());
                          for (const auto& ref : refs) trireme::get(ref);
                          refs.clear();
                        }
                      }) /
         static_cast<double>(batch);
}

std::optional<double> empty(const Arguments& arguments) {
  const std::uint64_t batch = arguments.number("batch", 1000);
  if (arguments.text("from", "task") == "task") return trireme::get(trireme::submit<&submit_and_wait>(batch));
  return submit_and_wait(batch);
}

}  // namespace

int main(int argc, char** argv) {
  trireme::Runtime runtime(argc, argv);
  Program program;
  program.add("fib", "ns/fork", fork_join);
  program.add("empty", "ns/task", empty);  // from=task: one compute thread submits; from=main: a thread of the program
  return program.run(argc, argv);
}
