// A group of one member, made without a runtime: what trireme::ml is to be linked for.
#include <cstdio>
#include <numeric>
#include <span>
#include <vector>

#include <trireme/ml/communicator.hpp>

int main() {
  using namespace trireme::ml;
  const auto alone = [](std::span<const std::byte> mine, std::int64_t) {
    return trireme::Result<std::vector<std::vector<std::byte>>>({std::vector<std::byte>(mine.begin(), mine.end())});
  };
  Communicator group(0, 1, alone, {.name = "consumer"});
  std::vector<float> data(100);
  std::iota(data.begin(), data.end(), 0.0F);
  group.all_reduce(std::span(data), ReduceOp::mean);
  group.barrier();
  const bool right = data.front() == 0 && data.back() == 99;
  std::printf("%s\n", right ? "as expected" : "wrong");
  return right ? 0 : 1;
}
