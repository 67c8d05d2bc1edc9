#include <map>
#include <mutex>

#include "trireme/detail/function.hpp"

namespace trireme::detail {

namespace {

struct Registry {
  std::mutex mutex;
  // Node-based: entries stay where they are.
  std::map<std::uint64_t, FunctionEntry> entries;
};

Registry& registry() {
  // Leaked on purpose: functions are registered before main and used until the last thread ends.
  static auto* instance = new Registry;
  return *instance;
}

}  // namespace

std::uint64_t hash_text(std::string_view text, std::uint64_t seed) {
  // FNV-1a, 64 bits.
  for (const char c : text) seed = (seed ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return seed;
}

const FunctionEntry& register_function(FunctionEntry entry) {
  auto& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto [at, fresh] = all.entries.emplace(entry.id, entry);
  if (!fresh && at->second.decode != entry.decode) at->second.ambiguous = true;
  return at->second;
}

const FunctionEntry& register_named(std::string_view name, decltype(FunctionEntry::decode) decode) {
  FunctionEntry entry;
  entry.name = name;
  entry.id = hash_text(name);
  entry.decode = decode;
  return register_function(entry);
}

const FunctionEntry* find_function(std::uint64_t id) {
  auto& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto at = all.entries.find(id);
  return at == all.entries.end() ? nullptr : &at->second;
}

}  // namespace trireme::detail
