#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/ids.hpp"
#include "trireme/detail/codec.hpp"

namespace trireme {

/// What a rank has and how it reaches the others. Can be returned by a task, so a program can ask every rank.
///
/// Units: bytes; cpus and NUMA nodes by the operating system's numbers.
struct Topology {
  struct Peer {
    Rank rank = kNoRank;
    std::string host, node, distance;
    std::string transport;  ///< backend, device and why
  };
  Rank rank = kNoRank;
  std::string host;
  std::string node;  ///< for Placement::on_node
  std::vector<int> cpus, numa_nodes;
  unsigned threads = 0;
  std::uint64_t memory_bytes = 0, arena_bytes = 0;
  std::vector<std::string> gpus;
  std::vector<Peer> peers;
  std::string text;  ///< the same for people
};

/// Of the calling rank. Errors: Exception unavailable without a Runtime.
Topology topology();

namespace detail {
template <>
struct Codec<Topology::Peer, void> {
  static void encode(Encoder& out, const Topology::Peer& p) {
    Codec<Rank>::encode(out, p.rank);
    for (const auto* text : {&p.host, &p.node, &p.distance, &p.transport}) Codec<std::string>::encode(out, *text);
  }
  static Topology::Peer decode(Decoder& in) {
    Topology::Peer p;
    p.rank = Codec<Rank>::decode(in);
    for (auto* text : {&p.host, &p.node, &p.distance, &p.transport}) *text = Codec<std::string>::decode(in);
    return p;
  }
};
template <>
struct Codec<Topology, void> {
  static void encode(Encoder& out, const Topology& t) {
    Codec<Rank>::encode(out, t.rank);
    for (const auto* text : {&t.host, &t.node, &t.text}) Codec<std::string>::encode(out, *text);
    Codec<std::vector<int>>::encode(out, t.cpus);
    Codec<std::vector<int>>::encode(out, t.numa_nodes);
    Codec<unsigned>::encode(out, t.threads);
    Codec<std::uint64_t>::encode(out, t.memory_bytes);
    Codec<std::uint64_t>::encode(out, t.arena_bytes);
    Codec<std::vector<std::string>>::encode(out, t.gpus);
    Codec<std::vector<Topology::Peer>>::encode(out, t.peers);
  }
  static Topology decode(Decoder& in) {
    Topology t;
    t.rank = Codec<Rank>::decode(in);
    for (auto* text : {&t.host, &t.node, &t.text}) *text = Codec<std::string>::decode(in);
    t.cpus = Codec<std::vector<int>>::decode(in);
    t.numa_nodes = Codec<std::vector<int>>::decode(in);
    t.threads = Codec<unsigned>::decode(in);
    t.memory_bytes = Codec<std::uint64_t>::decode(in);
    t.arena_bytes = Codec<std::uint64_t>::decode(in);
    t.gpus = Codec<std::vector<std::string>>::decode(in);
    t.peers = Codec<std::vector<Topology::Peer>>::decode(in);
    return t;
  }
};
}  // namespace detail

}  // namespace trireme
