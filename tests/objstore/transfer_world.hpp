#pragma once

#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "base/rng.hpp"
#include "objstore/transfer.hpp"
#include "transport/router.hpp"
#include "transport/sim/network.hpp"

namespace trireme::objstore {

/// Ranks with an arena, a store and a Transfer each, over the simulated network.
class TransferWorld {
 public:
  TransferWorld(transport::SimOptions sim, TransferOptions transfer, std::uint64_t arena_bytes)
      : network(std::move(sim)), transfer_options(transfer) {
    for (Rank r = 0; r < network.options().ranks; ++r) {
      nodes.push_back(std::make_unique<Node>(*this, r, arena_bytes));
      network.on_wake(r, [node = nodes.back().get()] { node->poll(); });
    }
  }
  ~TransferWorld() {
    // Reads under way must end before their pulls do.
    network.run_until_idle();
    for (auto& node : nodes) node->results.clear();
  }

  struct Node final : TransferEnv, transport::MessageHandler {
    Node(TransferWorld& the_world, Rank rank, std::uint64_t arena_bytes)
        : world(the_world), self(rank), router(rank, the_world.network.options().ranks) {
      ArenaOptions options;
      options.bytes = arena_bytes;
      options.huge_pages = false;  // a thousand small arenas
      options.warm_bytes_max = 1;
      arena = std::move(*Arena::create(options));
      store = std::make_unique<Store>(*arena, StoreOptions{});
      transfer = std::make_unique<Transfer>(rank, *store, *this, the_world.transfer_options);
      auto backend = the_world.network.make_backend(rank);
      TRIREME_CHECK(backend->expose(arena->memory(), arena->fd()).ok(), "expose");
      std::vector<Rank> peers;
      for (Rank r = 0; r < the_world.network.options().ranks; ++r)
        if (r != rank) peers.push_back(r);
      router.add_backend(std::move(backend), peers);
    }

    void get(Rank from, std::uint64_t offset, std::span<std::byte> into, transport::GetDone done) override {
      router.get(from, offset, into, std::move(done));
    }
    void send(Rank to, BytesView message) override {
      router.send(to, message);
      if (to == self) world.network.schedule(self, world.network.now(), [this] { poll(); });
    }
    bool alive(Rank rank) const override { return rank == self || router.alive(rank); }
    void post(std::function<void()> step) override {
      world.network.schedule(self, world.network.now(), [this, step = std::move(step)] {
        step();
        router.flush();
      });
    }

    Status on_message(Rank from, BytesView message) override { return transfer->on_message(from, message); }
    void on_lost(Rank peer, std::string_view) override { transfer->on_lost(peer); }
    void poll() {
      while (router.poll(*this) > 0) {
      }
      router.flush();
    }

    void pull(ObjectId id, const Source& source, bool held = false) {
      ++asked[id];
      transfer->pull(id, source, held, [this, id](Result<Buffer> result) {
        finished_at = world.network.now();
        ++answered[id];
        if (result) {
          results.insert_or_assign(id, std::move(*result));
        } else {
          errors[id] = result.error().code;
        }
      });
      router.flush();
    }

    TransferWorld& world;
    const Rank self;
    transport::Router router;
    std::unique_ptr<Arena> arena;
    std::unique_ptr<Store> store;
    std::unique_ptr<Transfer> transfer;
    std::map<ObjectId, int> asked, answered;
    std::map<ObjectId, Buffer> results;
    std::map<ObjectId, Errc> errors;
    Nanos finished_at = 0;
  };

  static std::vector<std::byte> content(ObjectId id, std::uint64_t size) {
    std::vector<std::byte> bytes(size);
    Rng rng(id.index * 1000 + id.owner);
    std::uint64_t at = 0;
    for (; at + 8 <= size; at += 8) {
      const auto word = rng.next();
      std::memcpy(bytes.data() + at, &word, 8);
    }
    for (; at < size; ++at) bytes[at] = static_cast<std::byte>(at);
    return bytes;
  }
  static bool right(const Buffer& buffer, ObjectId id, std::uint64_t size) {
    const auto expected = content(id, size);
    return buffer.size() == size && (size == 0 || std::memcmp(buffer.data(), expected.data(), size) == 0);
  }

  /// A primary copy in `holder`'s arena.
  Source put(Rank holder, ObjectId id, std::uint64_t size) {
    const auto buffer = nodes[holder]->store->put(id, content(id, size)).value();
    return {holder, buffer.offset(), size, buffer.generation()};
  }
  void kill(Rank rank) { network.kill(rank); }
  /// Nothing is left over at this rank: no pull, no follower's pin, no plan.
  bool clean(Rank rank) const {
    const auto& t = *nodes[rank]->transfer;
    return t.puller().pulling() == 0 && t.puller().serving() == 0 && t.puller().idle() && t.planner().objects() == 0;
  }

  transport::SimNetwork network;
  TransferOptions transfer_options;
  std::vector<std::unique_ptr<Node>> nodes;
};

}  // namespace trireme::objstore
