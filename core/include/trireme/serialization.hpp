#pragma once

#include <boost/archive/binary_iarchive.hpp>
#include <boost/archive/binary_oarchive.hpp>
#include <boost/serialization/serialization.hpp>
#include <boost/serialization/split_member.hpp>
#include <streambuf>

#include "trireme/actor.hpp"

namespace trireme::detail {

/// References inside user types find the side table of the value being written or read.
Encoder*& current_encoder();
Decoder*& current_decoder();

struct EncoderStream final : std::streambuf {
  explicit EncoderStream(Encoder& out) : out(out) {}
  std::streamsize xsputn(const char* data, std::streamsize size) override {
    out.raw(data, static_cast<std::size_t>(size));
    return size;
  }
  int_type overflow(int_type c) override {
    const char byte = traits_type::to_char_type(c);
    out.raw(&byte, 1);
    return c;
  }
  Encoder& out;
};

struct DecoderStream final : std::streambuf {
  explicit DecoderStream(std::span<const std::byte> bytes) {
    auto* data = reinterpret_cast<char*>(const_cast<std::byte*>(bytes.data()));
    setg(data, data, data + bytes.size());
  }
};

template <class T>
concept BoostSerializable = requires(boost::archive::binary_oarchive& out, T& value) {
  boost::serialization::serialize_adl(out, value, 0U);
};

/// Everything without a codec of its own: the type's serialize(), through a binary archive without header.
template <class T, class Enable>
struct Codec {
  static constexpr unsigned kFlags =
      boost::archive::no_header | boost::archive::no_codecvt | boost::archive::no_tracking;
  static void encode(Encoder& out, const T& value) {
    std::vector<std::byte> bytes;
    Encoder inner(bytes, out.refs);
    EncoderStream stream(inner);
    auto* before = std::exchange(current_encoder(), &inner);
    {
      boost::archive::binary_oarchive archive(stream, kFlags);
      archive << value;
    }
    current_encoder() = before;
    out.varint(bytes.size());
    out.raw(bytes.data(), bytes.size());
  }
  static T decode(Decoder& in) {
    const auto size = in.varint();
    const auto bytes = in.raw(size);
    DecoderStream stream(bytes);
    struct Restore {
      Decoder* before;
      ~Restore() { current_decoder() = before; }
    } restore{std::exchange(current_decoder(), &in)};
    try {
      boost::archive::binary_iarchive archive(stream, kFlags);
      T value;
      archive >> value;
      return value;
    } catch (const boost::archive::archive_exception&) {
      throw DecodeError{};
    }
  }
};

}  // namespace trireme::detail

namespace trireme {

template <class T>
template <class Archive>
void Ref<T>::serialize(Archive& archive, unsigned) {
  bool there = static_cast<bool>(cell_);
  archive& there;
  std::uint64_t index = 0;
  if constexpr (Archive::is_saving::value) {
    auto* out = detail::current_encoder();
    if (there && out != nullptr) {
      index = out->refs.size();
      out->refs.push_back(cell_);
    }
    archive& index;
  } else {
    archive& index;
    auto* in = detail::current_decoder();
    cell_ = there && in != nullptr ? in->ref_at(index) : detail::CellRef{};
  }
}

template <class T>
template <class Archive>
void Actor<T>::serialize(Archive& archive, unsigned version) {
  Ref<T> ref(cell_);
  ref.serialize(archive, version);
  cell_ = ref.cell();
}

}  // namespace trireme
