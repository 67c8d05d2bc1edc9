// How fast this machine copies: the bound for every put. Into pages that are there, and into fresh ones.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "benchmarks/harness/harness.hpp"

namespace {

using trireme::bench::Arguments;
using trireme::bench::nanos_per_op;

char* map(std::size_t bytes, int sharing) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("mmap");
    std::exit(1);
  }
  return static_cast<char*>(memory);
}

char* filled(std::size_t bytes, int sharing) {
  char* memory = map(bytes, sharing);
  std::memset(memory, 1, bytes);
  return memory;
}

/// Where a program's data lies, and where the puts it is compared with read from: 16 bytes into a page, as malloc does.
std::vector<char> source_of(std::size_t bytes) { return std::vector<char>(bytes, 1); }

// Keeps the copy: the compiler must believe that someone reads it.
void touch(const char* memory) { asm volatile("" ::"r"(memory) : "memory"); }

std::optional<double> faulted(const Arguments& arguments) {
  const std::size_t bytes = arguments.number("size", 1U << 20U);
  const std::vector<char> source = source_of(bytes);
  char* target = filled(bytes, MAP_SHARED);
  const double nanos = nanos_per_op(0.1, [&](std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) {
      std::memcpy(target, source.data(), bytes);
      touch(target);
    }
  });
  return static_cast<double>(bytes) / nanos;
}

std::optional<double> fresh(const Arguments& arguments, int sharing) {
  const std::size_t bytes = arguments.number("size", 1U << 20U);
  const std::vector<char> source = source_of(bytes);
  const double nanos = nanos_per_op(0.1, [&](std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) {
      char* target = map(bytes, sharing);
      std::memcpy(target, source.data(), bytes);
      touch(target);
      munmap(target, bytes);
    }
  });
  return static_cast<double>(bytes) / nanos;
}

}  // namespace

int main(int argc, char** argv) {
  trireme::bench::Program program;
  program.add("copy_faulted", "GB/s", faulted);
  program.add("copy_fresh_private", "GB/s", [](const Arguments& a) { return fresh(a, MAP_PRIVATE); });
  program.add("copy_fresh_shared", "GB/s", [](const Arguments& a) { return fresh(a, MAP_SHARED); });
  return program.run(argc, argv);
}
