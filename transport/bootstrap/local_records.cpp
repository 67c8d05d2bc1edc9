#include "transport/bootstrap/local_records.hpp"

#include <fmt/format.h>

namespace trireme::transport::local {
namespace {

constexpr std::uint32_t kMagic = 0x324C5254;  // "TRL2"

enum class Verdict : std::uint8_t { ok = 0, failed = 1 };

}  // namespace

Bytes Introduction::encode() const {
  Bytes bytes;
  Writer out(bytes);
  out.put(kMagic);
  out.put(rank);
  out.put(size);
  out.put(seats);
  return bytes;
}

Error send_away(Channel& guest, const std::string& why, Nanos until) {
  auto error = make_error(Errc::invalid_argument, "local bootstrap: rank 0 sent this process away: " + why);
  (void)guest.send(failure(error), until);
  return make_error(Errc::invalid_argument, why);
}

Result<Introduction> hear_introduction(Channel& guest, std::uint32_t size, std::uint32_t seats, Nanos until) {
  auto record = guest.receive(until);
  if (!record) return record.error();
  Reader in(*record);
  const bool known = in.get<std::uint32_t>() == kMagic;
  Introduction said;
  said.rank = in.get<Rank>();
  said.size = in.get<std::uint32_t>();
  said.seats = in.get<std::uint32_t>();
  if (!guest.same_user()) return send_away(guest, "it belongs to another user", until);
  if (!known || !in.done()) return send_away(guest, "it does not introduce itself as a rank of this build", until);
  if (said.size != size)
    return send_away(guest,
                     fmt::format("it takes itself for a rank of {}, and this cluster has {}: TRIREME_LOCAL_SIZE "
                                 "differs",
                                 said.size, size),
                     until);
  if (said.seats != seats)
    return send_away(
        guest,
        fmt::format("it knows of {} seats, and this cluster has {}: TRIREME_LOCAL_SEATS differs", said.seats, seats),
        until);
  if (said.rank == 0 || said.rank >= size + seats)
    return send_away(
        guest, fmt::format("it takes itself for rank {}, and those to come are 1 to {}", said.rank, size + seats - 1),
        until);
  return said;
}

Bytes welcome(std::string_view session) {
  Bytes bytes;
  Writer out(bytes);
  out.put(kMagic);
  out.put(Verdict::ok);
  out.text(session);
  return bytes;
}

Bytes failure(const Error& error) {
  Bytes bytes;
  Writer out(bytes);
  out.put(kMagic);
  out.put(Verdict::failed);
  out.put(error.code);
  out.text(error.message);
  return bytes;
}

Bytes round(const std::vector<Bytes>& all, std::optional<BytesView> world) {
  Bytes bytes;
  Writer out(bytes);
  out.put(kMagic);
  out.put(Verdict::ok);
  for (const auto& record : all) out.blob(record);
  if (world) out.blob(*world);
  return bytes;
}

Result<Bytes> answer(const Bytes& record) {
  Reader in(record);
  const bool known = in.get<std::uint32_t>() == kMagic;
  const auto verdict = in.get<Verdict>();
  if (known && in.ok() && verdict == Verdict::ok) {
    const auto rest = in.rest();
    return Bytes(rest.begin(), rest.end());
  }
  if (known && verdict == Verdict::failed) {
    const auto code = in.get<Errc>();
    std::string text(in.text());
    if (in.done()) return make_error(code, std::move(text));
  }
  return make_error(Errc::malformed,
                    "local bootstrap: what listens there does not speak as a rank 0 of this build does; each cluster "
                    "needs a TRIREME_LOCAL_SOCKET of its own");
}

}  // namespace trireme::transport::local
