#include "core/session.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <latch>
#include <mutex>

#include "base/log.hpp"
#include "transport/ucx/backend.hpp"

namespace trireme::core {

namespace {

/// TRIREME_NODE_ID and Slurm's node names split one machine; its boot id does not.
std::string machine_of(const transport::Member& member) {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  return file >> id ? id : member.host;
}

}  // namespace

Result<std::unique_ptr<Session>> Session::start(transport::Bootstrap& bootstrap, const RuntimeOptions& options,
                                                const std::function<void(Session&)>& prepare) {
  std::unique_ptr<Session> session(new Session);
  if (auto status = session->join(bootstrap, options, prepare); !status.ok()) return status.error();
  return session;
}

Status Session::join(transport::Bootstrap& bootstrap, const RuntimeOptions& options,
                     const std::function<void(Session&)>& prepare) {
  const auto self = bootstrap.rank();
  const auto size = bootstrap.size() + bootstrap.seats();
  members_.resize(size);
  places_.resize(size);
  set_log_rank(self);
  // Before the first exchange, which fails when the launcher is gone already.
  const bool to_watch = bootstrap.name() == "pmix" && !launcher_is_watched();
  if (const auto launcher = to_watch ? find_launcher() : std::nullopt)
    launcher_ = std::make_unique<LauncherWatch>(*launcher);

  // First round: who is where, so that the arena and the transports fit.
  auto me = transport::local_member();
  me.rank = self;
  auto whole = scheduler::discover_topology();
  if (!whole) return whole.error();
  whole_ = std::move(*whole);
  // By machine, not by node id: ranks that were forced apart still share its cores.
  me.blobs.emplace_back("place", scheduler::Place{me.host + "/" + machine_of(me), whole_.cpus()}.encode());
  auto first = bootstrap.all_gather(me.encode());
  if (!first) return first.error();
  if (auto status = hear(*first); !status.ok()) return status;
  if (auto status = hear_places(*first); !status.ok()) return status;
  std::vector<Rank> local, remote;
  for (const auto& member : members_) {
    if (member.rank == kNoRank || member.rank == self) continue;
    (member.node_id == me.node_id ? local : remote).push_back(member.rank);
  }
  if (bootstrap.late() && !local.empty())
    return make_error(Errc::invalid_argument,
                      fmt::format("a rank that joins late needs a node of its own, and rank {} is on node {} as well: "
                                  "set TRIREME_NODE_ID",
                                  local.front(), me.node_id));
  mine_ = scheduler::divide(whole_, places_, self);
  const unsigned sharers = mine_.share_count;
  const unsigned threads = options.threads != 0 ? options.threads : mine_.threads();

  objstore::ArenaOptions arena_options;
  arena_options.bytes = options.arena_bytes;
  arena_options.ranks_on_node = sharers;
  auto arena = objstore::Arena::create(arena_options);
  if (!arena) return arena.error();
  arena_ = std::move(*arena);
  objstore::StoreOptions store_options;
  store_options.on_waiting = [this] { post(host_, [this] { memory_watch_->begin(); }); };
  store_ = std::make_unique<objstore::Store>(*arena_, std::move(store_options));

  // Second round: addresses and resources.
  std::unique_ptr<transport::ShmBackend> shm;
  std::unique_ptr<transport::Backend> ucx;
  // Of a late rank the others have not heard the place.
  if (!bootstrap.late()) me.blobs.clear();
  if (!local.empty()) {
    auto made = transport::ShmBackend::create(self);
    if (!made) return made.error();
    shm = std::move(*made);
    if (auto status = shm->expose(arena_->memory(), arena_->fd()); !status.ok()) return status;
    me.blobs.emplace_back("shm", shm->address());
  }
  if (!remote.empty() || bootstrap.seats() > 0) {
    auto made = transport::make_ucx_backend(self, size);
    if (!made) return made.error();
    ucx = std::move(*made);
    if (auto status = ucx->expose(arena_->memory(), arena_->fd()); !status.ok()) return status;
    me.blobs.emplace_back("ucx", ucx->address());
  }
  scheduler::RankInfo info;
  info.node_id = me.node_id;
  info.labels = options.labels;
  info.labels["host"] = me.host;
  info.total.set_cpu_units(static_cast<std::int64_t>(threads) * scheduler::Resources::kUnit);
  info.total.set_memory_bytes(static_cast<std::int64_t>(objstore::available_memory() / std::max(sharers, 1U)));
  const double gpus = options.gpus >= 0 ? options.gpus : static_cast<double>(mine_.gpus.size());
  if (gpus > 0) {
    if (auto status = info.total.set("GPU", gpus); !status.ok()) return status;
  }
  if (!mine_.gpus.empty()) info.labels["accelerator"] = mine_.gpus.front().name;
  for (const auto& [name, amount] : options.resources) {
    if (auto status = info.total.set(name, amount); !status.ok()) return status;
  }
  Bytes info_bytes;
  Writer info_out(info_bytes);
  info.encode(info_out);
  me.blobs.emplace_back("info", info_bytes);
  auto second = bootstrap.all_gather(me.encode());
  if (!second) return second.error();
  CoreOptions core_options;
  core_options.host_name = me.host;
  core_options.seed = std::hash<std::string>{}(bootstrap.session());
  if (auto status = hear(*second); !status.ok()) return status;
  for (const auto& member : members_) {
    auto& info = core_options.ranks.emplace_back();
    if (member.rank == kNoRank) continue;
    Reader in(member.blob("info"));
    info = scheduler::RankInfo::decode(in);
    if (!in.ok())
      return make_error(Errc::malformed, fmt::format("rank {} announced resources that do not decode", member.rank));
  }
  if (bootstrap.late()) {
    Reader in(bootstrap.world());
    core_options.world = World::decode(in);
    if (core_options.world.seats.size() != size)
      return make_error(Errc::malformed, "what rank 0 says of the job does not decode");
    std::erase_if(remote, [&](Rank rank) { return core_options.world.seats[rank] != Seat::taken; });
  } else if (bootstrap.seats() > 0) {
    core_options.world.seats.assign(size, Seat::empty);
    std::fill_n(core_options.world.seats.begin(), bootstrap.size(), Seat::taken);
  }
  router_ = std::make_unique<transport::Router>(self, size);
  for (const auto rank : local) {
    if (auto status = shm->add_peer(rank, members_[rank].blob("shm")); !status.ok()) return status;
  }
  for (const auto rank : remote) {
    if (auto status = ucx->add_peer(rank, members_[rank].blob("ucx")); !status.ok()) return status;
  }
  host_.shm = shm.get();
  ucx_ = ucx.get();
  if (shm) router_->add_backend(std::move(shm), local);
  if (ucx) router_->add_backend(std::move(ucx), remote);

  // Distances for stealing: by what shares memory, so ranks that were forced apart count as far.
  std::vector<scheduler::Place> near = places_;
  for (const auto& member : members_)
    if (member.rank != kNoRank) near[member.rank].node = member.node_id;
  core_options.victims = scheduler::Victims::from_levels(self, size, scheduler::locality_groups(whole_, near, self));
  core_ = std::make_unique<RankCore>(host_, *router_, clock_, store_.get(), std::move(core_options));
  fetcher_ = std::make_unique<TransferFetcher>(core_->context());
  core_->refs().fetcher = fetcher_.get();
  core_->on_transfer = [this](Rank from, BytesView message) { return fetcher_->on_message(from, message); };
  core_->on_transfer_lost = [this](Rank dead) { fetcher_->on_lost(dead); };
  memory_watch_ =
      std::make_unique<MemoryWatch>(*store_, clock_, [](const std::string& what) { TRIREME_LOG(warning, "{}", what); });
  core_->attach(memory_watch_.get());
  core_->connect = [this](Rank rank, BytesView record) { return connect(rank, record); };
  core_->describe = [this] { return describe(); };
  core_->on_shutdown = [this] { shutdown_.signal(); };
  engine_ = std::make_unique<scheduler::ProgressEngine>(*core_);
  host_.engine = engine_.get();
  scheduler::ExecutorOptions executor_options;
  executor_options.threads = threads;
  executor_options.cores = static_cast<unsigned>(std::max<std::size_t>(mine_.cores.size(), 1));
  // With more ranks than cores several share one: the kernel places them better than a pin would.
  const bool crowded = sharers > whole_.cores.size();
  if (const auto cpus = mine_.pin_to(); options.pin && !crowded && cpus.size() == threads) executor_options.cpus = cpus;
  executor_options.on_idle = [this](bool) { core_->went_idle(); };
  executor_ = std::make_unique<scheduler::Executor>(std::move(executor_options), engine_.get());
  host_.executor = executor_.get();
  set_process_core(core_.get());
  if (prepare) prepare(*this);

  // Everybody can be reached before anybody runs.
  if (auto status = bootstrap.barrier(); !status.ok()) return status;
  if (bootstrap.late()) {
    Reader in(bootstrap.world());
    for (const auto& note : World::decode(in).notes)
      if (core_->on_note) core_->on_note(note);
  }
  auto door = bootstrap.door();
  bootstrap.finalize();
  engine_->start();
  executor_->start();
  running_ = true;
  if (door) open_door(std::move(door));
  return {};
}

/// One round of an exchange: what is there, by rank.
Status Session::hear(const std::vector<Bytes>& round) {
  std::vector<transport::Member> present;
  for (std::size_t rank = 0; rank < round.size(); ++rank) {
    if (round[rank].empty()) continue;
    auto member = transport::Member::decode(round[rank]);
    if (!member) return member.error();
    if (member->rank != rank || rank >= members_.size())
      return make_error(Errc::malformed, fmt::format("rank {} says that it is rank {}", rank, member->rank));
    present.push_back(*member);
    members_[rank] = std::move(*member);
  }
  return transport::check_same_build(present);
}

Status Session::hear_places(const std::vector<Bytes>& round) {
  for (Rank rank = 0; rank < round.size(); ++rank) {
    if (members_[rank].rank == kNoRank) continue;
    auto place = scheduler::Place::decode(members_[rank].blob("place"));
    if (!place) return place.error();
    places_[rank] = std::move(*place);
  }
  return {};
}

Result<scheduler::RankInfo> Session::connect(Rank rank, BytesView record) {
  auto member = transport::Member::decode(record);
  if (!member) return member.error();
  if (member->rank != rank)
    return make_error(Errc::malformed, fmt::format("rank {} says that it is rank {}", rank, member->rank));
  auto place = scheduler::Place::decode(member->blob("place"));
  if (!place) return place.error();
  Reader in(member->blob("info"));
  auto info = scheduler::RankInfo::decode(in);
  if (!in.ok()) return make_error(Errc::malformed, fmt::format("rank {} announced resources that do not decode", rank));
  if (auto status = ucx_->add_peer(rank, member->blob("ucx")); !status.ok()) return status.error();
  router_->admit(rank, *ucx_);
  members_[rank] = std::move(*member);
  places_[rank] = std::move(*place);
  return info;
}

void Session::open_door(std::unique_ptr<transport::Door> door) {
  const auto records = [this](bool places) {
    std::vector<Bytes> all(members_.size());
    for (const auto& member : members_) {
      if (member.rank == kNoRank) continue;
      auto said = member;
      if (places) said.blobs = {{"place", places_[member.rank].encode()}};
      all[member.rank] = said.encode();
    }
    return all;
  };
  doorkeeper_ = std::make_unique<Doorkeeper>(
      std::move(door), host_, core_->membership(), [records] { return records(true); },
      [records] { return records(false); });
}

Topology Session::describe() {
  Topology report;
  report.rank = rank();
  report.host = mine_.host;
  report.node = members_[rank()].node_id;
  report.cpus = mine_.cpus();
  report.threads = executor_->threads();
  report.memory_bytes = mine_.memory_bytes;
  report.arena_bytes = arena_->bytes();
  for (const auto& node : mine_.numa) report.numa_nodes.push_back(node.os_index);
  for (const auto& gpu : mine_.gpus) report.gpus.push_back(gpu.name);
  std::vector<scheduler::PeerLine> lines;
  auto near = places_;
  for (const auto& member : members_)
    if (member.rank != kNoRank) near[member.rank].node = member.node_id;
  for (const auto& member : members_) {
    if (member.rank == kNoRank || member.rank == rank()) continue;
    Topology::Peer peer;
    peer.rank = member.rank;
    peer.host = member.host;
    peer.node = member.node_id;
    peer.transport = router_->describe(member.rank);
    const auto far = scheduler::distance(whole_, near, rank(), member.rank);
    peer.distance = scheduler::to_string(far);
    lines.push_back({member.rank, member.host, peer.transport, far});
    report.peers.push_back(std::move(peer));
  }
  report.text = scheduler::describe_topology(mine_, lines);
  return report;
}

void Session::serve() {
  executor_->wait(shutdown_);
  leave();
}

void Session::stop() {
  if (!running_) return;
  doorkeeper_.reset();
  scheduler::WaitPoint done;
  post(host_, [&] { core_->shut_down([&] { done.signal(); }); });
  constexpr Nanos kPatience = 10 * kSecond;
  if (!executor_->wait_until(done, SystemClock::read() + kPatience)) {
    TRIREME_LOG(warning, "some ranks did not confirm the end of the job within {} s: leaving without them",
                kPatience / kSecond);
    // They may still answer while this function's frame is gone.
    post(host_, [this] { core_->forget_shutdown(); });
  }
  leave();
}

void Session::leave() {
  if (!std::exchange(running_, false)) return;
  doorkeeper_.reset();
  {
    scheduler::WaitPoint killed;
    post(host_, [&] {
      core_->actors().shut_down();
      killed.signal();
    });
    executor_->wait(killed);
  }
  if (on_leave) on_leave();
  executor_->stop();
  {
    // Their references go back through the engine.
    std::latch dropped(1);
    post(host_, [&] {
      core_->tasks().drop_pending();
      core_->cancels().drop_open();
      core_->control().end();
      core_->actors().drop_waiting();
      dropped.count_down();
    });
    dropped.wait();
  }
  engine_->stop();
  post(host_, [&] { core_->refs().end(); });  // nobody is heard any more
  set_process_core(nullptr);
  router_->close(200 * kMillisecond);
  launcher_.reset();  // whoever keeps the session keeps no descriptor
}

void Session::abandon_memory() {
  TRIREME_CHECK(!running_, "the memory of a session at work is abandoned");
  // Reachable, so that nothing counts them as leaks.
  static auto& kept = *new std::vector<std::pair<objstore::Store*, objstore::Arena*>>;
  static std::mutex mutex;
  arena_->close_file();
  const std::lock_guard lock(mutex);
  kept.emplace_back(store_.release(), arena_.release());
}

Session::~Session() {
  leave();
  executor_.reset();
  engine_.reset();
  fetcher_.reset();
  core_.reset();
  router_.reset();
}

}  // namespace trireme::core
