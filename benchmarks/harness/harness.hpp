#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::bench {

/// `key=value` words of a command line. Numbers take the suffixes KiB, MiB and GiB.
///
/// Threading: immutable.
/// Errors:    a value that is not a number ends the program with a message.
class Arguments {
 public:
  Arguments() = default;
  explicit Arguments(const std::vector<std::string_view>& words);

  std::string text(const std::string& key, std::string_view fallback) const;
  std::uint64_t number(const std::string& key, std::uint64_t fallback) const;

 private:
  std::map<std::string, std::string> values_;
};

/// One sample, or nothing in a process that does not report (every rank but the first).
using Measure = std::function<std::optional<double>(const Arguments&)>;

/// A benchmark program: a few named cases of one system.
///
/// `program --list` prints the cases; `program <case> [key=value ...]` takes one sample and prints it as a line of
/// JSON: {"case", "unit", "value"}. A program never repeats itself: the driver (benchmarks/run.py) starts the
/// programs of the compared systems in turn, so that all of them see the same machine, and does the statistics.
///
/// Threading: one owner.
/// Errors:    an unknown case is exit status 2 and a message that lists what there is.
class Program {
 public:
  Program& add(std::string name, std::string unit, Measure measure);
  int run(int argc, char** argv) const;

 private:
  struct Case {
    std::string name;
    std::string unit;
    Measure measure;
  };
  std::vector<Case> cases_;
};

/// Nanoseconds an operation. `body(n)` does n of them; n grows until a run lasts `seconds`, and only that last
/// run counts, so the shorter ones are the warm-up.
double nanos_per_op(double seconds, const std::function<void(std::uint64_t)>& body);

/// Seconds that `body` takes.
double seconds_of(const std::function<void()>& body);

}  // namespace trireme::bench
