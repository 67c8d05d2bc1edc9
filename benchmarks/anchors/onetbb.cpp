// oneTBB: fork and join, and empty tasks.
#include <tbb/task_group.h>

#include <cstdio>
#include <cstdlib>

#include "benchmarks/harness/harness.hpp"

namespace {

using trireme::bench::Arguments;

std::uint64_t fib(std::uint64_t n) {
  if (n < 2) return n;
  std::uint64_t left = 0;
  tbb::task_group group;
  group.run([&] { left = fib(n - 1); });
  const std::uint64_t right = fib(n - 2);
  group.wait();
  return left + right;
}

// Forks of fib(n): one in every call with n >= 2.
std::uint64_t forks(std::uint64_t n) { return n < 2 ? 0 : 1 + forks(n - 1) + forks(n - 2); }

std::optional<double> fork_join(const Arguments& arguments) {
  const std::uint64_t n = arguments.number("n", 30);
  fib(20);
  std::uint64_t result = 0;
  const double seconds = trireme::bench::seconds_of([&] { result = fib(n); });
  if (n == 30 && result != 832040) {
    std::fprintf(stderr, "fib(30) came out as %llu\n", static_cast<unsigned long long>(result));
    std::exit(1);
  }
  return seconds * 1e9 / static_cast<double>(forks(n));
}

std::optional<double> empty(const Arguments& arguments) {
  const std::uint64_t batch = arguments.number("batch", 1000);
  return trireme::bench::nanos_per_op(0.2,
                                      [&](std::uint64_t n) {
                                        for (std::uint64_t i = 0; i < n; ++i) {
                                          tbb::task_group group;
                                          for (std::uint64_t j = 0; j < batch; ++j) group.run([] {});
                                          group.wait();
                                        }
                                      }) /
         static_cast<double>(batch);
}

}  // namespace

int main(int argc, char** argv) {
  trireme::bench::Program program;
  program.add("fib", "ns/fork", fork_join);
  program.add("empty", "ns/task", empty);
  return program.run(argc, argv);
}
