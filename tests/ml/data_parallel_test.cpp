// Gradients in buckets: averages as computed by one process, whatever the order in which they come.
#include "trireme/ml/data_parallel.hpp"

#include <algorithm>
#include <chrono>
#include <functional>
#include <numeric>
#include <random>
#include <thread>

#include "tests/ml/mpi_group.hpp"

using namespace trireme;
using namespace trireme::ml;
using namespace trireme::ml::test;

namespace {

Errc code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const CollectiveError& error) {
    return error.code();
  }
  return Errc::ok;
}

}  // namespace

TEST_CASE("parameters start alike and gradients are averaged, for every size of bucket and order of calls") {
  auto group = world_group();
  const std::vector<std::size_t> counts{7, 1000, 0, 30'000, 5, 5, 100'000};
  for (const std::size_t bucket_bytes : {1UL, 4096UL, 1UL << 20U, 1UL << 30U}) {
    CAPTURE(bucket_bytes);
    std::vector<std::vector<float>> values;
    std::vector<Buffer> parameters;
    for (std::size_t i = 0; i < counts.size(); ++i)
      values.emplace_back(counts[i], static_cast<float>(i + 100 * group.rank()));
    for (auto& value : values) parameters.emplace_back(std::span(value));
    DataParallel parallel(group, parameters, {.bucket_bytes = bucket_bytes});
    for (std::size_t i = 0; i < counts.size(); ++i)
      CHECK((values[i] == std::vector<float>(counts[i], static_cast<float>(i))));
    CHECK(parallel.buckets() >= (bucket_bytes == 1 ? counts.size() - 1 : 1));
    for (int step = 0; step < 5; ++step) {
      // Each member in an order of its own: buckets still leave in one.
      std::vector<std::size_t> order(counts.size());
      std::iota(order.begin(), order.end(), 0UL);
      std::shuffle(order.begin(), order.end(), std::mt19937(group.rank() * 10 + static_cast<unsigned>(step)));
      for (const std::size_t i : order) {
        const auto value = static_cast<float>((group.rank() + 1) * (i + 1) * static_cast<unsigned>(step + 1));
        if (i % 2 == 0) {
          const std::vector<float> elsewhere(counts[i], value);
          parallel.ready(i, std::span(elsewhere));
        } else {
          const Buffer own = parallel.gradient(i);
          std::fill_n(static_cast<float*>(own.data), own.count, value);
          parallel.ready(i);
        }
      }
      parallel.wait();
      for (std::size_t i = 0; i < counts.size(); ++i) {
        const auto mean =
            static_cast<float>((i + 1) * static_cast<unsigned>(step + 1)) * static_cast<float>(group.size() + 1) / 2;
        const Buffer own = parallel.gradient(i);
        const auto* at = static_cast<const float*>(own.data);
        CHECK((std::vector<float>(at, at + own.count) == std::vector<float>(counts[i], mean)));
      }
    }
  }
}

TEST_CASE("a bucket is averaged by the group's own thread while gradients are still missing") {
  auto group = world_group();
  std::vector<double> first(10), last(50'000);
  DataParallel parallel(group, {std::span(first), std::span(last)}, {.bucket_bytes = 1});
  for (int step = 0; step < 3; ++step) {
    CHECK(!parallel.is_averaged(1));
    const std::vector<double> gradient(last.size(), group.rank() + step);
    parallel.ready(1, std::span(gradient));
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!parallel.is_averaged(1) && std::chrono::steady_clock::now() < deadline)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // the cores are for the helper threads
    REQUIRE(parallel.is_averaged(1));
    CHECK(!parallel.under_way());
    CHECK((parallel.is_ready(1) && !parallel.is_ready(0) && !parallel.is_averaged(0)));
    const double mean = (group.size() - 1) / 2.0 + step;
    const Buffer own = parallel.gradient(1);
    const auto* at = static_cast<const double*>(own.data);
    CHECK(std::all_of(at, at + own.count, [&](double value) { return value == mean; }));
    parallel.ready(0);
    parallel.wait();
  }
}

TEST_CASE("gradients that come twice, not at all or in another size are refused") {
  auto group = world_group();
  std::vector<double> a(3), b(4);
  DataParallel parallel(group, {std::span(a), std::span(b)});
  CHECK(code_of([&] { parallel.wait(); }) == Errc::invalid_argument);
  CHECK(code_of([&] { parallel.ready(0, std::span(b)); }) == Errc::invalid_argument);
  CHECK(code_of([&] { parallel.ready(2); }) == Errc::invalid_argument);
  parallel.ready(0);
  CHECK(code_of([&] { parallel.ready(0); }) == Errc::invalid_argument);
  parallel.ready(1);
  parallel.wait();
  std::vector<int> whole(3);
  CHECK(code_of([&] { DataParallel(group, {std::span(whole)}); }) == Errc::invalid_argument);
  CHECK(code_of([&] { DataParallel(group, {}); }) == Errc::invalid_argument);
}
