#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace trireme::python {

/// Which tasks a worker process ran, written in place into a file that its session maps: one ring a process, so that
/// the last tasks of a process that died can still be read. The layout is that of python/trireme/_observe.py.
///
/// Threading: any thread; records of concurrent calls do not disturb each other.
class Records {
 public:
  static constexpr std::size_t kHeaderBytes = 4096;  ///< the count, and what the package writes
  static constexpr std::size_t kNameBytes = 112;
  static constexpr std::size_t kErrorBytes = 32;
  struct Record {
    double begin;  ///< seconds since the epoch
    double end;    ///< 0: it runs
    std::uint64_t number;
    std::uint64_t token;
    std::uint32_t kind;
    std::uint32_t attempt;
    char name[kNameBytes];    ///< of longer ones the end
    char error[kErrorBytes];  ///< the exception's type; empty when there was none
  };
  static_assert(sizeof(Record) == 184);

  /// Room for as many records as fit. The memory outlives this.
  explicit Records(std::span<std::byte> memory);
  std::uint64_t begin(std::uint32_t kind, std::string_view name, std::uint32_t attempt, std::uint64_t token);
  /// `number` is what begin() gave. Only the first end of a call that failed counts.
  void end(std::uint64_t number, std::string_view error = {});

 private:
  std::uint64_t* shown_;  ///< how many were begun, for readers
  Record* ring_;
  std::uint64_t capacity_;
  std::atomic<std::uint64_t> count_{0};
};

}  // namespace trireme::python
