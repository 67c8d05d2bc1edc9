#include "python/native/call_kind.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <mutex>

#include "python/native/api.hpp"
#include "scheduler/executor_queue.hpp"

namespace trireme::python {

namespace {

/// More functions than that, called in turn, get new records again and again.
constexpr std::size_t kRecent = 256;

/// The records that were asked for last, each in the place that its hash says. Reachable to the end.
struct Recent {
  scheduler::SpinLock lock;
  std::array<SharedKind, kRecent> kinds;
  static Recent& instance() {
    static auto& recent = *new Recent;
    return recent;
  }
};

std::string_view text_of(BytesView bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

std::size_t place_of(const CallKindView& kind) {
  const std::hash<std::string_view> hash;
  const auto numbers = static_cast<std::size_t>(kind.returns) ^ static_cast<std::size_t>(kind.max_retries) << 20U ^
                       std::hash<double>()(kind.cpus);
  return (hash(text_of(kind.meta)) ^ hash(kind.name) * 31 ^ hash(kind.env_key) * 61 ^ numbers) % kRecent;
}

bool same(const CallKind& a, const CallKindView& b) {
  return a.returns == b.returns && a.streaming == b.streaming && a.placed == b.placed &&
         a.max_retries == b.max_retries && a.max_restarts == b.max_restarts &&
         a.max_task_retries == b.max_task_retries && a.cpus == b.cpus && a.gpus == b.gpus && a.stream == b.stream &&
         std::ranges::equal(a.meta, b.meta) && a.name == b.name && a.env_key == b.env_key && a.env == b.env;
}

}  // namespace

CallKind::CallKind(const CallKindView& kind)
    : CallKindOf{Bytes(kind.meta.begin(), kind.meta.end()),
                 std::string(kind.name),
                 std::string(kind.env_key),
                 std::string(kind.env),
                 kind.returns,
                 kind.streaming,
                 kind.placed,
                 kind.max_retries,
                 kind.max_restarts,
                 kind.max_task_retries,
                 kind.cpus,
                 kind.gpus,
                 kind.stream} {}

CallKindView CallKind::view() const {
  return {meta,        name,         env_key,          env,  returns, streaming, placed,
          max_retries, max_restarts, max_task_retries, cpus, gpus,    stream};
}

SharedKind CallKind::of(const CallKindView& kind) {
  if (kind.streaming) return std::make_shared<const CallKind>(kind);
  auto& recent = Recent::instance();
  auto& at = recent.kinds[place_of(kind)];
  {
    const std::lock_guard lock(recent.lock);
    if (at != nullptr && same(*at, kind)) return at;
  }
  auto made = std::make_shared<const CallKind>(kind);
  auto before = made;  // what was there goes without the lock
  {
    const std::lock_guard lock(recent.lock);
    std::swap(at, before);
  }
  return made;
}

CallKindView kind_of(const CallSource& call, const CallerOptions* options) {
  CallKindView kind;
  kind.meta = call.meta;
  kind.name = call.name;
  kind.returns = static_cast<std::uint16_t>(call.returns);
  if (options != nullptr) {
    kind.env_key = options->env_key;
    kind.env = options->env;
    kind.max_restarts = options->max_restarts;
    kind.max_task_retries = options->max_task_retries;
  }
  return kind;
}

}  // namespace trireme::python
