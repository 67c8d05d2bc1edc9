#include "ml/collective/node_ops.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "ml/collective/fold.hpp"

namespace trireme::ml {
namespace {

constexpr std::size_t kBlockBytes = 4U << 10U;  // combined and copied at a time

const std::byte* bytes_at(const void* data, std::size_t offset) { return static_cast<const std::byte*>(data) + offset; }
std::byte* bytes_at(void* data, std::size_t offset) { return static_cast<std::byte*>(data) + offset; }

/// In pieces that memcpy() moves with vector registers. For larger ones glibc takes `rep movsb`, with which an AMD EPYC
/// took twice as long for a whole all-reduce of 192 KiB and more.
void copy_bytes(void* to, const void* from, std::size_t bytes) {
  constexpr std::size_t kPiece = 2048;
  if (to == from) return;
  auto* at = static_cast<std::byte*>(to);
  const auto* source = static_cast<const std::byte*>(from);
  while (bytes != 0) {
    std::size_t part = std::min(bytes, kPiece);
    asm("" : "+r"(part));  // a compiler that knows the bound takes that instruction itself
    std::memcpy(at, source, part);
    at += part;
    source += part;
    bytes -= part;
  }
}

/// The inputs of a fold, one for each member of the node.
class Inputs {
 public:
  explicit Inputs(std::uint32_t count) : count_(count) {
    if (count > few_.size()) many_.resize(count);
  }
  const void*& operator[](std::uint32_t i) { return data()[i]; }
  const void** data() { return many_.empty() ? few_.data() : many_.data(); }
  std::size_t size() const { return count_; }

 private:
  std::uint32_t count_;
  std::array<const void*, 16> few_;
  std::vector<const void*> many_;
};

/// Cuts `count` elements into a part for each member, at cache lines.
struct Parts {
  Parts(std::size_t count, std::uint32_t members, std::size_t element) : count(count), element(element) {
    const std::size_t line = 64 / element;
    each = ((count + members - 1) / members + line - 1) / line * line;
  }
  std::size_t begin(std::uint32_t member) const { return std::min(count, member * each); }
  std::size_t elements(std::uint32_t member) const { return std::min(count, (member + 1) * each) - begin(member); }
  std::size_t at(std::uint32_t member) const { return begin(member) * element; }
  std::size_t bytes(std::uint32_t member) const { return elements(member) * element; }
  std::size_t count, element, each;
};

/// Runs chunks through three stages, a phase behind one another: contribute, combine, collect. What is written between
/// two phases goes into the buffers of the coming one, what is read comes from those of the last: a buffer written for
/// one phase is read in the next and written again in the one after, whichever operation it belongs to.
template <class Contribute, class Combine, class Collect>
Task pipeline(Fabric& fabric, std::size_t chunks, Contribute contribute, Combine combine, Collect collect) {
  for (std::size_t i = 0; i < chunks + 2; ++i) {
    if (i >= 2) collect(i - 2);
    if (i >= 1 && i - 1 < chunks) combine(i - 1);
    if (i < chunks) contribute(i);
    if (i + 1 == chunks + 2) break;
    fabric.publish();
    co_await fabric.until_arrived();
  }
}

/// The same with two stages: contribute, collect.
template <class Contribute, class Collect>
Task pipeline(Fabric& fabric, std::size_t chunks, Contribute contribute, Collect collect) {
  for (std::size_t i = 0; i <= chunks; ++i) {
    if (i >= 1) collect(i - 1);
    if (i == chunks) break;
    contribute(i);
    fabric.publish();
    co_await fabric.until_arrived();
  }
}

std::size_t chunks_of(std::size_t count, std::size_t chunk) {
  return std::max<std::size_t>(1, (count + chunk - 1) / chunk);
}

}  // namespace

bool is_direct(const Fabric& fabric, std::size_t bytes) {
  return bytes <= kInlineBytes || (bytes <= kSlotBytes && bytes * fabric.locals <= fabric.thresholds.node_direct);
}

void direct_publish(Fabric& fabric, const void* in, std::size_t bytes) {
  const auto next = fabric.phase + 1;
  copy_bytes(
      bytes <= kInlineBytes ? fabric.segment->line(next, fabric.local).data : fabric.segment->slot(next, fabric.local),
      in, bytes);
  fabric.publish_quietly();
}

void direct_fold(Fabric& fabric, void* out, std::size_t count, DType type, ReduceOp op, unsigned mean_of) {
  const std::size_t bytes = count * bytes_of(type);
  Inputs inputs(fabric.locals);
  for (std::uint32_t i = 0; i < fabric.locals; ++i)
    inputs[i] =
        bytes <= kInlineBytes ? fabric.segment->line(fabric.phase, i).data : fabric.segment->slot(fabric.phase, i);
  fold(type, op, out, inputs.data(), inputs.size(), count, mean_of);
}

Task node_barrier(Fabric& fabric) {
  fabric.publish();
  co_await fabric.until_arrived();
}

Task node_reduce(Fabric& fabric, const void* in, void* out, std::size_t count, DType type, ReduceOp op,
                 unsigned mean_of, std::uint32_t root) {
  const std::size_t element = bytes_of(type);
  const std::uint32_t self = fabric.local;
  const std::uint32_t members = fabric.locals;
  const bool wants = root == kEverybody || root == self;
  if (is_direct(fabric, count * element)) {
    direct_publish(fabric, in, count * element);
    fabric.announce();
    co_await fabric.until_arrived();
    if (wants) direct_fold(fabric, out, count, type, op, mean_of);
    co_return;
  }
  Segment& segment = *fabric.segment;
  const std::size_t chunk = std::min(kStageBytes, fabric.thresholds.node_chunk) / element;
  const auto parts_of = [&](std::size_t i) { return Parts(std::min(chunk, count - i * chunk), members, element); };
  co_await pipeline(
      fabric, chunks_of(count, chunk),
      [&](std::size_t i) {
        const auto parts = parts_of(i);
        const auto* from = bytes_at(in, i * chunk * element);
        auto* to = segment.stage_in(self, fabric.phase + 1);
        const std::size_t mine = parts.at(self);
        const std::size_t behind = mine + parts.bytes(self);
        copy_bytes(to, from, mine);
        copy_bytes(to + behind, from + behind, parts.count * element - behind);
      },
      [&](std::size_t i) {
        const auto parts = parts_of(i);
        const std::size_t at = parts.at(self);
        Inputs inputs(members);
        for (std::uint32_t m = 0; m < members; ++m)
          inputs[m] = m == self ? bytes_at(in, i * chunk * element + at) : segment.stage_in(m, fabric.phase) + at;
        auto* result = segment.stage_out(self, fabric.phase + 1);
        auto* mine = bytes_at(out, i * chunk * element + at);
        // In blocks that the first-level cache holds, so that the second copy of a result costs no pass over memory.
        const std::size_t block = kBlockBytes / element;
        for (std::size_t from = 0; from < parts.elements(self); from += block) {
          const std::size_t n = std::min(block, parts.elements(self) - from);
          fold(type, op, result + from * element, inputs.data(), members, n, mean_of);
          if (wants) copy_bytes(mine + from * element, result + from * element, n * element);
          for (std::uint32_t m = 0; m < members; ++m) inputs[m] = bytes_at(inputs[m], n * element);
        }
      },
      [&](std::size_t i) {
        if (!wants) return;
        const auto parts = parts_of(i);
        for (std::uint32_t m = 0; m < members; ++m)
          if (m != self)
            copy_bytes(bytes_at(out, i * chunk * element + parts.at(m)), segment.stage_out(m, fabric.phase),
                       parts.bytes(m));
      });
}

Task node_broadcast(Fabric& fabric, void* data, std::size_t bytes, std::uint32_t root) {
  const std::size_t chunk = std::min(kStageBytes, fabric.thresholds.node_chunk);
  const auto part = [&](std::size_t i) { return std::min(chunk, bytes - i * chunk); };
  Segment& segment = *fabric.segment;
  co_await pipeline(
      fabric, chunks_of(bytes, chunk),
      [&](std::size_t i) {
        if (fabric.local == root)
          copy_bytes(segment.stage_in(root, fabric.phase + 1), bytes_at(data, i * chunk), part(i));
      },
      [&](std::size_t i) {
        if (fabric.local != root) copy_bytes(bytes_at(data, i * chunk), segment.stage_in(root, fabric.phase), part(i));
      });
}

Task node_all_gather(Fabric& fabric, const void* mine, void* all, std::size_t bytes) {
  const std::size_t chunk = std::min(kStageBytes, fabric.thresholds.node_chunk);
  const auto part = [&](std::size_t i) { return std::min(chunk, bytes - i * chunk); };
  Segment& segment = *fabric.segment;
  copy_bytes(bytes_at(all, fabric.local * bytes), mine, bytes);
  co_await pipeline(
      fabric, chunks_of(bytes, chunk),
      [&](std::size_t i) {
        copy_bytes(segment.stage_in(fabric.local, fabric.phase + 1), bytes_at(all, fabric.local * bytes + i * chunk),
                   part(i));
      },
      [&](std::size_t i) {
        for (std::uint32_t m = 0; m < fabric.locals; ++m)
          if (m != fabric.local)
            copy_bytes(bytes_at(all, m * bytes + i * chunk), segment.stage_in(m, fabric.phase), part(i));
      });
}

Task node_reduce_scatter(Fabric& fabric, const void* all, void* mine, std::size_t count, DType type, ReduceOp op,
                         unsigned mean_of) {
  const std::size_t element = bytes_of(type);
  const std::uint32_t self = fabric.local;
  const std::uint32_t members = fabric.locals;
  Segment& segment = *fabric.segment;
  // A chunk holds a piece for every member.
  const std::size_t piece = std::max<std::size_t>(fabric.thresholds.node_chunk / members / 64 * 64, 64) / element;
  const auto elements = [&](std::size_t i) { return std::min(piece, count - i * piece); };
  co_await pipeline(
      fabric, chunks_of(count, piece),
      [&](std::size_t i) {
        for (std::uint32_t m = 0; m < members; ++m)
          if (m != self)
            copy_bytes(segment.stage_in(self, fabric.phase + 1) + m * piece * element,
                       bytes_at(all, (m * count + i * piece) * element), elements(i) * element);
      },
      [&](std::size_t i) {
        Inputs inputs(members);
        for (std::uint32_t m = 0; m < members; ++m)
          inputs[m] = m == self ? bytes_at(all, (self * count + i * piece) * element)
                                : segment.stage_in(m, fabric.phase) + self * piece * element;
        fold(type, op, bytes_at(mine, i * piece * element), inputs.data(), members, elements(i), mean_of);
      });
}

Task node_all_to_all(Fabric& fabric, const void* from, void* to, std::size_t bytes) {
  const std::uint32_t self = fabric.local;
  const std::uint32_t members = fabric.locals;
  Segment& segment = *fabric.segment;
  const std::size_t piece = std::max<std::size_t>(fabric.thresholds.node_chunk / members / 64 * 64, 64);
  const auto part = [&](std::size_t i) { return std::min(piece, bytes - i * piece); };
  copy_bytes(bytes_at(to, self * bytes), bytes_at(from, self * bytes), bytes);
  co_await pipeline(
      fabric, chunks_of(bytes, piece),
      [&](std::size_t i) {
        for (std::uint32_t m = 0; m < members; ++m)
          if (m != self)
            copy_bytes(segment.stage_in(self, fabric.phase + 1) + m * piece, bytes_at(from, m * bytes + i * piece),
                       part(i));
      },
      [&](std::size_t i) {
        for (std::uint32_t m = 0; m < members; ++m)
          if (m != self)
            copy_bytes(bytes_at(to, m * bytes + i * piece), segment.stage_in(m, fabric.phase) + self * piece, part(i));
      });
}

}  // namespace trireme::ml
