// NCCL groups: one member for each GPU there is, in threads of this process.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cuda_runtime_api.h>

#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

#include "tests/ml/forked_group.hpp"
#include "tests/support/skip.hpp"
#include "trireme/ml/nccl.hpp"

using namespace trireme::ml;
using namespace trireme::ml::test;

namespace {

std::uint32_t gpus() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? static_cast<std::uint32_t>(count) : 0;
}

void on_every_gpu(const std::function<void(NcclGroup&, cudaStream_t)>& body) {
  Meeting& meeting = Meeting::make();
  const std::uint32_t size = std::min(gpus(), 8U);
  std::vector<std::thread> members;
  for (std::uint32_t rank = 0; rank < size; ++rank)
    members.emplace_back([&, rank] {
      NcclGroup group(rank, size, meeting.exchange(rank, size), {.device = static_cast<int>(rank)});
      cudaStream_t stream = nullptr;
      REQUIRE(cudaStreamCreate(&stream) == cudaSuccess);
      body(group, stream);
      cudaStreamDestroy(stream);
    });
  for (auto& member : members) member.join();
}

}  // namespace

TEST_CASE("all_reduce on the GPU adds up all members") {
  on_every_gpu([](NcclGroup& group, cudaStream_t stream) {
    constexpr std::size_t kCount = (64U << 20U) / sizeof(float);
    std::vector<float> data(kCount, static_cast<float>(group.rank() + 1));
    float* device = nullptr;
    REQUIRE(cudaMalloc(reinterpret_cast<void**>(&device), kCount * sizeof(float)) == cudaSuccess);
    REQUIRE(cudaMemcpy(device, data.data(), kCount * sizeof(float), cudaMemcpyHostToDevice) == cudaSuccess);
    group.all_reduce({device, kCount, DType::f32}, ReduceOp::sum, stream);
    group.wait(stream);
    REQUIRE(cudaMemcpy(data.data(), device, kCount * sizeof(float), cudaMemcpyDeviceToHost) == cudaSuccess);
    const auto expected = static_cast<float>(group.size() * (group.size() + 1)) / 2;
    CHECK(data.front() == expected);
    CHECK(data.back() == expected);
    constexpr int kRounds = 20;
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kRounds; ++i) group.all_reduce({device, kCount, DType::f32}, ReduceOp::max, stream);
    group.wait(stream);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    if (group.rank() == 0)
      std::printf("all_reduce of 64 MiB over %u GPU(s): %.1f GB/s\n", group.size(),
                  kRounds * kCount * sizeof(float) / seconds.count() / 1e9);
    cudaFree(device);
  });
}

int main(int argc, char** argv) {
  if (gpus() == 0) trireme::test::skip("a GPU");
  return doctest::Context(argc, argv).run();
}
