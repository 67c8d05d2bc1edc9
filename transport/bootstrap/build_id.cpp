#include "transport/bootstrap/build_id.hpp"

#include <elf.h>
#include <link.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace trireme::transport {
namespace {

class Fnv1a {
 public:
  void add(std::span<const char> bytes) {
    for (const char c : bytes) state_ = (state_ ^ static_cast<unsigned char>(c)) * 0x100000001B3ULL;
  }
  std::uint64_t value() const { return state_; }

 private:
  std::uint64_t state_ = 0xCBF29CE484222325ULL;
};

struct Found {
  std::uintptr_t code = 0;  // an address inside the binary looked for
  std::string path;
  std::vector<char> build_id;
};

bool holds(const dl_phdr_info& info, std::uintptr_t address) {
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const auto& segment = info.dlpi_phdr[i];
    const auto begin = info.dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD && address >= begin && address - begin < segment.p_memsz) return true;
  }
  return false;
}

std::vector<char> note_in(const char* at, std::size_t size, std::size_t align) {
  const auto padded = [align](std::size_t n) { return (n + align - 1) / align * align; };
  while (size >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note;
    std::memcpy(&note, at, sizeof note);
    const auto name = sizeof note;
    const auto content = name + padded(note.n_namesz);
    const auto next = content + padded(note.n_descsz);
    if (next > size) break;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(at + name, "GNU", 4) == 0)
      return {at + content, at + content + note.n_descsz};
    at += next;
    size -= next;
  }
  return {};
}

int visit(dl_phdr_info* info, std::size_t, void* argument) {
  auto& found = *static_cast<Found*>(argument);
  if (!holds(*info, found.code)) return 0;
  // The executable itself has an empty name.
  found.path = info->dlpi_name == nullptr || *info->dlpi_name == '\0' ? "/proc/self/exe" : info->dlpi_name;
  for (int i = 0; i < info->dlpi_phnum && found.build_id.empty(); ++i) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    found.build_id = note_in(reinterpret_cast<const char*>(info->dlpi_addr + segment.p_vaddr), segment.p_memsz,
                             segment.p_align == 8 ? 8 : 4);
  }
  return 1;
}

std::uint64_t compute() {
  Fnv1a hash;
  Found found;
  found.code = reinterpret_cast<std::uintptr_t>(&own_build_id);
  dl_iterate_phdr(visit, &found);
  if (!found.build_id.empty()) {
    hash.add(found.build_id);
    return hash.value();
  }
  std::ifstream file(found.path, std::ios::binary);
  if (!file) return 0;
  std::vector<char> block(1U << 20U);
  while (file.read(block.data(), static_cast<std::streamsize>(block.size())) || file.gcount() > 0)
    hash.add(std::span(block).first(static_cast<std::size_t>(file.gcount())));
  return hash.value();
}

}  // namespace

std::uint64_t own_build_id() {
  if (const char* forced = std::getenv("TRIREME_BUILD_ID"); forced != nullptr && *forced != '\0') {
    Fnv1a hash;
    hash.add(std::string_view(forced));
    return hash.value();
  }
  static const std::uint64_t id = compute();
  return id;
}

}  // namespace trireme::transport
