#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/ids.hpp"
#include "base/result.hpp"
#include "base/wire.hpp"
#include "transport/bootstrap/channel.hpp"

namespace trireme::transport::local {

// What rank 0 and the others of a local cluster say to each other, apart from the records of the exchanges themselves.

/// A stranger that connects and says nothing is let wait this long, beside the others.
constexpr Nanos kIntroductionMax = 5 * kSecond;

/// What a rank says first.
struct Introduction {
  Rank rank = kNoRank;
  std::uint32_t size = 0;
  std::uint32_t seats = 0;
  Bytes encode() const;
};

/// The introduction of whoever is at the other end of `guest`, or why it is sent away; it has been told then.
Result<Introduction> hear_introduction(Channel& guest, std::uint32_t size, std::uint32_t seats, Nanos until);
/// Tells a guest that introduced itself that it goes, and why.
Error send_away(Channel& guest, const std::string& why, Nanos until);

Bytes welcome(std::string_view session);
Bytes failure(const Error& error);
/// All records of a round; a late rank is told of the job besides.
Bytes round(const std::vector<Bytes>& all, std::optional<BytesView> world);

/// What follows the verdict of a record from rank 0, or the error it carries.
Result<Bytes> answer(const Bytes& record);

}  // namespace trireme::transport::local
