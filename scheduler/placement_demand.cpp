#include <algorithm>

#include <fmt/format.h>

#include "scheduler/placement.hpp"

namespace trireme::scheduler {
namespace {

// A demand's labels, values and hints are short lists that a person wrote; more is an attack or a bug.
constexpr std::uint64_t kListMax = 4096;

bool list_ok(Reader& in, std::uint64_t count) {
  if (count > kListMax) in.fail();
  return in.ok();
}

void encode_labels(Writer& out, const Labels& labels) {
  out.varint(labels.size());
  for (const auto& [key, value] : labels) {
    out.text(key);
    out.text(value);
  }
}

Labels decode_labels(Reader& in) {
  Labels labels;
  const auto count = in.count(2);
  for (std::uint64_t i = 0; list_ok(in, count) && i < count; ++i) {
    std::string key(in.text());
    labels[std::move(key)] = std::string(in.text());
  }
  return labels;
}

Rank decode_rank(Reader& in) {
  const auto value = in.varint();
  if (value > kNoRank) in.fail();
  return in.ok() ? static_cast<Rank>(value) : kNoRank;
}

}  // namespace

bool LabelRule::holds(const Labels& labels) const {
  const auto at = labels.find(key);
  const auto listed = [&] { return std::find(values.begin(), values.end(), at->second) != values.end(); };
  switch (op) {
    case Op::in:
      return at != labels.end() && listed();
    case Op::not_in:
      return at == labels.end() || !listed();
    case Op::exists:
      return at != labels.end();
    case Op::does_not_exist:
      return at == labels.end();
  }
  return false;
}

std::string LabelRule::text() const {
  switch (op) {
    case Op::in:
      return fmt::format("{} in ({})", key, fmt::join(values, ", "));
    case Op::not_in:
      return fmt::format("{} not in ({})", key, fmt::join(values, ", "));
    case Op::exists:
      return fmt::format("{} exists", key);
    case Op::does_not_exist:
      return fmt::format("{} does not exist", key);
  }
  return key;
}

std::string Demand::text() const {
  std::string out = resources.text();
  if (strategy == Strategy::spread) out += " spread";
  if (strategy == Strategy::node_affinity)
    out += affinity_rank != kNoRank ? fmt::format(" on rank {}", affinity_rank)
                                    : fmt::format(" on node {}", affinity_node);
  if (strategy == Strategy::placement_group) {
    out += fmt::format(" in placement group {}:{}", group.owner, group.index);
    if (bundle >= 0) out += fmt::format(" bundle {}", bundle);
  }
  for (const auto& rule : labels) out += fmt::format(" with {}", rule.text());
  return out;
}

void Demand::encode(Writer& out) const {
  resources.encode(out);
  out.put(strategy);
  out.varint(hints.size());
  for (const auto& hint : hints) {
    out.varint(hint.rank);
    out.varint(hint.bytes);
  }
  if (strategy == Strategy::node_affinity) {
    out.varint(affinity_rank);
    out.text(affinity_node);
    out.put(static_cast<std::uint8_t>(soft));
  }
  if (strategy == Strategy::placement_group) {
    out.id(group);
    out.put(bundle);
  }
  out.varint(labels.size());
  for (const auto& rule : labels) {
    out.text(rule.key);
    out.put(rule.op);
    out.varint(rule.values.size());
    for (const auto& value : rule.values) out.text(value);
  }
}

Demand Demand::decode(Reader& in) {
  Demand demand;
  demand.resources = Resources::decode(in);
  if (!demand.resources.non_negative()) in.fail();
  demand.strategy = in.get<Strategy>();
  if (demand.strategy > Strategy::placement_group) in.fail();
  const auto hints = in.count(2);
  for (std::uint64_t i = 0; list_ok(in, hints) && i < hints; ++i) {
    const auto rank = decode_rank(in);
    demand.hints.push_back({rank, in.varint()});
  }
  if (demand.strategy == Strategy::node_affinity) {
    demand.affinity_rank = decode_rank(in);
    demand.affinity_node = std::string(in.text());
    const auto soft = in.get<std::uint8_t>();
    if (soft > 1) in.fail();
    demand.soft = soft == 1;
  }
  if (demand.strategy == Strategy::placement_group) {
    demand.group = in.id();
    demand.bundle = in.get<std::int32_t>();
    if (demand.bundle < -1) in.fail();
  }
  const auto rules = in.count(3);
  for (std::uint64_t i = 0; list_ok(in, rules) && i < rules; ++i) {
    LabelRule rule;
    rule.key = std::string(in.text());
    rule.op = in.get<LabelRule::Op>();
    if (rule.op > LabelRule::Op::does_not_exist) in.fail();
    const auto values = in.count();
    for (std::uint64_t v = 0; list_ok(in, values) && v < values; ++v) rule.values.emplace_back(in.text());
    demand.labels.push_back(std::move(rule));
  }
  return in.ok() ? demand : Demand{};
}

void RankInfo::encode(Writer& out) const {
  total.encode(out);
  out.text(node_id);
  encode_labels(out, labels);
}

RankInfo RankInfo::decode(Reader& in) {
  RankInfo info;
  info.total = Resources::decode(in);
  info.node_id = std::string(in.text());
  info.labels = decode_labels(in);
  return in.ok() ? info : RankInfo{};
}

void GroupPlacement::encode(Writer& out) const {
  out.varint(bundles.size());
  for (std::size_t i = 0; i < bundles.size(); ++i) {
    bundles[i].encode(out);
    out.varint(ranks[i]);
  }
}

GroupPlacement GroupPlacement::decode(Reader& in) {
  GroupPlacement placement;
  const auto count = in.count(5);
  for (std::uint64_t i = 0; in.ok() && i < count; ++i) {
    placement.bundles.push_back(Resources::decode(in));
    placement.ranks.push_back(decode_rank(in));
  }
  return in.ok() ? placement : GroupPlacement{};
}

}  // namespace trireme::scheduler
