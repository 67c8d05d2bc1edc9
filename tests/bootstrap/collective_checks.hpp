#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "transport/bootstrap.hpp"

namespace trireme::test {

using namespace trireme::transport;

inline Bytes pattern(Rank rank, std::size_t size) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(rank * 31 + i * 7 + i / 251);
  return bytes;
}

/// What every bootstrap promises, called by all ranks at the same point.
inline void check_exchanges(Bootstrap& bootstrap) {
  REQUIRE(bootstrap.rank() < bootstrap.size());
  REQUIRE(bootstrap.barrier().ok());
  // Sizes differ by rank and round; 0 and more than the 4 kB of a launcher's message are among them.
  const std::size_t sizes[] = {16, 0, 5'000, 1, 300'000, 4'096};
  for (const std::size_t size : sizes) {
    CAPTURE(size);
    const auto own = size == 0 ? 0 : size + bootstrap.rank();
    auto all = bootstrap.all_gather(pattern(bootstrap.rank(), own));
    REQUIRE_MESSAGE(all.ok(), (all.ok() ? std::string() : all.error().message));
    REQUIRE(all.value().size() == bootstrap.size());
    for (Rank rank = 0; rank < bootstrap.size(); ++rank) {
      CAPTURE(rank);
      CHECK(all.value()[rank] == pattern(rank, size == 0 ? 0 : size + rank));
    }
  }
}

inline void check_session(Bootstrap& bootstrap) {
  const auto session = bootstrap.session();
  CHECK_FALSE(session.empty());
  CHECK(session.find('/') == std::string::npos);
  const auto view = std::as_bytes(std::span(session));
  auto all = bootstrap.all_gather(view);
  REQUIRE(all.ok());
  for (const auto& other : all.value()) CHECK(other == Bytes(view.begin(), view.end()));
}

inline std::vector<Member> exchange_members(Bootstrap& bootstrap) {
  auto mine = local_member();
  mine.rank = bootstrap.rank();
  auto all = bootstrap.all_gather(mine.encode());
  REQUIRE(all.ok());
  std::vector<Member> members;
  for (const auto& bytes : all.value()) {
    auto member = Member::decode(bytes);
    REQUIRE(member.ok());
    members.push_back(std::move(member.value()));
  }
  return members;
}

/// Every rank finds the same verdict: equal builds pass, the last rank's other build is named by all.
inline void check_builds(Bootstrap& bootstrap) {
  const auto members = exchange_members(bootstrap);
  CHECK(check_same_build(members).ok());
  for (Rank rank = 0; rank < bootstrap.size(); ++rank) CHECK(members[rank].rank == rank);

  const auto last = bootstrap.size() - 1;
  if (last == 0) return;
  if (bootstrap.rank() == last) setenv("TRIREME_BUILD_ID", "another build", 1);
  const auto mixed = check_same_build(exchange_members(bootstrap));
  unsetenv("TRIREME_BUILD_ID");
  REQUIRE_FALSE(mixed.ok());
  CHECK(mixed.error().code == Errc::build_mismatch);
  CHECK(mixed.error().message.find("rank " + std::to_string(last) + " on ") != std::string::npos);
}

inline void check_finalized(Bootstrap& bootstrap) {
  bootstrap.finalize();
  bootstrap.finalize();
  CHECK_FALSE(bootstrap.barrier().ok());
  CHECK_FALSE(bootstrap.all_gather({}).ok());
}

}  // namespace trireme::test
