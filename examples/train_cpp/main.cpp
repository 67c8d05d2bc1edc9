// A network trained on all ranks: each takes its part of every batch, gradients are averaged while the backward pass
// goes on, and the result is that of one process with the whole batch, but for rounding.
#include <trireme/ml/data_parallel.hpp>
#include <trireme/ml/group.hpp>
#include <trireme/trireme.hpp>

#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

#include "network.hpp"

constexpr std::size_t kSide = 8;
constexpr std::size_t kInputs = kSide * kSide;
constexpr std::size_t kClasses = 10;
constexpr std::size_t kPictures = 1920;
constexpr std::size_t kBatch = 96;  // of all ranks together
constexpr int kEpochs = 12;

/// Pictures of ten shapes, each moved by a pixel at most and blurred by noise.
struct Pictures {
  std::vector<float> pixels;
  std::vector<int> labels;
};

Pictures draw(std::size_t count, unsigned seed) {
  std::mt19937 shapes(7);
  std::vector<std::vector<bool>> ink(kClasses, std::vector<bool>(kInputs));
  for (auto& shape : ink)
    for (std::size_t i = 0; i < kInputs; ++i) shape[i] = shapes() % 3 == 0;
  std::mt19937 random(seed);
  Pictures made;
  for (std::size_t n = 0; n < count; ++n) {
    const int label = static_cast<int>(random() % kClasses);
    const int dx = static_cast<int>(random() % 2);
    const int dy = static_cast<int>(random() % 2);
    for (int y = 0; y < static_cast<int>(kSide); ++y)
      for (int x = 0; x < static_cast<int>(kSide); ++x) {
        const bool inside = x >= dx && y >= dy;
        const auto at = static_cast<std::size_t>((y - dy) * static_cast<int>(kSide) + x - dx);
        const float noise = static_cast<float>(random() % 1000) / 1000.0F - 0.5F;
        made.pixels.push_back((inside && ink[static_cast<std::size_t>(label)][at] ? 1.0F : 0.0F) + noise);
      }
    made.labels.push_back(label);
  }
  return made;
}

/// One member's training. All return the same accuracy.
double train(std::uint32_t rank, std::uint32_t size) {
  auto group = trireme::ml::make_group("train", rank, size, {.fixed_order = true});
  const Pictures pictures = draw(kPictures, 1);
  const Pictures unseen = draw(500, 2);
  Network network(kInputs, 48, kClasses, 3 + rank);  // DataParallel starts all from rank 0's
  std::vector<trireme::ml::Buffer> parameters;
  for (std::size_t i = 0; i < Network::kParameters; ++i) parameters.emplace_back(network.parameter(i));
  trireme::ml::DataParallel parallel(group, parameters, {.bucket_bytes = 4096});

  const auto gradient = [&](std::size_t i) {
    const auto buffer = parallel.gradient(i);
    return std::span(static_cast<float*>(buffer.data), buffer.count);
  };
  const std::size_t share = kBatch / size;
  for (int epoch = 0; epoch < kEpochs; ++epoch) {
    float loss = 0;
    for (std::size_t batch = 0; batch + kBatch <= kPictures; batch += kBatch) {
      const std::size_t first = batch + rank * share;
      loss += network.backward(std::span(pictures.pixels).subspan(first * kInputs, share * kInputs),
                               std::span(pictures.labels).subspan(first, share), gradient,
                               [&](std::size_t i) { parallel.ready(i); });
      parallel.wait();
      for (std::size_t i = 0; i < Network::kParameters; ++i) {
        const auto mean = gradient(i);
        const auto values = network.parameter(i);
        for (std::size_t k = 0; k < values.size(); ++k) values[k] -= 0.5F * mean[k];
      }
    }
    group.all_reduce(std::span(&loss, 1), trireme::ml::ReduceOp::mean);
    if (rank == 0) std::printf("epoch %2d: loss %.4f\n", epoch + 1, static_cast<double>(loss) * kBatch / kPictures);
  }
  return static_cast<double>(network.right(unseen.pixels, unseen.labels)) / static_cast<double>(unseen.labels.size());
}

int main(int argc, char** argv) {
  trireme::Runtime runtime(argc, argv);
  const std::uint32_t members =
      std::min<std::uint32_t>(runtime.size(), 8);  // 96 pictures are cut evenly by 1 to 4, 6, 8
  std::vector<trireme::Ref<double>> accuracies;
  for (trireme::Rank rank = 0; rank < members; ++rank) {
    trireme::TaskOptions options;
    options.placement = trireme::Placement::on(rank);
    accuracies.push_back(trireme::submit_with<&train>(options, rank, members));
  }
  bool same = true;
  for (const auto& accuracy : accuracies) same = same && runtime.get(accuracy) == runtime.get(accuracies[0]);
  std::printf("%u member(s): %.1f %% of unseen pictures right%s\n", members, 100 * runtime.get(accuracies[0]),
              same ? "" : ", BUT NOT THE SAME ON ALL");
  return same && runtime.get(accuracies[0]) > 0.95 ? 0 : 1;
}
