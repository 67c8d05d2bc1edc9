// The hot paths, a fixed number of times each, for counts.py: two runs of different length are subtracted. With one
// compute thread, --trireme-threads=1; `steal` with two.
#include <atomic>
#include <semaphore>

#include "benchmarks/cpp/common.hpp"

namespace {

using namespace trireme::bench;

int nothing() { return 0; }

struct Counter {
  int next() { return ++value; }
  int value = 0;
};

/// A task that another one makes and waits for at once: it is popped from the thread's own deque.
long forks(std::uint64_t count) {
  long sum = 0;
  for (std::uint64_t i = 0; i < count; ++i) sum += trireme::get(trireme::submit<&nothing>());
  return sum;
}
/// A hundred tasks, then all results.
long submits(std::uint64_t count) {
  std::vector<trireme::Ref<int>> refs;
  refs.reserve(100);
  long sum = 0;
  for (std::uint64_t i = 0; i < count / 100; ++i) {
    for (int j = 0; j < 100; ++j) refs.push_back(trireme::submit<&nothing>());
    for (const auto& ref : refs) sum += trireme::get(ref);
    refs.clear();
  }
  return sum;
}
std::atomic<std::uint64_t> left_to_steal{0};
std::binary_semaphore all_stolen{0};

int stolen() {
  // relaxed: only the semaphore orders.
  if (left_to_steal.fetch_sub(1, std::memory_order_relaxed) == 1) all_stolen.release();
  return 0;
}
/// Tasks made by one thread, which then sleeps in the kernel, so that the other thread steals and runs every one of
/// them.
long steals(std::uint64_t count) {
  left_to_steal.store(count, std::memory_order_relaxed);
  std::vector<trireme::Ref<int>> refs;
  refs.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) refs.push_back(trireme::submit<&stolen>());
  all_stolen.acquire();
  long sum = 0;
  for (const auto& ref : refs) sum += trireme::get(ref);
  return sum;
}
/// Calls of an actor of this rank, each waited for.
long calls(std::uint64_t count) {
  const auto counter = trireme::spawn<Counter>();
  long sum = 0;
  for (std::uint64_t i = 0; i < count; ++i) sum += trireme::get(counter.call<&Counter::next>());
  return sum;
}
/// put of a number; it is dropped at once.
long stores(std::uint64_t count) {
  for (std::uint64_t i = 0; i < count; ++i) static_cast<void>(trireme::put(1L));
  return 0;
}
/// get of a number that is there.
long reads(std::uint64_t count) {
  const auto ref = trireme::put(1L);
  long sum = 0;
  for (std::uint64_t i = 0; i < count; ++i) sum += trireme::get(ref);
  return sum;
}

template <auto F>
std::optional<double> in_a_task(const Arguments& arguments) {
  const std::uint64_t count = arguments.number("count", 1000);
  trireme::get(trireme::submit<F>(count));
  return static_cast<double>(count);
}

}  // namespace

int main(int argc, char** argv) {
  trireme::Runtime runtime(argc, argv);
  Program program;
  program.add("fork", "operations", in_a_task<&forks>);
  program.add("submit", "operations", in_a_task<&submits>);
  program.add("steal", "operations", in_a_task<&steals>);
  program.add("call", "operations", in_a_task<&calls>);
  program.add("put", "operations", in_a_task<&stores>);
  program.add("get", "operations", in_a_task<&reads>);
  return program.run(argc, argv);
}
