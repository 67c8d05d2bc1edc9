#include <doctest/doctest.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "base/rng.hpp"
#include "transport/bootstrap.hpp"

using namespace trireme;
using namespace trireme::transport;

namespace {

Bytes bytes_of(std::string_view text) {
  const auto view = std::as_bytes(std::span(text));
  return {view.begin(), view.end()};
}

Member example() {
  Member member;
  member.rank = 7;
  member.host = "node-7.cluster";
  member.node_id = "boot:pid:[4026531836]";
  member.pid = 4711;
  member.build_id = 0x1122334455667788ULL;
  member.blobs = {{"ucx", bytes_of("address")}, {"shm", {}}, {"topology", Bytes(100'000, std::byte{5})}};
  return member;
}

std::string output_of(const std::string& command) {
  std::string out;
  FILE* pipe = popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::array<char, 256> block{};
  while (std::fgets(block.data(), block.size(), pipe) != nullptr) out += block.data();
  REQUIRE(pclose(pipe) == 0);
  return out;
}

}  // namespace

TEST_CASE("a member reads back as it was written") {
  const auto written = example();
  const auto read = Member::decode(written.encode());
  REQUIRE(read.ok());
  const auto& member = read.value();
  CHECK(member.rank == written.rank);
  CHECK(member.host == written.host);
  CHECK(member.node_id == written.node_id);
  CHECK(member.pid == written.pid);
  CHECK(member.build_id == written.build_id);
  CHECK(member.blobs == written.blobs);
  CHECK(member.blob("topology").size() == 100'000);
  CHECK(member.blob("shm").empty());
  CHECK(member.blob("none").empty());
}

TEST_CASE("a member that is cut short or has bytes too many is malformed") {
  auto member = example();
  member.blobs.pop_back();
  auto bytes = member.encode();
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    CAPTURE(length);
    const auto read = Member::decode(BytesView(bytes).first(length));
    REQUIRE_FALSE(read.ok());
    CHECK(read.error().code == Errc::malformed);
  }
  bytes.push_back(std::byte{0});
  CHECK_FALSE(Member::decode(bytes).ok());
}

TEST_CASE("a member with flipped bytes is read or refused, never more") {
  const std::uint64_t seed = 20'240'611;
  CAPTURE(seed);
  Rng rng(seed);
  auto member = example();
  member.blobs.pop_back();
  const auto good = member.encode();
  int refused = 0;
  for (int round = 0; round < 20'000; ++round) {
    auto bytes = good;
    for (auto flips = 1 + rng.below(4); flips > 0; --flips)
      bytes[rng.below(bytes.size())] = static_cast<std::byte>(rng.next());
    const auto read = Member::decode(bytes);
    if (read.ok())
      CHECK(read.value().blobs.size() <= bytes.size());
    else
      ++refused;
  }
  CHECK(refused > 0);
}

TEST_CASE("ranks of one build pass, the first that differ are named") {
  std::vector<Member> members(10);
  for (Rank rank = 0; rank < members.size(); ++rank) {
    members[rank].rank = rank;
    members[rank].host = "host" + std::to_string(rank);
    members[rank].build_id = 0xAB;
  }
  CHECK(check_same_build(members).ok());
  members[3].build_id = members[5].build_id = 0xCD;
  const auto status = check_same_build(members);
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().code == Errc::build_mismatch);
  CHECK(status.error().message.find("2 of 10") != std::string::npos);
  CHECK(status.error().message.find("rank 3 on host3") != std::string::npos);
  CHECK(status.error().message.find("rank 5 on host5") != std::string::npos);
}

TEST_CASE("the node id is the same in one process and can be forced") {
  unsetenv("TRIREME_NODE_ID");
  const auto natural = local_member();
  CHECK(natural.node_id == local_member().node_id);
  CHECK_FALSE(natural.node_id.empty());
  CHECK(natural.pid == getpid());
  CHECK_FALSE(natural.host.empty());
  setenv("SLURMD_NODENAME", "n1", 1);
  CHECK(local_member().node_id != natural.node_id);
  setenv("TRIREME_NODE_ID", "apart", 1);
  CHECK(local_member().node_id == "apart");
  unsetenv("TRIREME_NODE_ID");
  unsetenv("SLURMD_NODENAME");
}

TEST_CASE("the build id names the build, not the place of the file") {
  const auto a = output_of(PROBE_a);
  CHECK(a == output_of(PROBE_a));
  CHECK(a != output_of(PROBE_b));
  const auto plain = output_of(PROBE_plain);
  CHECK(plain != a);
  CHECK(plain != "0000000000000000\n");

  std::string folder = std::filesystem::temp_directory_path() / "trireme-build-id-XXXXXX";
  REQUIRE(mkdtemp(folder.data()) != nullptr);
  std::filesystem::copy_file(PROBE_a, folder + "/a");
  std::filesystem::copy_file(PROBE_plain, folder + "/plain");
  CHECK(output_of(folder + "/a") == a);
  CHECK(output_of(folder + "/plain") == plain);
  std::filesystem::remove_all(folder);
}
