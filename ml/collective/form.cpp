#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>

#include "ml/collective/fabric.hpp"
#include "transport/bootstrap.hpp"

namespace trireme::ml {
namespace {

constexpr std::uint32_t kProtocol = 3;  // of the three rounds and the segment

using Cores = std::array<std::uint64_t, 16>;  // a bit each

struct Offer {
  std::int32_t segment_fd = -1;
  std::uint64_t nonce = 0;
  std::int32_t bell_fd = -1;
  Bytes address;
};

/// The cores that this process may run on; all, where there are more than the mask holds.
Cores usable_cores() {
  cpu_set_t set;
  Cores cores;
  cores.fill(~std::uint64_t{0});
  static_assert(sizeof set == sizeof cores);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) std::memcpy(cores.data(), &set, sizeof set);
  return cores;
}

/// As text, which the others read: an unreadable one is everybody's error then.
std::string wanted_thresholds(const CommunicatorOptions& options) {
  if (options.thresholds) return to_string(*options.thresholds);
  const char* text = std::getenv("TRIREME_COLLECTIVES");
  return text == nullptr ? "" : text;
}

Bytes hello(const Fabric& fabric, const transport::Member& self, const CommunicatorOptions& options) {
  Bytes out;
  Writer writer(out);
  writer.put(kProtocol);
  writer.put(fabric.rank);
  writer.put(fabric.size);
  writer.text(options.name);
  writer.put(static_cast<std::uint8_t>(options.fixed_order));
  writer.text(self.node_id);
  writer.text(self.host);
  writer.put(self.pid);
  for (const auto word : usable_cores()) writer.put(word);
  writer.text(fabric.rank == 0 ? wanted_thresholds(options) : "");
  return out;
}

Status read_hellos(Fabric& fabric, const std::vector<Bytes>& hellos, const CommunicatorOptions& options) {
  std::map<std::string, std::uint32_t> known;
  fabric.places.resize(fabric.size);
  std::vector<Cores> cores(fabric.size);
  for (std::uint32_t member = 0; member < fabric.size; ++member) {
    Reader reader(hellos[member]);
    const auto protocol = reader.get<std::uint32_t>();
    const auto rank = reader.get<std::uint32_t>();
    const auto size = reader.get<std::uint32_t>();
    const std::string name(reader.text());
    const bool fixed = reader.get<std::uint8_t>() != 0;
    const std::string node(reader.text());
    Place& place = fabric.places[member];
    place.host = reader.text();
    place.pid = reader.get<std::int32_t>();
    for (auto& word : cores[member]) word = reader.get<std::uint64_t>();
    const std::string thresholds(reader.text());
    if (!reader.done() || protocol != kProtocol)
      return make_error(Errc::build_mismatch, fmt::format("member {} runs another version of Trireme", member));
    if (rank != member || size != fabric.size || name != options.name || fixed != options.fixed_order)
      return make_error(
          Errc::invalid_argument,
          fmt::format("member {} wants to be member {} of {} in a group named '{}' (fixed_order {}), this "
                      "one is member {} of {} in '{}' (fixed_order {})",
                      member, rank, size, name, fixed, fabric.rank, fabric.size, options.name, options.fixed_order));
    if (member == 0) {
      auto parsed = parse_thresholds(thresholds);
      if (!parsed.ok())
        return make_error(Errc::invalid_argument,
                          fmt::format("TRIREME_COLLECTIVES of member 0: {}", parsed.error().message));
      fabric.thresholds = *parsed;
    }
    const auto [entry, fresh] = known.emplace(node, fabric.nodes.size());
    if (fresh) fabric.nodes.emplace_back();
    place.node = entry->second;
    place.local = static_cast<std::uint32_t>(fabric.nodes[place.node].size());
    fabric.nodes[place.node].push_back(member);
  }
  fabric.node = fabric.places[fabric.rank].node;
  fabric.local = fabric.places[fabric.rank].local;
  fabric.locals = static_cast<std::uint32_t>(fabric.nodes[fabric.node].size());
  // A launcher binds each member to cores of its own: only together they tell how many there are.
  Cores together{};
  for (const auto member : fabric.nodes[fabric.node])
    for (std::size_t i = 0; i < together.size(); ++i) together[i] |= cores[member][i];
  fabric.cores = 0;
  for (const auto word : together) fabric.cores += static_cast<std::uint32_t>(std::popcount(word));
  return {};
}

Result<Offer> make_offer(Fabric& fabric) {
  Offer offer;
  if (fabric.is_leader()) {
    std::random_device random;
    offer.nonce = std::uint64_t{random()} << 32U | random();
    auto segment = Segment::create(fabric.locals, offer.nonce);
    if (!segment) return segment.error();
    fabric.segment = std::move(*segment);
    offer.segment_fd = fabric.segment->fd();
  }
  if (!fabric.one_node()) {
    auto net = Net::create(fabric.rank, fabric.size, fabric.mailbox);
    if (!net) return net.error();
    fabric.net = std::move(*net);
    offer.address = fabric.net->address();
    // A sleeping member listens to UCX too, so it needs a bell that poll() understands.
    int ends[2];
    if (::pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return make_error(Errc::io, "pipe2 for a group's doorbell failed");
    fabric.bell_read = transport::Fd(ends[0]);
    fabric.bell_write = transport::Fd(ends[1]);
    offer.bell_fd = ends[0];
  }
  return offer;
}

Status accept(Fabric& fabric, const std::vector<Bytes>& offers) {
  std::vector<Segment::Peer> peers(fabric.locals);
  for (std::uint32_t member = 0; member < fabric.size; ++member) {
    Reader reader(offers[member]);
    if (const auto text = reader.text(); !text.empty())
      return make_error(Errc::unavailable, fmt::format("member {}: {}", member, text));
    const auto segment_fd = reader.get<std::int32_t>();
    const auto nonce = reader.get<std::uint64_t>();
    const auto bell_fd = reader.get<std::int32_t>();
    const auto address = reader.blob();
    if (!reader.done()) return make_error(Errc::malformed, fmt::format("member {} made an unreadable offer", member));
    const Place& place = fabric.places[member];
    if (place.node != fabric.node) {
      if (auto added = fabric.net->add(member, address); !added.ok()) return added;
      continue;
    }
    peers[place.local] = {place.pid, bell_fd};
    if (place.local == 0 && !fabric.is_leader()) {
      auto segment = Segment::open(fabric.locals, nonce, place.pid, segment_fd);
      if (!segment) return segment.error();
      fabric.segment = std::move(*segment);
    }
  }
  if (auto opened = fabric.segment->open_bells(peers); !opened.ok()) return opened;
  fabric.links = std::make_unique<NodeLinks>(*fabric.segment, fabric.nodes[fabric.node], fabric.local, fabric.mailbox);
  return {};
}

/// The members on other nodes that this one connects to at once: all in a small group; in a large one those that
/// leaders meet in rings and by doubling. The others connect when they first talk.
std::vector<std::uint32_t> partners(const Fabric& fabric) {
  constexpr std::uint32_t kAll = 16;
  std::vector<std::uint32_t> found;
  const auto n = static_cast<std::uint32_t>(fabric.nodes.size());
  for (std::uint32_t member = 0; member < fabric.size; ++member) {
    const Place& place = fabric.places[member];
    if (place.node == fabric.node) continue;
    const bool neighbours = (place.node + 1) % n == fabric.node || (fabric.node + 1) % n == place.node;
    const bool doubling = std::has_single_bit(place.node ^ fabric.node);
    if (fabric.size <= kAll || (place.local == 0 && fabric.is_leader() && (neighbours || doubling)))
      found.push_back(member);
  }
  return found;
}

Bytes encode(const Result<Offer>& offer) {
  Bytes out;
  Writer writer(out);
  writer.text(offer.ok() ? "" : offer.error().message);
  if (!offer.ok()) return out;
  const Offer& good = offer.value();
  writer.put(good.segment_fd);
  writer.put(good.nonce);
  writer.put(good.bell_fd);
  writer.blob(good.address);
  return out;
}

}  // namespace

Status form(Fabric& fabric, const Exchange& exchange, const CommunicatorOptions& options) {
  const auto everyone = [&](const Bytes& mine, std::string_view round) -> Result<std::vector<Bytes>> {
    auto all = exchange(mine, options.timeout_ns);
    if (!all.ok())
      return make_error(all.error().code,
                        fmt::format("making group '{}' ({}): {}", options.name, round, all.error().message));
    if (all.value().size() != fabric.size)
      return make_error(Errc::invalid_argument,
                        fmt::format("making group '{}' ({}): the exchange returned {} parts for {} members",
                                    options.name, round, all.value().size(), fabric.size));
    return all;
  };
  auto hellos = everyone(hello(fabric, transport::local_member(), options), "who is there");
  if (!hellos.ok()) return hellos.error();
  // From here on a member that fails still takes part in the rounds, so that the others learn why.
  Status read = read_hellos(fabric, *hellos, options);
  if (!read.ok()) return read;  // all read the same and come to the same end
  auto offers = everyone(encode(make_offer(fabric)), "addresses");
  if (!offers.ok()) return offers.error();
  Status accepted = accept(fabric, *offers);
  if (accepted.ok() && fabric.net) accepted = fabric.net->greet(partners(fabric), options.timeout_ns);
  Bytes text;
  if (!accepted.ok()) Writer(text).text(accepted.error().message);
  auto outcomes = everyone(text, "connected");
  if (!outcomes.ok()) return outcomes.error();
  if (fabric.segment) fabric.segment->forget_fd();
  if (!accepted.ok()) return accepted;
  for (std::uint32_t member = 0; member < fabric.size; ++member)
    if (!(*outcomes)[member].empty())
      return make_error(Errc::unavailable,
                        fmt::format("member {} could not join: {}", member, Reader((*outcomes)[member]).text()));
  return {};
}

}  // namespace trireme::ml
