#include "python/native/wire.hpp"

#include <cstring>

namespace trireme::python {

namespace {
constexpr std::uint64_t kAlign = 64;
/// Large buffers begin at a page. Arrays lie just behind one (16 or 64 bytes); copied to a place with a slightly higher
/// address within its page, every load would collide with the store before it (4K aliasing), at a third of the speed.
constexpr std::uint64_t kPageAlign = 4096;
constexpr std::uint64_t kPageAlignFrom = 64U << 10U;
/// A value with more out-of-band buffers is no value of ours.
constexpr std::uint32_t kBuffersMax = 1U << 24U;
std::uint64_t aligned(std::uint64_t at, std::uint64_t size) {
  const auto to = size < kPageAlignFrom ? kAlign : kPageAlign;
  return (at + to - 1) & ~(to - 1);
}
}  // namespace

void Located::encode(Writer& out) const {
  out.varint(rank);
  out.put(pid);
  out.put(fd);
  out.varint(arena_bytes);
  out.varint(offset);
  out.varint(size);
  out.varint(pin);
}

Located Located::decode(Reader& in) {
  Located at;
  at.rank = static_cast<std::uint32_t>(in.varint());
  at.pid = in.get<std::int32_t>();
  at.fd = in.get<std::int32_t>();
  at.arena_bytes = in.varint();
  at.offset = in.varint();
  at.size = in.varint();
  at.pin = in.varint();
  return at;
}

PackedLayout layout_of(std::uint64_t data_size, std::span<const std::uint64_t> buffer_sizes) {
  PackedLayout layout;
  layout.data = 16 + 8 * buffer_sizes.size();
  layout.data_size = data_size;
  layout.total = layout.data + data_size;
  layout.buffers.reserve(buffer_sizes.size());
  for (const auto size : buffer_sizes) {
    const auto at = aligned(layout.total, size);
    layout.buffers.emplace_back(at, size);
    layout.total = at + size;
  }
  return layout;
}

void pack(const PackedLayout& layout, BytesView data, std::span<const BytesView> buffers, std::span<std::byte> into) {
  const auto count = static_cast<std::uint32_t>(buffers.size());
  const std::uint32_t zero = 0;
  std::memcpy(into.data(), &count, sizeof count);
  std::memcpy(into.data() + 4, &zero, sizeof zero);
  std::memcpy(into.data() + 8, &layout.data_size, 8);
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const std::uint64_t size = buffers[i].size();
    std::memcpy(into.data() + 16 + 8 * i, &size, 8);
  }
  if (!data.empty()) std::memcpy(into.data() + layout.data, data.data(), data.size());
  auto end = layout.data + layout.data_size;
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const auto [at, size] = layout.buffers[i];
    std::memset(into.data() + end, 0, at - end);  // nothing of an earlier object shows
    if (size != 0) std::memcpy(into.data() + at, buffers[i].data(), size);
    end = at + size;
  }
}

std::optional<PackedLayout> unpack(BytesView blob) {
  if (blob.size() < 16) return std::nullopt;
  std::uint32_t count = 0;
  std::uint64_t data_size = 0;
  std::memcpy(&count, blob.data(), sizeof count);
  std::memcpy(&data_size, blob.data() + 8, sizeof data_size);
  if (count > kBuffersMax || (blob.size() - 16) / 8 < count || data_size > blob.size()) return std::nullopt;
  std::vector<std::uint64_t> sizes(count);
  if (count != 0) std::memcpy(sizes.data(), blob.data() + 16, 8 * static_cast<std::size_t>(count));
  for (const auto size : sizes) {
    if (size > blob.size()) return std::nullopt;
  }
  auto layout = layout_of(data_size, sizes);
  if (layout.total != blob.size()) return std::nullopt;
  return layout;
}

bool CallOptions::placed() const {
  return placement.kind != Placement::Kind::automatic || !placement.labels.empty() || resources.cpus.value_or(1) != 1 ||
         resources.gpus != 0 || resources.memory != 0 || !resources.custom.empty();
}

void encode_resources(Writer& out, const Resources& resources) {
  out.put(static_cast<std::uint8_t>(resources.cpus.has_value()));
  out.put(resources.cpus.value_or(0));
  out.put(resources.gpus);
  out.varint(resources.memory);
  out.varint(resources.custom.size());
  for (const auto& [name, amount] : resources.custom) {
    out.text(name);
    out.put(amount);
  }
}

Resources decode_resources(Reader& in) {
  Resources resources;
  const bool has_cpus = in.get<std::uint8_t>() != 0;
  const auto cpus = in.get<double>();
  if (has_cpus) resources.cpus = cpus;
  resources.gpus = in.get<double>();
  resources.memory = in.varint();
  for (auto left = in.count(9); left != 0 && in.ok(); --left) {
    const auto name = std::string(in.text());
    resources.custom[name] = in.get<double>();
  }
  return resources;
}

namespace {

void encode_rules(Writer& out, const std::vector<LabelRule>& rules) {
  out.varint(rules.size());
  for (const auto& rule : rules) {
    out.text(rule.label);
    out.put(static_cast<std::uint8_t>(rule.wanted));
    out.varint(rule.values.size());
    for (const auto& value : rule.values) out.text(value);
  }
}

std::vector<LabelRule> decode_rules(Reader& in) {
  std::vector<LabelRule> rules(in.count(3));
  for (auto& rule : rules) {
    rule.label = in.text();
    rule.wanted = in.get<std::uint8_t>() != 0;
    for (auto left = in.count(); left != 0 && in.ok(); --left) rule.values.emplace_back(in.text());
  }
  return rules;
}

}  // namespace

void encode_labels(Writer& out, const GroupLabels& labels) {
  out.varint(labels.size());
  for (const auto& bundle : labels) encode_rules(out, bundle);
}

GroupLabels decode_labels(Reader& in) {
  GroupLabels labels(in.count());
  for (auto& bundle : labels) bundle = decode_rules(in);
  return labels;
}

void CallOptions::encode(Writer& out) const {
  encode_resources(out, resources);
  out.put(placement.kind);
  out.put(placement.rank);
  out.text(placement.node);
  out.put(static_cast<std::uint8_t>(placement.soft));
  out.varint(placement.group);
  out.put(placement.group_owner);
  out.put(static_cast<std::int32_t>(placement.bundle));
  encode_rules(out, placement.labels);
  out.put(max_retries);
  out.text(name);
  out.put(static_cast<std::uint8_t>(detached));
}

CallOptions CallOptions::decode(Reader& in) {
  CallOptions options;
  options.resources = decode_resources(in);
  options.placement.kind = in.get<Placement::Kind>();
  options.placement.rank = in.get<Rank>();
  options.placement.node = in.text();
  options.placement.soft = in.get<std::uint8_t>() != 0;
  options.placement.group = in.varint();
  options.placement.group_owner = in.get<Rank>();
  options.placement.bundle = in.get<std::int32_t>();
  options.placement.labels = decode_rules(in);
  options.max_retries = in.get<std::int32_t>();
  options.name = in.text();
  options.detached = in.get<std::uint8_t>() != 0;
  if (options.placement.kind > Placement::Kind::group) in.fail();
  return options;
}

}  // namespace trireme::python
