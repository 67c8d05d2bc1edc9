// Many of everything: what they weigh and how long they take.
#include <atomic>
#include <thread>

#include "benchmarks/cpp/common.hpp"
#include "benchmarks/harness/process.hpp"

namespace {

using namespace trireme::bench;

// Before the runtime binds its threads.
const std::size_t kCores = allowed_cores().size();

std::atomic<bool> hold{true};

// Keeps a compute thread until release, so that everything behind it stays in the queue.
int plug() {
  while (hold.load(std::memory_order_relaxed)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return 0;
}

int nothing(int x) { return x; }

struct Queued {
  double bytes = 0;
  double seconds = 0;
};

Queued queue_tasks(std::uint64_t count) {
  std::vector<trireme::Ref<int>> tasks(count);  // the references' own memory is there before
  std::vector<trireme::Ref<int>> plugs;
  for (std::size_t i = 0; i < kCores; ++i) plugs.push_back(trireme::submit<&plug>());
  Queued result;
  const double before = resident_bytes();
  result.seconds = seconds_of([&] {
    for (std::uint64_t i = 0; i < count; ++i) tasks[i] = trireme::submit<&nothing>(static_cast<int>(i));
  });
  result.bytes = (resident_bytes() - before) / static_cast<double>(count);
  result.seconds += seconds_of([&] {
    hold = false;
    for (const auto& task : tasks) trireme::get(task);
  });
  return result;
}

int count_of(const std::vector<trireme::Ref<int>>& values) {
  int right = 0;
  for (std::size_t i = 0; i < values.size(); ++i) right += trireme::get(values[i]) == static_cast<int>(i) ? 1 : 0;
  return right;
}

std::optional<double> arguments_of_one(const Arguments& arguments) {
  const auto count = static_cast<int>(arguments.number("count", 10000));
  return 1e3 * seconds_of([&] {
           std::vector<trireme::Ref<int>> values;
           for (int i = 0; i < count; ++i) values.push_back(trireme::put(i));
           expect(trireme::get(trireme::submit<&count_of>(values)) == count, "arguments that arrived");
         });
}

std::vector<trireme::Ref<int>> many(int count) {
  std::vector<trireme::Ref<int>> values;
  for (int i = 0; i < count; ++i) values.push_back(trireme::put(i));
  return values;
}

std::optional<double> returns_of_one(const Arguments& arguments) {
  const auto count = static_cast<int>(arguments.number("count", 3000));
  return 1e3 * seconds_of([&] {
           const auto values = trireme::get(trireme::submit<&many>(count));
           for (int i = 0; i < count; ++i)
             expect(trireme::get(values[static_cast<std::size_t>(i)]) == i, "a returned value");
         });
}

std::optional<double> gets(const Arguments& arguments) {
  const auto count = static_cast<int>(arguments.number("count", 10000));
  std::vector<trireme::Ref<int>> values;
  for (int i = 0; i < count; ++i) values.push_back(trireme::put(i));
  return 1e3 * seconds_of([&] {
           const auto all = trireme::get(values);
           expect(all.size() == static_cast<std::size_t>(count) && all.back() == count - 1, "values");
         });
}

}  // namespace

int main(int argc, char** argv) {
  trireme::Runtime runtime(argc, argv);
  Program program;
  program.add("queued", "bytes/task", [](const Arguments& a) { return queue_tasks(a.number("count", 1000000)).bytes; });
  program.add("queued_time", "ms",
              [](const Arguments& a) { return 1e3 * queue_tasks(a.number("count", 1000000)).seconds; });
  program.add("arguments", "ms", arguments_of_one);
  program.add("returns", "ms", returns_of_one);
  program.add("gets", "ms", gets);
  return program.run(argc, argv);
}
