#pragma once

#include <span>

#include "base/wire.hpp"
#include "trireme/detail/codec.hpp"

namespace trireme::python::cross {

/// A packed value (wire.hpp) on its way: bytes, or memory of an arena, which is passed on and never copied in a node.
struct Blob {
  trireme::detail::Value value;

  static trireme::detail::Value trireme_whole_value(const Blob& blob);
  static Blob trireme_from_whole(const trireme::detail::Value& value) { return {value}; }
};

/// Packs in the arena when it is large.
Blob make_blob(BytesView data, std::span<const BytesView> buffers);

}  // namespace trireme::python::cross

namespace trireme::detail {
/// As an argument: references to memory, small ones by their bytes.
template <>
struct Codec<python::cross::Blob, void> {
  static void encode(Encoder& out, const python::cross::Blob& blob);
  static python::cross::Blob decode(Decoder& in);
};
}  // namespace trireme::detail
