#include "tests/sim/world.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/current.hpp"
#include "tests/sim/errand.hpp"
#include "tests/sim/inquiry.hpp"

namespace trireme::sim {

namespace {

/// Arenas are expensive to make and, in the end of each world, empty: they go from one to the next.
std::vector<std::unique_ptr<objstore::Arena>>& spare_arenas() {
  static std::vector<std::unique_ptr<objstore::Arena>> arenas;
  return arenas;
}

std::unique_ptr<objstore::Arena> make_arena(std::uint64_t bytes) {
  auto& spare = spare_arenas();
  const auto fits =
      std::find_if(spare.begin(), spare.end(), [&](const auto& arena) { return arena->bytes() == bytes; });
  if (fits != spare.end()) {
    auto arena = std::move(*fits);
    spare.erase(fits);
    return arena;
  }
  objstore::ArenaOptions options;
  options.bytes = bytes;
  options.huge_pages = false;
  auto arena = objstore::Arena::create(options);
  TRIREME_CHECK(arena.ok(), "an arena");
  return std::move(*arena);
}

/// Ranks that were killed: their objects stay as they were, for nobody takes a process apart that died.
std::vector<std::unique_ptr<World::Node>>& graveyard() {
  static auto* nodes = new std::vector<std::unique_ptr<World::Node>>;
  return *nodes;
}

}  // namespace

WorldOptions WorldOptions::of_seed(std::uint64_t seed) {
  Rng rng(seed ^ 0x776f726c64ULL);
  WorldOptions o;
  o.network.ranks = static_cast<std::uint32_t>(rng.chance(0.7) ? 2 + rng.below(3) : 2 + rng.below(7));
  o.network.seed = seed;
  o.network.latency = static_cast<Nanos>(500 + rng.below(20'000));
  o.network.jitter = static_cast<Nanos>(rng.below(20'000));
  o.network.reorder = !rng.chance(0.1);
  o.network.straggle_share = rng.chance(0.5) ? 0.02 : 0.3;
  o.network.straggle = static_cast<Nanos>(1 + rng.below(500'000));
  o.network.frame_bytes_max = rng.chance(0.3) ? 1U << 10U : 8U << 10U;
  o.network.credit_bytes = rng.chance(0.3) ? 16U << 10U : 1U << 20U;
  o.network.detect_max = static_cast<Nanos>(10'000 + rng.below(2'000'000));
  o.network.survive_share = rng.uniform();
  const auto nodes = rng.chance(0.5) ? o.network.ranks : 1 + rng.below(o.network.ranks);
  for (Rank r = 0; r < o.network.ranks; ++r)
    o.node_of.push_back(nodes == o.network.ranks ? r : static_cast<std::uint32_t>(rng.below(nodes)));
  o.cores = static_cast<std::uint32_t>(1 + rng.below(3));
  o.late_posts = rng.chance(0.5) ? 0.3 : 0;
  o.task_max = static_cast<Nanos>(1'000 + rng.below(100'000));
  o.slots = static_cast<double>(1 + rng.below(2));
  if (rng.chance(0.5)) {
    // So that even the objects of these programs are cut, planned and striped.
    o.transfer.chunk_bytes = 16U << 10U;
    o.transfer.direct_bytes_max = 12U << 10U;
    o.transfer.striped_bytes_min = 48U << 10U;
  }
  return o;
}

void WorldOptions::add_seats(std::uint64_t seed) {
  Rng rng(seed ^ 0x7365617473ULL);
  seats = static_cast<std::uint32_t>(1 + rng.below(3));
  for (std::uint32_t i = 0; i < seats; ++i) node_of.push_back(100 + i);
  network.ranks += seats;
}

std::string WorldOptions::text() const {
  std::string nodes;
  for (const auto node : node_of) nodes += fmt::format("{}{}", nodes.empty() ? "" : ",", node);
  return fmt::format(
      "{} ranks, {} of them late, on nodes {}, {} cores, latency {} ns + {} ns, straggle {} of up to {} ns, reorder "
      "{}, frames {} B, "
      "credit {} B, late posts {}, tasks up to {} ns, {} slots, {} B chunks",
      network.ranks, seats, nodes, cores, network.latency, network.jitter, network.straggle_share, network.straggle,
      network.reorder, network.frame_bytes_max, network.credit_bytes, late_posts, task_max, slots,
      transfer.chunk_bytes);
}

World::World(WorldOptions given, std::uint64_t seed)
    : options(std::move(given)), network(options.network), seed_(seed) {
  const auto ranks = options.network.ranks;
  nodes.resize(ranks);
  core::World known;
  if (options.seats > 0) {
    known.seats.assign(ranks, core::Seat::empty);
    std::fill_n(known.seats.begin(), ranks - options.seats, core::Seat::taken);
  }
  for (Rank r = 0; r < ranks - options.seats; ++r) make_node(r, known);
  for (Rank r = 0; r < ranks - options.seats; ++r) {
    auto* host = nodes[r]->host.get();
    network.on_wake(r, [host] { host->poll(); });
    network.schedule(r, static_cast<Nanos>(network.rng().below(5'000)), [host] { host->begin(); });
  }
}

scheduler::RankInfo World::info_of(Rank rank) const {
  scheduler::RankInfo info;
  info.node_id = fmt::format("node{}", options.node_of[rank]);
  info.total.set_cpu_units(static_cast<std::int64_t>(options.cores) * scheduler::Resources::kUnit);
  TRIREME_CHECK(info.total.set("slot", options.slots).ok(), "slots");
  TRIREME_CHECK(info.total.set("seat", 4).ok(), "seats");
  TRIREME_CHECK(info.total.set("desk", 2).ok(), "desks");
  // Enough for all that may hold some at a time.
  if (rank + options.seats >= options.network.ranks) {
    TRIREME_CHECK(info.total.set("late", 1'000).ok(), "late");
    info.labels["late"] = "yes";
  }
  return info;
}

void World::make_node(Rank r, const core::World& known) {
  const auto ranks = options.network.ranks;
  core::CoreOptions mine;
  mine.seed = seed_;
  mine.world = known;
  for (Rank rank = 0; rank < ranks; ++rank) mine.ranks.push_back(info_of(rank));
  auto node = std::make_unique<Node>();
  node->arena = make_arena(options.arena_bytes);
  node->store = std::make_unique<objstore::Store>(*node->arena, objstore::StoreOptions{});
  node->router = std::make_unique<transport::Router>(r, ranks);
  auto backend = network.make_backend(r);
  auto* backend_used = backend.get();
  TRIREME_CHECK(backend->expose(node->arena->memory(), node->arena->fd()).ok(), "expose");
  std::vector<Rank> peers;
  for (Rank p = 0; p < ranks; ++p)
    if (p != r && (known.seats.empty() || known.seats[p] == core::Seat::taken)) peers.push_back(p);
  node->router->add_backend(std::move(backend), peers);
  SimHost::Options host_options;
  host_options.cores = options.cores;
  host_options.late_posts = options.late_posts;
  host_options.task_max = options.task_max;
  node->host = std::make_unique<SimHost>(network, r, host_options, seed_ * 31 + r);
  mine.host_name = mine.ranks[r].node_id;
  const std::vector<std::uint32_t> levels[] = {options.node_of};
  mine.victims = scheduler::Victims::from_levels(r, ranks, levels);
  node->core =
      std::make_unique<core::RankCore>(*node->host, *node->router, network, node->store.get(), std::move(mine));
  node->core->connect = [router = node->router.get(), backend_used](Rank rank,
                                                                    BytesView member) -> Result<scheduler::RankInfo> {
    Reader in(member);
    auto info = scheduler::RankInfo::decode(in);
    if (!in.done()) return make_error(Errc::malformed, "no rank's resources");
    router->admit(rank, *backend_used);
    return info;
  };
  node->fetcher = std::make_unique<core::TransferFetcher>(node->core->context(), options.transfer);
  auto* fetcher = node->fetcher.get();
  node->core->refs().fetcher = fetcher;
  node->core->on_transfer = [fetcher](Rank from, BytesView message) { return fetcher->on_message(from, message); };
  node->core->on_transfer_lost = [fetcher](Rank dead) { fetcher->on_lost(dead); };
  node->clerk = std::make_unique<Clerk>(*this, r, seed_ * 37 + r);
  enable_cancelling(*node->core, *node->clerk);
  serve_inquiries(*this, r, *node->core);
  node->host->doomed = doomed_.contains(r);
  node->host->core = node->core.get();
  node->host->router = node->router.get();
  node->host->on_traffic = [this](Rank, BytesView message) {
    if (!message.empty() && static_cast<std::size_t>(message[0]) < messages.size())
      ++messages[static_cast<std::size_t>(message[0])];
  };
  node->host->memory_of = [this, r](Rank peer) -> BytesView {
    if (peer >= size() || peer == r || options.node_of[peer] != options.node_of[r]) return {};
    return nodes[peer]->arena->memory();
  };
  node->host->on_fatal = [this, r](const std::string& why) {
    if (!nodes[r]->dead) failures.push_back(fmt::format("rank {} gave up: {}", r, why));
    nodes[r]->host->dead = true;
  };
  nodes[r] = std::move(node);
}

void World::join(Rank rank) {
  at_the_door_.push_back(rank);
  next_join();
}

void World::next_join() {
  if (joining_ || at_the_door_.empty()) return;
  joining_ = true;
  const Rank rank = at_the_door_.front();
  at_the_door_.pop_front();
  Bytes member;
  Writer out(member);
  info_of(rank).encode(out);
  core::World known;
  // Rank 0 may tell others of the rank before the rank hears what rank 0 says of them.
  nodes[0]->host->step([&] {
    nodes[0]->core->membership().admit(rank, member, [this, rank](const Status& status) {
      auto notes = nodes[0]->core->membership().world().notes;
      network.schedule(network.now() + static_cast<Nanos>(network.rng().below(50'000)),
                       [this, rank, ok = status.ok(), notes = std::move(notes)] {
                         joining_ = false;
                         if (ok)
                           begin(rank, notes);
                         else
                           kill(rank);
                         next_join();
                       });
    });
    known = nodes[0]->core->membership().world();
  });
  make_node(rank, known);
  nodes[rank]->begun = false;
}

void World::begin(Rank rank, const std::vector<Bytes>& notes) {
  auto& node = *nodes[rank];
  if (node.dead) return;
  for (const auto& note : notes) node.core->on_note(note);
  ++joins;
  node.begun = true;
  auto* host = node.host.get();
  network.on_wake(rank, [host] { host->poll(); });
  host->begin();
  host->poll();
}

World::Node::Node() = default;
World::Node::~Node() = default;

World::~World() {
  for (auto& node : nodes) {
    if (node == nullptr) continue;
    if (node->dead || node->host->blocked() != 0) {
      // Its stacks and its arena go, or a process ran out of descriptors and maps after some ten thousand worlds.
      Strand::drop_all(node->core.get());
      node->arena.reset();
      graveyard().push_back(std::move(node));
      continue;
    }
    node->clerk.reset();
    node->fetcher.reset();
    node->core.reset();
    node->router.reset();
    node->store.reset();
    if (node->arena->stats().blocks == 0) spare_arenas().push_back(std::move(node->arena));
  }
}

void World::doom(Rank rank) {
  doomed_.insert(rank);
  if (nodes[rank] != nullptr) nodes[rank]->host->doomed = true;
}

void World::kill(Rank rank) {
  if (!alive(rank)) return;
  ++deaths;
  nodes[rank]->dead = true;
  nodes[rank]->host->dead = true;
  network.kill(rank);
  // The door sees a rank go that has not begun.
  if (!nodes[rank]->begun)
    network.schedule(0, network.now() + static_cast<Nanos>(network.rng().below(100'000)), [this, rank] {
      nodes[0]->host->step([&] { nodes[0]->core->membership().on_lost(rank, "it closed its connection"); });
    });
}

bool World::settle(std::uint64_t events_max) { return network.run_until_idle(events_max); }

std::string World::leaks() {
  std::string text;
  for (Rank r = 0; r < size(); ++r) {
    if (!alive(r)) continue;
    auto& node = *nodes[r];
    auto& core = *node.core;
    const auto count = [&](std::size_t left, const char* what) {
      if (left != 0) text += fmt::format("  rank {}: {} {}\n", r, left, what);
    };
    count(core.refs().entries(), "entries of references");
    count(core.refs().held(), "held results");
    count(core.refs().void_loans(), "objects that were never lent");
    if (core.refs().entries() + core.refs().held() != 0) text += core.refs().dump();
    count(core.tasks().pending(), "pending tasks or calls");
    text += core.tasks().dump();
    count(core.tasks().foreign(), "tasks of other ranks");
    count(core.actors().hosted(), "hosted actors");
    count(core.actors().early(), "actors that are called and not created");
    count(core.names().known(), "names of actors");
    count(core.names().waiting(), "questions for names");
    count(core.cancels().open(), "questions for cancelled calls");
    count(core.control().asked(), "questions without an answer");
    count(core.control().owed(), "answers that others wait for");
    count(core.groups().groups(), "placement groups");
    count(node.store->stats().objects, "objects in the store");
    count(node.store->stats().dropped_pinned, "objects dropped, yet pinned");
    count(node.arena->stats().blocks, "blocks of the arena");
    count(node.host->blocked(), "threads that wait");
    count(node.clerk->jobs(), "errands");
    count(node.host->idle() ? 0 : 1, "host that is not idle");
    if (core.pool().available() != core.pool().total())
      text += fmt::format("  rank {}: resources {} of {} are free\n", r, core.pool().available().text(),
                          core.pool().total().text());
    // What one rank believes of another is what is there, once all is quiet.
    for (Rank p = 0; p < size(); ++p) {
      if (p == r || !alive(p) || !core.cluster().alive(p)) continue;
      const auto& there = nodes[p]->core->pool().available();
      if (const auto believed = core.cluster().available(p); believed != there)
        text += fmt::format("  rank {}: believes that {} are free on rank {}, in truth {}\n", r, believed.text(), p,
                            there.text());
    }
    if (core.next_deadline() != kForever) text += fmt::format("  rank {}: a timer is set\n", r);
    for (Rank p = 0; p < size(); ++p)
      if (alive(p)) count(node.router->backlog(p), fmt::format("bytes wait for credit towards rank {}", p).c_str());
    const auto& transfer = node.fetcher->transfer();
    count(node.fetcher->idle() ? 0 : 1, "transfer that is not idle");
    count(transfer.puller().pulling(), "pulls");
    count(transfer.puller().serving(), "copies that others follow");
    count(transfer.planner().objects(), "broadcast plans");
  }
  return text;
}

std::string World::traffic() const {
  std::string text;
  for (std::size_t type = 0; type < messages.size(); ++type)
    if (messages[type] != 0) text += fmt::format("{}{}x{}", text.empty() ? "" : " ", type, messages[type]);
  return text;
}

std::string World::shut_down() {
  bool done = false;
  nodes[0]->host->step([&] { nodes[0]->core->shut_down([&] { done = true; }); });
  if (!settle(100'000)) return "the job's end does not settle";
  if (!done) return "rank 0 waits for ranks that do not leave";
  for (auto& node : nodes) {
    if (node == nullptr || node->dead) continue;
    node->host->step([&] { node->core->actors().shut_down(); });
  }
  return settle(100'000) ? "" : "after the job's end something still happens";
}

}  // namespace trireme::sim
