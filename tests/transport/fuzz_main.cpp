// Runs a fuzz target without a fuzzer: the corpus, then inputs mutated from it with a fixed seed.
//   fuzz_x <corpus folder> <mutated inputs> [seed]
// A crash leaves the number of the input in the last line of standard error; the same seed reproduces it. With
// FUZZ_SAVE set to a path, each mutated input is written there before it runs: after a crash it holds the culprit, for
// the corpus.

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/rng.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;

void mutate(Input& input, const std::vector<Input>& corpus, trireme::Rng& rng) {
  static constexpr std::uint8_t kEdges[] = {0, 1, 2, 3, 0x7F, 0x80, 0xFE, 0xFF};
  for (std::uint64_t times = 1 + rng.below(8); times > 0; --times) {
    const std::size_t at = input.empty() ? 0 : rng.below(input.size());
    switch (rng.below(6)) {
      case 0:
        if (!input.empty()) input[at] = static_cast<std::uint8_t>(rng.next());
        break;
      case 1:
        if (!input.empty()) input[at] = kEdges[rng.below(std::size(kEdges))];
        break;
      case 2:
        if (!input.empty()) input[at] ^= static_cast<std::uint8_t>(1U << rng.below(8));
        break;
      case 3:
        input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), static_cast<std::uint8_t>(rng.next()));
        break;
      case 4:
        if (!input.empty()) input.resize(at);
        break;
      case 5: {
        const Input& other = corpus[rng.below(corpus.size())];
        input.insert(input.end(), other.begin(), other.end());
        break;
      }
    }
  }
  if (input.size() > 4096) input.resize(4096);
}

std::uint64_t running = 0;

void say_which(int) {
  char line[64];
  const int bytes = std::snprintf(line, sizeof line, "input of seed %llu\n", static_cast<unsigned long long>(running));
  [[maybe_unused]] const auto written = ::write(2, line, static_cast<std::size_t>(bytes));
  std::_Exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  std::signal(SIGABRT, say_which);
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  std::vector<Input> corpus;
  for (const auto& path : files) {
    std::ifstream file(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "no inputs in %s\n", argv[1]);
    return 1;
  }
  for (const Input& input : corpus) LLVMFuzzerTestOneInput(input.data(), input.size());
  const auto count = std::strtoull(argv[2], nullptr, 10);
  const std::uint64_t seed = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1;
  const char* save = std::getenv("FUZZ_SAVE");
  // Each input is drawn from its own seed, so that one can be run alone: count 1, that seed.
  for (std::uint64_t i = 0; i < count; ++i) {
    trireme::Rng rng(seed + i);
    Input input = corpus[rng.below(corpus.size())];
    mutate(input, corpus, rng);
    running = seed + i;
    if (save != nullptr) {
      std::ofstream file(save, std::ios::binary | std::ios::trunc);
      file.write(reinterpret_cast<const char*>(input.data()), static_cast<std::streamsize>(input.size()));
    }
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%zu inputs of the corpus, %llu mutated from seed %llu\n", corpus.size(),
              static_cast<unsigned long long>(count), static_cast<unsigned long long>(seed));
  return 0;
}
