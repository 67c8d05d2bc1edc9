#include "python/native/records.hpp"

#include <algorithm>
#include <cstring>
#include <ctime>
#include <new>

namespace trireme::python {

namespace {
double now() {
  timespec at{};
  ::clock_gettime(CLOCK_REALTIME, &at);
  return static_cast<double>(at.tv_sec) + 1e-9 * static_cast<double>(at.tv_nsec);
}
}  // namespace

Records::Records(std::span<std::byte> memory)
    : shown_(reinterpret_cast<std::uint64_t*>(memory.data())),
      ring_(reinterpret_cast<Record*>(memory.data() + kHeaderBytes)),
      capacity_((memory.size() - kHeaderBytes) / sizeof(Record)) {}

std::uint64_t Records::begin(std::uint32_t kind, std::string_view name, std::uint32_t attempt, std::uint64_t token) {
  const auto number = count_.fetch_add(1, std::memory_order_relaxed);
  auto& record = ring_[number % capacity_];
  if (name.size() > kNameBytes) name.remove_prefix(name.size() - kNameBytes);
  record.begin = now();
  record.end = 0;
  record.number = number;
  record.token = token;
  record.kind = kind;
  record.attempt = attempt;
  std::memcpy(record.name, name.data(), name.size());
  std::memset(record.name + name.size(), 0, kNameBytes - name.size());
  record.error[0] = '\0';
  // Readers are other processes, which look at a record's own number too.
  std::atomic_ref(*shown_).store(number + 1, std::memory_order_release);
  return number;
}

void Records::end(std::uint64_t number, std::string_view error) {
  auto& record = ring_[number % capacity_];
  if (record.number != number) return;  // a long call among many short ones: its record was overwritten
  if (!error.empty()) {
    const auto size = std::min(error.size(), kErrorBytes);
    std::memset(record.error, 0, kErrorBytes);
    std::memcpy(record.error, error.data(), size);
  } else if (record.end != 0) {
    return;  // it ended before, with an error
  }
  record.end = now();
}

}  // namespace trireme::python
