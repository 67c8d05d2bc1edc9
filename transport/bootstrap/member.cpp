#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <fstream>

#include <fmt/format.h>

#include "transport/bootstrap.hpp"
#include "transport/bootstrap/build_id.hpp"

namespace trireme::transport {
namespace {

// First in every record, before anything whose layout a build may change.
constexpr std::uint32_t kMagic = 0x314D5254;  // "TRM1"

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// Shared memory and pidfds reach as far as the kernel and the PID namespace do.
std::string own_node_id() {
  if (const char* forced = std::getenv("TRIREME_NODE_ID"); forced != nullptr && *forced != '\0') return forced;
  std::string id = first_line("/proc/sys/kernel/random/boot_id");
  std::array<char, 64> link{};
  if (const auto length = readlink("/proc/self/ns/pid", link.data(), link.size()); length > 0)
    id += ":" + std::string(link.data(), static_cast<std::size_t>(length));
  if (const char* slurmd = std::getenv("SLURMD_NODENAME")) id += fmt::format(":{}", slurmd);
  return id;
}

}  // namespace

Bytes Member::encode() const {
  Bytes out;
  Writer writer(out);
  writer.put(kMagic);
  writer.put(build_id);
  writer.text(host);
  writer.put(rank);
  writer.text(node_id);
  writer.put(pid);
  writer.varint(blobs.size());
  for (const auto& [name, bytes] : blobs) {
    writer.text(name);
    writer.blob(bytes);
  }
  return out;
}

Result<Member> Member::decode(BytesView bytes) {
  Reader reader(bytes);
  if (reader.get<std::uint32_t>() != kMagic)
    return make_error(Errc::malformed,
                      fmt::format("a rank's introduction ({} bytes) does not start as this build writes it: another "
                                  "program or another version of Trireme was started beside this one",
                                  bytes.size()));
  Member member;
  member.build_id = reader.get<std::uint64_t>();
  member.host = reader.text();
  member.rank = reader.get<Rank>();
  member.node_id = reader.text();
  member.pid = reader.get<std::int32_t>();
  const auto count = reader.count(2);
  for (std::uint64_t i = 0; i < count && reader.ok(); ++i) {
    std::string name(reader.text());
    const auto blob = reader.blob();
    member.blobs.emplace_back(std::move(name), Bytes(blob.begin(), blob.end()));
  }
  if (!reader.done())
    return make_error(Errc::malformed,
                      fmt::format("a rank's introduction ({} bytes, host \"{}\") is cut short or has bytes too many",
                                  bytes.size(), member.host));
  return member;
}

BytesView Member::blob(std::string_view name) const {
  for (const auto& [key, bytes] : blobs)
    if (key == name) return bytes;
  return {};
}

Member local_member() {
  Member member;
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) == 0) member.host = host.data();
  member.node_id = own_node_id();
  member.pid = getpid();
  member.build_id = own_build_id();
  return member;
}

Status check_same_build(const std::vector<Member>& members) {
  // As many as help to see the pattern (one host, one partition), and not 10,000 lines.
  constexpr std::size_t kNamedMax = 4;
  std::string named;
  std::size_t differ = 0;
  for (const auto& member : members) {
    if (member.build_id == members.front().build_id) continue;
    if (++differ <= kNamedMax)
      named +=
          fmt::format("{}rank {} on {} ({:016x})", differ == 1 ? "" : ", ", member.rank, member.host, member.build_id);
  }
  if (differ == 0) return {};
  return make_error(Errc::build_mismatch,
                    fmt::format("{} of {} ranks run another build than rank {} on {} ({:016x}): {}{}. Start all ranks "
                                "from the same installation, and check PATH, LD_LIBRARY_PATH and stale node-local "
                                "copies on those hosts",
                                differ, members.size(), members.front().rank, members.front().host,
                                members.front().build_id, named, differ > kNamedMax ? ", ..." : ""));
}

}  // namespace trireme::transport
