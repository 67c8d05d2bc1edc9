#include "objstore/transfer_message.hpp"

namespace trireme::objstore {

namespace {

using Kind = TransferMessage::Kind;

}  // namespace

Stripes::Stripes(std::uint64_t size, const TransferOptions& options) {
  end[0] = size;
  if (size < options.striped_bytes_min || size < 2 * options.chunk_bytes) return;
  count = 2;
  const auto chunks = (size + options.chunk_bytes - 1) / options.chunk_bytes;
  begin[1] = end[0] = chunks / 2 * options.chunk_bytes;
  end[1] = size;
}

Bytes TransferMessage::encode() const {
  Bytes out;
  Writer writer(out);
  writer.put(kind);
  writer.id(id);
  writer.varint(pull);
  switch (kind) {
    case Kind::want:
      writer.varint(size);
      writer.varint(rank);
      break;
    case Kind::sources:
      writer.varint(sources.size());
      for (const auto& [its_stripe, its_rank] : sources) {
        writer.varint(its_stripe);
        writer.varint(its_rank);
      }
      break;
    case Kind::failed:
    case Kind::move:
      writer.varint(stripe);
      writer.varint(rank);
      break;
    case Kind::subscribe:
      writer.varint(stripe);
      writer.varint(position);
      break;
    case Kind::ready:
      writer.varint(stripe);
      writer.varint(position);
      writer.varint(offset);
      writer.varint(generation);
      break;
    case Kind::gone:
      writer.put(static_cast<std::uint8_t>(tainted));
      break;
    case Kind::unsubscribe:
    case Kind::settled:
      writer.varint(stripe);
      break;
    case Kind::lost:
    case Kind::done:
    case Kind::gave_up:
      break;
  }
  return out;
}

Result<TransferMessage> TransferMessage::decode(BytesView bytes) {
  Reader in(bytes);
  TransferMessage out;
  const auto stripe_of = [&in] {
    const auto value = in.varint();
    if (value > 1) in.fail();
    return static_cast<std::uint32_t>(value);
  };
  const auto rank_of = [&in] {
    const auto value = in.varint();
    if (value >= kNoRank) in.fail();
    return static_cast<Rank>(value);
  };
  out.kind = in.get<Kind>();
  out.id = in.id();
  out.pull = in.varint();
  switch (out.kind) {
    case Kind::want:
      out.size = in.varint();
      out.rank = rank_of();
      break;
    case Kind::sources: {
      const auto count = in.count(2);
      if (count > 2) in.fail();
      for (std::uint64_t i = 0; i < count && in.ok(); ++i) {
        const auto stripe = stripe_of();
        out.sources.emplace_back(stripe, rank_of());
      }
      break;
    }
    case Kind::failed:
    case Kind::move:
      out.stripe = stripe_of();
      out.rank = rank_of();
      break;
    case Kind::subscribe:
      out.stripe = stripe_of();
      out.position = in.varint();
      break;
    case Kind::ready:
      out.stripe = stripe_of();
      out.position = in.varint();
      out.offset = in.varint();
      out.generation = in.varint();
      break;
    case Kind::gone:
      out.tainted = in.get<std::uint8_t>() != 0;
      break;
    case Kind::unsubscribe:
    case Kind::settled:
      out.stripe = stripe_of();
      break;
    case Kind::lost:
    case Kind::done:
    case Kind::gave_up:
      break;
    default:
      in.fail();
  }
  if (!in.done() || !out.id) return make_error(Errc::malformed, "a transfer message does not decode");
  return out;
}

}  // namespace trireme::objstore
