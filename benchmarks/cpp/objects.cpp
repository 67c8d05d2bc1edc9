// Large objects: into the arena, to another rank, to all ranks.
#include <algorithm>

#include "benchmarks/cpp/common.hpp"

namespace {

using namespace trireme::bench;
using Bytes = trireme::Array<char>;

std::vector<long> source_of(std::size_t bytes) { return std::vector<long>(bytes / sizeof(long), 1); }

std::optional<double> put(const Arguments& arguments) {
  const std::size_t bytes = arguments.number("size", 1U << 20U);
  const std::vector<long> source = source_of(bytes);
  for (int i = 0; i < 3; ++i) trireme::put(source);  // the pages are there afterwards
  const double nanos = nanos_per_op(0.1, [&](std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) trireme::put(source);
  });
  return static_cast<double>(bytes) / nanos;
}

// Objects that stay, so that each lies in pages nobody has touched.
std::optional<double> put_fresh(const Arguments& arguments) {
  const std::size_t bytes = arguments.number("size", 1U << 20U);
  const std::size_t count = std::clamp<std::size_t>((128U << 20U) / bytes, 1, 128);
  const std::vector<long> source = source_of(bytes);
  std::vector<trireme::Ref<std::vector<long>>> kept;
  kept.reserve(count);
  const double seconds = seconds_of([&] {
    for (std::size_t i = 0; i < count; ++i) kept.push_back(trireme::put(source));
  });
  return static_cast<double>(count * bytes) / seconds / 1e9;
}

struct Maker {
  Bytes make(std::size_t bytes) {
    Bytes array(bytes);
    std::ranges::fill(array.writable(), static_cast<char>(bytes));
    return array;
  }
  int done() { return 0; }
};

// Objects of rank 1 that rank 0 has not seen; when this returns they are complete there. (wait() would fetch them.)
std::vector<trireme::Ref<Bytes>> made_far(const trireme::Actor<Maker>& maker, std::size_t bytes, std::size_t count) {
  std::vector<trireme::Ref<Bytes>> objects;
  for (std::size_t i = 0; i < count; ++i) objects.push_back(maker.call<&Maker::make>(bytes));
  trireme::get(maker.call<&Maker::done>());
  return objects;
}

std::optional<double> pull(const Arguments& arguments) {
  expect(trireme::rank_count() > 1, "two ranks are needed: mpirun -n 2");
  const std::size_t bytes = arguments.number("size", 1U << 20U);
  const std::size_t depth = arguments.number("depth", 1);
  const std::size_t count = std::clamp<std::size_t>((256U << 20U) / bytes, depth, 256);
  const auto maker = trireme::spawn_with<Maker>(actor_on_rank(1));
  double total = 0;
  const std::size_t rounds = bytes >= (256U << 20U) ? 2 : 3;
  for (std::size_t round = 0; round < rounds; ++round) {  // the first only touches the pages of both arenas
    const auto objects = made_far(maker, bytes, count);
    const double seconds = seconds_of([&] {
      for (std::size_t i = 0; i + depth <= count; i += depth) {
        if (depth == 1) {
          const Bytes array = trireme::get(objects[i]);
          expect(array.size() == bytes && array[bytes - 1] == static_cast<char>(bytes), "what arrived");
        } else {
          const std::vector<trireme::Ref<Bytes>> some(objects.begin() + static_cast<long>(i),
                                                      objects.begin() + static_cast<long>(i + depth));
          expect(trireme::get(some).size() == depth, "what arrived");
        }
      }
    });
    if (round > 0) total += seconds;
  }
  return static_cast<double>((rounds - 1) * (count / depth * depth) * bytes) / total / 1e9;
}

int last_byte(const Bytes& array) { return array[array.size() - 1]; }

// Seconds until the tasks on ranks [1, end) have all read a new object of rank 0.
double read_by(trireme::Rank end, std::size_t bytes) {
  Bytes array(bytes);
  std::ranges::fill(array.writable(), 7);
  const auto object = trireme::put(array);
  std::vector<trireme::Ref<int>> reads;
  return seconds_of([&] {
    for (trireme::Rank rank = 1; rank < end; ++rank) {
      reads.push_back(trireme::submit_with<&last_byte>(on_rank(rank), object));
    }
    for (const auto& read : reads) expect(trireme::get(read) == 7, "what arrived");
  });
}

std::optional<double> broadcast(const Arguments& arguments) {
  const trireme::Rank ranks = trireme::rank_count();
  expect(ranks > 2, "three or more ranks are needed: mpirun -n 8");
  const std::size_t bytes = arguments.number("size", 256U << 20U);
  read_by(ranks, bytes);  // connections, and pages of the arenas
  double one = read_by(2, bytes);
  double all = read_by(ranks, bytes);
  for (int i = 0; i < 2; ++i) {
    one = std::min(one, read_by(2, bytes));
    all = std::min(all, read_by(ranks, bytes));
  }
  return all / one;
}

}  // namespace

int main(int argc, char** argv) {
  trireme::Runtime runtime(argc, argv);
  Program program;
  program.add("put", "GB/s", put);
  program.add("put_fresh", "GB/s", put_fresh);
  program.add("pull", "GB/s", pull);
  program.add("broadcast", "pulls", broadcast);
  return program.run(argc, argv);
}
