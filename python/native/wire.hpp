#pragma once

#include <optional>
#include <span>

#include "base/wire.hpp"
#include "core/context.hpp"
#include "python/native/frames.hpp"
#include "trireme/options.hpp"

namespace trireme::python {

/// Memory of a rank of the node that a worker can map: descriptor `fd` of process `pid`. An rank's own arena may be
/// written where `room` gave space.
struct Located {
  std::uint32_t rank = 0;
  std::int32_t pid = 0;
  std::int32_t fd = -1;
  std::uint64_t arena_bytes = 0;
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
  std::uint64_t pin = 0;

  void encode(Writer& out) const;
  static Located decode(Reader& in);
};

inline Writer begin(Bytes& frame, Frame kind) {
  frame.clear();
  frame.push_back(static_cast<std::byte>(kind));
  return Writer(frame);
}

/// A packed value: what the package pickled, and its out-of-band buffers.
///
///   u32 buffers | u32 0 | u64 size of data | buffers x u64 size | data | each buffer, at a multiple of 64 bytes (of
///   4096 from 64 KiB on)
///
/// Offsets are from the beginning of the blob, which lies at a multiple of 64 bytes where it is large.
struct PackedLayout {
  std::uint64_t data = 0, data_size = 0;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> buffers;  ///< offset, size
  std::uint64_t total = 0;
};
PackedLayout layout_of(std::uint64_t data_size, std::span<const std::uint64_t> buffer_sizes);
/// Fills `into` (layout.total bytes); releases nothing, so call it without the interpreter's lock where it is long.
void pack(const PackedLayout& layout, BytesView data, std::span<const BytesView> buffers, std::span<std::byte> into);
/// Empty when the bytes are no packed value.
std::optional<PackedLayout> unpack(BytesView blob);

/// How a call is placed, as the package's Options say it.
struct CallOptions {
  Resources resources;
  Placement placement;
  std::int32_t max_retries = 3;
  std::string name;  ///< actors
  bool detached = false;

  /// False: a task that runs anywhere on one CPU, the common case.
  bool placed() const;
  void encode(Writer& out) const;
  static CallOptions decode(Reader& in);
};
void encode_resources(Writer& out, const Resources& resources);
Resources decode_resources(Reader& in);
/// Per bundle of a placement group what the labels of its rank must be.
using GroupLabels = std::vector<std::vector<LabelRule>>;
void encode_labels(Writer& out, const GroupLabels& labels);
GroupLabels decode_labels(Reader& in);

}  // namespace trireme::python
