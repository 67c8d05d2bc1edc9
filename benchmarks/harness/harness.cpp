#include "benchmarks/harness/harness.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

namespace trireme::bench {
namespace {

std::uint64_t parse_number(const std::string& key, const std::string& text) {
  std::uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  const std::string_view suffix(rest, static_cast<std::size_t>(end - rest));
  if (error == std::errc()) {
    if (suffix.empty()) return number;
    if (suffix == "KiB") return number << 10U;
    if (suffix == "MiB") return number << 20U;
    if (suffix == "GiB") return number << 30U;
  }
  std::fprintf(stderr, "%s=%s: expected a whole number, with KiB, MiB or GiB behind it if wanted\n", key.c_str(),
               text.c_str());
  std::exit(2);
}

}  // namespace

Arguments::Arguments(const std::vector<std::string_view>& words) {
  for (const std::string_view word : words) {
    const std::size_t equals = word.find('=');
    if (equals == std::string_view::npos) {
      std::fprintf(stderr, "'%.*s': expected key=value\n", static_cast<int>(word.size()), word.data());
      std::exit(2);
    }
    values_[std::string(word.substr(0, equals))] = word.substr(equals + 1);
  }
}

std::string Arguments::text(const std::string& key, std::string_view fallback) const {
  const auto found = values_.find(key);
  return found == values_.end() ? std::string(fallback) : found->second;
}

std::uint64_t Arguments::number(const std::string& key, std::uint64_t fallback) const {
  const auto found = values_.find(key);
  return found == values_.end() ? fallback : parse_number(key, found->second);
}

Program& Program::add(std::string name, std::string unit, Measure measure) {
  cases_.push_back({std::move(name), std::move(unit), std::move(measure)});
  return *this;
}

int Program::run(int argc, char** argv) const {
  const std::vector<std::string_view> words(argv + 1, argv + argc);
  const auto wanted = std::find_if(cases_.begin(), cases_.end(),
                                   [&](const Case& c) { return !words.empty() && c.name == words.front(); });
  if (wanted == cases_.end()) {
    const bool listing = !words.empty() && words.front() == "--list";
    for (const Case& c : cases_) {
      std::fprintf(listing ? stdout : stderr, "%s (%s)\n", c.name.c_str(), c.unit.c_str());
    }
    return listing ? 0 : 2;
  }
  const std::optional<double> value = wanted->measure(Arguments({words.begin() + 1, words.end()}));
  if (value) {
    const nlohmann::json sample{{"case", wanted->name}, {"unit", wanted->unit}, {"value", *value}};
    std::printf("%s\n", sample.dump().c_str());
    std::fflush(stdout);
  }
  return 0;
}

double seconds_of(const std::function<void()>& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double nanos_per_op(double seconds, const std::function<void(std::uint64_t)>& body) {
  std::uint64_t n = 1;
  for (;;) {
    const double elapsed = seconds_of([&] { body(n); });
    if (elapsed >= 0.8 * seconds) return elapsed / static_cast<double>(n) * 1e9;
    const double wanted = elapsed > 0 ? seconds / elapsed : 10.0;
    n = static_cast<std::uint64_t>(static_cast<double>(n) * std::clamp(wanted, 2.0, 10.0));
  }
}

}  // namespace trireme::bench
