#include "ml/collective/net_ops.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

#include "ml/collective/fold.hpp"

namespace trireme::ml {
namespace {

/// What a member has room for while it combines what all others send it.
constexpr std::size_t kArrivalsMax = 32U << 20U;

const std::byte* bytes_at(const void* data, std::size_t offset) { return static_cast<const std::byte*>(data) + offset; }
std::byte* bytes_at(void* data, std::size_t offset) { return static_cast<std::byte*>(data) + offset; }

/// Cuts `count` elements as evenly as it goes.
std::vector<std::size_t> shares(std::size_t count, std::size_t members) {
  std::vector<std::size_t> result(members, count / members);
  for (std::size_t i = 0; i < count % members; ++i) ++result[i];
  return result;
}

/// Where each share begins; one entry more than shares.
std::vector<std::size_t> starts(std::span<const std::size_t> parts, std::size_t element) {
  std::vector<std::size_t> at(parts.size() + 1, 0);
  for (std::size_t i = 0; i < parts.size(); ++i) at[i + 1] = at[i] + parts[i] * element;
  return at;
}

/// What is large is sent to somebody only who has said that they are here: `step` is one that nothing else has.
Task meet(Fabric& fabric, std::uint32_t sender, std::uint32_t receiver, std::uint32_t step) {
  auto here = fabric.send(sender, step, nullptr, 0);
  auto there = fabric.receive(receiver, step, nullptr, 0);
  co_await fabric.until_done(there);
  co_await fabric.until_done(here);
}

constexpr std::uint32_t kMeetings = 1U << 27U;

Task doubling(Fabric& fabric, Team team, void* data, std::size_t count, DType type, ReduceOp op) {
  const std::size_t bytes = count * bytes_of(type);
  const std::uint32_t self = team.self;
  const Doubling steps(team.size(), self);
  std::byte* other = fabric.scratch(bytes);
  if (steps.aside) {
    auto sent = fabric.send(team.at(self + 1), team.base, data, bytes);
    auto result = fabric.receive(team.at(self + 1), team.base + 1, data, bytes);
    co_await fabric.until_done(sent);
    co_await fabric.until_done(result);
    co_return;
  }
  if (steps.paired) {
    auto got = fabric.receive(team.at(self - 1), team.base, other, bytes);
    co_await fabric.until_done(got);
    fold2(type, op, data, other, data, count);
  }
  std::uint32_t step = team.base + Doubling::kFirstStep;
  for (std::uint32_t distance = 1; distance < steps.core; distance *= 2, ++step) {
    const std::uint32_t peer = team.at(steps.partner(distance));
    const bool large = bytes > Net::kUnaskedBytes;
    if (large) co_await meet(fabric, peer, peer, step + kMeetings);
    auto sent = fabric.send(peer, step, data, bytes, large);  // first: its way is the longest
    auto got = fabric.receive(peer, step, other, bytes);
    co_await fabric.until_done(got);
    co_await fabric.until_done(sent);
    // The lower one first on both sides, so that both get the same bits.
    if (steps.is_second(distance))
      fold2(type, op, data, other, data, count);
    else
      fold2(type, op, data, data, other, count);
  }
  if (steps.paired) {
    auto sent = fabric.send(team.at(self - 1), team.base + 1, data, bytes);
    co_await fabric.until_done(sent);
  }
}

/// Shares travel round the ring and are combined on the way, then travel once more. Shares are cut into segments, so
/// that a member combines and passes on the first while the next arrives.
class Ring {
 public:
  Ring(Fabric& fabric, Team team, std::byte* data, std::size_t count, DType type)
      : fabric_(fabric),
        team_(team),
        data_(data),
        type_(type),
        element_(bytes_of(type)),
        parts_(shares(count, team.size())) {
    at_ = starts(parts_, element_);
    segment_ = std::max<std::size_t>(1, fabric_.thresholds.net_segment / element_);
    segments_ = std::max<std::size_t>(1, (parts_[0] + segment_ - 1) / segment_);  // the first share is the largest
  }
  std::size_t items() const { return 2 * (team_.size() - 1) * segments_; }  ///< received by each member
  bool combines(std::size_t item) const { return item < items() / 2; }
  std::size_t segment_bytes() const { return segment_ * element_; }
  /// How many pieces are under way at once.
  std::size_t ahead() const {
    if (fabric_.thresholds.net_ahead != 0) return fabric_.thresholds.net_ahead;
    return fabric_.over_tcp(team_.at(team_.self + 1)) ? 1 : 4;
  }

  /// The piece of the data that item `item` belongs to, as this member receives it from the left.
  std::span<std::byte> piece(std::size_t item) const { return piece_at(item, team_.self); }
  /// Into its place, or combined with what is there; `room` is for what does not come in one piece.
  MessagePtr receive(std::size_t item, std::byte* room, ReduceOp op) {
    const auto left = team_.at(team_.self + team_.size() - 1);
    const auto step = team_.base + static_cast<std::uint32_t>(item);
    const auto into = piece(item);
    if (!combines(item)) return fabric_.receive(left, step, into.data(), into.size());
    return fabric_.receive_into(left, step, room, into.size(), {type_, op, into.data()});
  }
  /// Sends what the right neighbour receives as `item`.
  MessagePtr send(std::size_t item) {
    const auto bytes = piece_at(item, (team_.self + 1) % team_.size());
    return fabric_.send(team_.at(team_.self + 1), team_.base + static_cast<std::uint32_t>(item), bytes.data(),
                        bytes.size(), true);
  }
  /// Until the right neighbour is here.
  Task meet() {
    return ml::meet(fabric_, team_.at(team_.self + team_.size() - 1), team_.at(team_.self + 1), team_.base + kMeetings);
  }
  std::size_t segments() const { return segments_; }

 private:
  std::span<std::byte> piece_at(std::size_t item, std::size_t position) const {
    const std::size_t n = team_.size();
    const std::size_t round = item / segments_;
    const std::size_t part = round < n - 1 ? (position + 2 * n - round - 1) % n  // on its way to be combined
                                           : (position + 2 * n - (round - (n - 1))) % n;
    const std::size_t begin = std::min(parts_[part], item % segments_ * segment_);
    const std::size_t end = std::min(parts_[part], begin + segment_);
    return {data_ + at_[part] + begin * element_, (end - begin) * element_};
  }

  Fabric& fabric_;
  Team team_;
  std::byte* data_;
  DType type_;
  std::size_t element_;
  std::vector<std::size_t> parts_;
  std::vector<std::size_t> at_;
  std::size_t segment_;
  std::size_t segments_;
};

Task ring(Fabric& fabric, Team team, void* data, std::size_t count, DType type, ReduceOp op) {
  // Receives posted, and first sends begun, before the earlier ones are done: what comes finds its place, and nobody
  // has to keep much for a member that is late.
  Ring ring(fabric, team, static_cast<std::byte*>(data), count, type);
  const std::size_t ahead = ring.ahead();
  std::byte* rooms = fabric.scratch(ahead * ring.segment_bytes());
  const std::size_t items = ring.items();
  std::vector<MessagePtr> received(items);
  std::vector<MessagePtr> sent;
  sent.reserve(items);
  const auto post = [&](std::size_t item) {
    if (item < items) received[item] = ring.receive(item, rooms + item % ahead * ring.segment_bytes(), op);
  };
  const auto begin = [&](std::size_t item) {
    if (item < ring.segments()) sent.push_back(ring.send(item));
  };
  for (std::size_t item = 0; item < ahead; ++item) post(item);
  co_await ring.meet();
  for (std::size_t item = 0; item < ahead; ++item) begin(item);
  for (std::size_t item = 0; item < items; ++item) {
    co_await fabric.until_done(received[item]);
    received[item].reset();
    if (item + ring.segments() < items) sent.push_back(ring.send(item + ring.segments()));
    begin(item + ahead);
    post(item + ahead);
  }
  co_await fabric.until_all_done(sent);
}

}  // namespace

Task message_barrier(Fabric& fabric, Team team) {
  // Dissemination: after step k everybody knows of the 2^(k+1) before it.
  std::uint32_t step = team.base;
  for (std::uint32_t distance = 1; distance < team.size(); distance *= 2, ++step) {
    auto sent = fabric.send(team.at(team.self + distance), step, nullptr, 0);
    auto got = fabric.receive(team.at(team.self + team.size() - distance), step, nullptr, 0);
    co_await fabric.until_done(got);
    co_await fabric.until_done(sent);
  }
}

bool takes_doubling(const Fabric& fabric, std::uint32_t members, std::size_t count, std::size_t bytes) {
  const auto few_steps = members == 2 ? fabric.thresholds.net_doubling_of_two : fabric.thresholds.net_doubling;
  return bytes <= few_steps || count < members;
}

Task message_all_reduce(Fabric& fabric, Team team, void* data, std::size_t count, DType type, ReduceOp op) {
  if (team.size() == 1) co_return;
  if (takes_doubling(fabric, team.size(), count, count * bytes_of(type)))
    co_await doubling(fabric, team, data, count, type, op);
  else
    co_await ring(fabric, team, data, count, type, op);
}

Task message_reduce_scatter(Fabric& fabric, Team team, const void* in, void* out, std::span<const std::size_t> counts,
                            DType type, ReduceOp op, unsigned mean_of) {
  const std::size_t element = bytes_of(type);
  const auto at = starts(counts, element);
  const std::uint32_t n = team.size();
  const std::size_t mine = counts[team.self];
  // In pieces, which bounds the memory for what the others send.
  const std::size_t room = std::min(fabric.thresholds.net_segment, kArrivalsMax / (2 * n));
  const std::size_t piece = std::max<std::size_t>(1, room / element);
  std::size_t longest = 0;
  for (const auto count : counts) longest = std::max(longest, count);
  const std::size_t pieces = std::max<std::size_t>(1, (longest + piece - 1) / piece);
  const auto part = [&](std::size_t count, std::size_t i) {
    return std::min(piece, count - std::min(count, i * piece));
  };
  // Two sets: while one is combined, the other fills.
  std::byte* arrivals = fabric.scratch(2 * n * piece * element);
  const auto slot = [&](std::uint32_t from, std::size_t i) {
    return arrivals + ((i & 1U) * n + from) * piece * element;
  };
  std::vector<MessagePtr> received[2];
  std::vector<MessagePtr> sent[2];
  const auto post = [&](std::size_t i) {
    received[i & 1U].clear();
    for (std::uint32_t d = 1; d < n; ++d) {
      const std::uint32_t from = (team.self + n - d) % n;
      received[i & 1U].push_back(fabric.receive(team.at(from), team.base + static_cast<std::uint32_t>(i), slot(from, i),
                                                part(mine, i) * element));
    }
  };
  const auto deliver = [&](std::size_t i) {
    sent[i & 1U].clear();
    for (std::uint32_t d = 1; d < n; ++d) {
      const std::uint32_t to = (team.self + d) % n;
      sent[i & 1U].push_back(fabric.send(team.at(to), team.base + static_cast<std::uint32_t>(i),
                                         bytes_at(in, at[to] + i * piece * element), part(counts[to], i) * element));
    }
  };
  post(0);
  deliver(0);
  for (std::size_t i = 0; i < pieces; ++i) {
    if (i + 1 < pieces) {
      if (i > 0) co_await fabric.until_all_done(sent[(i + 1) & 1U]);
      post(i + 1);
      deliver(i + 1);
    }
    co_await fabric.until_all_done(received[i & 1U]);
    std::vector<const void*> inputs(n);
    for (std::uint32_t m = 0; m < n; ++m)
      inputs[m] = m == team.self ? bytes_at(in, at[m] + i * piece * element) : slot(m, i);
    // What is sent lies in other parts of `in`, so `out` may be this member's part of it.
    fold(type, op, bytes_at(out, i * piece * element), inputs.data(), n, part(mine, i), mean_of);
  }
  co_await fabric.until_all_done(sent[0]);
  co_await fabric.until_all_done(sent[1]);
}

Task ordered_all_reduce(Fabric& fabric, Team team, void* data, std::size_t count, DType type, ReduceOp op,
                        unsigned mean_of) {
  const std::size_t element = bytes_of(type);
  const std::size_t bytes = count * element;
  const std::uint32_t n = team.size();
  if (bytes <= fabric.thresholds.fixed_direct) {
    std::byte* arrivals = fabric.scratch(n * bytes);
    std::vector<MessagePtr> messages;
    std::vector<const void*> inputs(n, data);
    for (std::uint32_t m = 0; m < n; ++m) {
      if (m == team.self) continue;
      inputs[m] = arrivals + m * bytes;
      messages.push_back(fabric.receive(team.at(m), team.base, arrivals + m * bytes, bytes));
    }
    for (std::uint32_t d = 1; d < n; ++d)
      messages.push_back(fabric.send(team.at(team.self + d), team.base, data, bytes));
    co_await fabric.until_all_done(messages);
    fold(type, op, data, inputs.data(), n, count, mean_of);
    co_return;
  }
  const auto parts = shares(count, n);
  const auto at = starts(parts, element);
  co_await message_reduce_scatter(fabric, team, data, bytes_at(data, at[team.self]), parts, type, op, mean_of);
  std::vector<std::size_t> sizes(parts);
  for (auto& size : sizes) size *= element;
  Team again = team;
  again.base += 1U << 28U;
  co_await message_all_gather(fabric, again, data, sizes);
}

Task ordered_reduce(Fabric& fabric, Team team, void* data, std::size_t count, DType type, ReduceOp op, unsigned mean_of,
                    std::uint32_t root) {
  const std::size_t element = bytes_of(type);
  const std::size_t bytes = count * element;
  const std::uint32_t n = team.size();
  const std::uint32_t peer = team.at(root);
  std::vector<MessagePtr> messages;
  if (bytes <= fabric.thresholds.fixed_direct) {
    if (team.self != root) {
      messages.push_back(fabric.send(peer, team.base, data, bytes));
      co_await fabric.until_all_done(messages);
      co_return;
    }
    std::byte* arrivals = fabric.scratch(n * bytes);
    std::vector<const void*> inputs(n, data);
    for (std::uint32_t m = 0; m < n; ++m) {
      if (m == root) continue;
      inputs[m] = arrivals + m * bytes;
      messages.push_back(fabric.receive(team.at(m), team.base, arrivals + m * bytes, bytes));
    }
    co_await fabric.until_all_done(messages);
    fold(type, op, data, inputs.data(), n, count, mean_of);
    co_return;
  }
  // Every member combines its share and sends it to the root.
  const auto parts = shares(count, n);
  const auto at = starts(parts, element);
  const std::uint32_t step = team.base + (1U << 28U);
  if (team.self != root) {
    const std::size_t mine = parts[team.self] * element;
    const auto result = std::make_unique_for_overwrite<std::byte[]>(mine);
    co_await message_reduce_scatter(fabric, team, data, result.get(), parts, type, op, mean_of);
    messages.push_back(fabric.send(peer, step, result.get(), mine));
    co_await fabric.until_all_done(messages);
    co_return;
  }
  // Nothing may overwrite a share of the root before it is sent: its result comes after its sends are done.
  co_await message_reduce_scatter(fabric, team, data, bytes_at(data, at[root]), parts, type, op, mean_of);
  for (std::uint32_t m = 0; m < n; ++m)
    if (m != root) messages.push_back(fabric.receive(team.at(m), step, bytes_at(data, at[m]), parts[m] * element));
  co_await fabric.until_all_done(messages);
}

Task message_broadcast(Fabric& fabric, Team team, void* data, std::size_t bytes, std::uint32_t root) {
  const std::uint32_t n = team.size();
  if (n == 1) co_return;
  const std::uint32_t place = (team.self + n - root) % n;
  std::vector<MessagePtr> sent;
  if (bytes <= fabric.thresholds.net_tree || n == 2) {
    // Binomial: position p hears from p without its highest bit, and then tells p plus higher bits.
    if (place != 0) {
      auto got = fabric.receive(team.at(place - std::bit_floor(place) + root), team.base, data, bytes);
      co_await fabric.until_done(got);
    }
    for (std::uint32_t bit = place == 0 ? 1 : 2 * std::bit_floor(place); place + bit < n; bit *= 2)
      sent.push_back(fabric.send(team.at(place + bit + root), team.base, data, bytes));
    co_await fabric.until_all_done(sent);
    co_return;
  }
  const std::size_t segment = fabric.thresholds.net_segment;
  const std::size_t segments = (bytes + segment - 1) / segment;
  const auto part = [&](std::size_t i) { return std::min(segment, bytes - i * segment); };
  std::vector<MessagePtr> received;
  if (place != 0)
    for (std::size_t i = 0; i < segments; ++i)
      received.push_back(fabric.receive(team.at(team.self + n - 1), team.base + static_cast<std::uint32_t>(i),
                                        bytes_at(data, i * segment), part(i)));
  for (std::size_t i = 0; i < segments; ++i) {
    if (place != 0) co_await fabric.until_done(received[i]);
    if (place + 1 < n)
      sent.push_back(fabric.send(team.at(team.self + 1), team.base + static_cast<std::uint32_t>(i),
                                 bytes_at(data, i * segment), part(i)));
  }
  co_await fabric.until_all_done(sent);
}

Task message_all_gather(Fabric& fabric, Team team, void* all, std::span<const std::size_t> bytes) {
  const std::uint32_t n = team.size();
  const auto at = starts(bytes, 1);
  std::vector<MessagePtr> received;
  std::vector<MessagePtr> sent;
  // Round the ring: in step s the part of the s-th before this member passes.
  for (std::uint32_t s = 0; s + 1 < n; ++s) {
    const std::uint32_t from = (team.self + n - s - 1) % n;
    received.push_back(fabric.receive(team.at(team.self + n - 1), team.base + s, bytes_at(all, at[from]), bytes[from]));
  }
  for (std::uint32_t s = 0; s + 1 < n; ++s) {
    const std::uint32_t part = (team.self + n - s) % n;
    sent.push_back(fabric.send(team.at(team.self + 1), team.base + s, bytes_at(all, at[part]), bytes[part]));
    co_await fabric.until_done(received[s]);
  }
  co_await fabric.until_all_done(sent);
}

Task message_all_to_all(Fabric& fabric, Team team, const void* from, void* to, std::size_t bytes) {
  const std::uint32_t n = team.size();
  std::vector<MessagePtr> messages;
  if (bytes != 0) std::memcpy(bytes_at(to, team.self * bytes), bytes_at(from, team.self * bytes), bytes);
  // A partner a step; a few steps at a time, so that large groups do not flood anybody.
  constexpr std::uint32_t kAtOnce = 8;
  for (std::uint32_t d = 1; d < n; ++d) {
    const std::uint32_t source = (team.self + n - d) % n;
    const std::uint32_t target = (team.self + d) % n;
    messages.push_back(fabric.receive(team.at(source), team.base, bytes_at(to, source * bytes), bytes));
    messages.push_back(fabric.send(team.at(target), team.base, bytes_at(from, target * bytes), bytes));
    if (d % kAtOnce == 0) {
      co_await fabric.until_all_done(messages);
      messages.clear();
    }
  }
  co_await fabric.until_all_done(messages);
}

}  // namespace trireme::ml
