#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.hpp"
#include "base/result.hpp"
#include "base/wire.hpp"

namespace trireme::transport {

/// A rank that comes after the start, as rank 0 sees it. Rounds as in Bootstrap::all_gather: hear(), then tell().
///
/// Threading: one owner. Errors: peer_lost when it is gone or the door is closed, timeout, malformed.
class Guest {
 public:
  virtual ~Guest() = default;
  virtual Rank rank() const = 0;
  virtual Result<Bytes> hear() = 0;
  /// `all`: a record for every rank and seat, empty where nobody is. `world`: for the guest's Bootstrap::world().
  virtual Status tell(const std::vector<Bytes>& all, BytesView world) = 0;
  /// Sends it away with a reason.
  virtual void refuse(const Error& why) = 0;
};

/// Where ranks come in after the start; rank 0 of a job with seats has one.
///
/// Threading: next() by one thread, close() by any.
class Door {
 public:
  virtual ~Door() = default;
  /// Waits for a rank that takes itself for one of the empty seats; nullptr once the door is closed. A process that
  /// does not introduce itself as such a rank is sent away.
  virtual std::unique_ptr<Guest> next() = 0;
  /// For good; also ends what the current guest is asked or told.
  virtual void close() = 0;
};

/// How ranks find each other once, at the start: nothing (single), a socket (local), PMIx, or an MPI communicator
/// handed in.
///
/// Threading: one owner; the calls are collective and block.
/// Errors:    a Result that names the launcher and what to check.
/// Lifetime:  finalize() releases the launcher's service; afterwards a killed rank no longer takes the others along
///            (see docs/decisions on PMIx). For MPI, finalize() only forgets the communicator: MPI belongs to the
///            caller.
class Bootstrap {
 public:
  virtual ~Bootstrap() = default;
  virtual std::string_view name() const = 0;  ///< "single", "local", "pmix", "mpi"
  virtual Rank rank() const = 0;
  virtual std::uint32_t size() const = 0;
  /// Names the job step for every rank alike, and differs between concurrent steps (used in file names and checks).
  virtual std::string session() const = 0;
  /// Every rank contributes bytes and gets all, indexed by rank. May be called several times.
  virtual Result<std::vector<Bytes>> all_gather(BytesView mine) = 0;
  virtual Status barrier() = 0;
  virtual void finalize() = 0;

  // Jobs with seats (docs/decisions/010), where further ranks may come after the start.
  /// How many may come, as ranks size(), size() + 1, ...
  virtual std::uint32_t seats() const { return 0; }
  /// This rank came after the start: all_gather() gives it a record for every rank and seat, empty where nobody is.
  bool late() const { return rank() >= size(); }
  /// A late rank: what rank 0 said of the job with the last exchange.
  virtual BytesView world() const { return {}; }
  /// Rank 0 of a job with seats, after the last exchange and before finalize(). Once.
  virtual std::unique_ptr<Door> door() { return nullptr; }
};

std::unique_ptr<Bootstrap> bootstrap_single();
/// Through libpmix: under mpirun and `srun --mpi=pmix`.
Result<std::unique_ptr<Bootstrap>> bootstrap_pmix();

/// Ranks that a parent process starts on one machine: tests and `Cluster` helpers, no launcher.
struct LocalOptions {
  Rank rank = 0;
  std::uint32_t size = 1;
  /// Of a Unix-domain socket, in a folder of the user's own (0700), or an abstract name that starts with '@'. Rank 0
  /// makes it and removes it once all have come; with seats, once the job ends.
  std::string socket;
  /// For the others to come, and for each exchange.
  std::int64_t timeout_ns = 60'000'000'000;
  /// How many ranks may come after the start. A rank from `size` on is one of them.
  std::uint32_t seats = 0;
};
/// Rank 0 listens, the others connect, in any order of start. At the deadline rank 0's error names the ranks that did
/// not come, and those that did get the same text. A process that is no rank of the cluster is sent away.
Result<std::unique_ptr<Bootstrap>> bootstrap_local(LocalOptions options);
/// TRIREME_LOCAL_RANK, TRIREME_LOCAL_SIZE, TRIREME_LOCAL_SOCKET, TRIREME_LOCAL_SEATS (0) and TRIREME_LOCAL_TIMEOUT_S
/// (60).
Result<LocalOptions> local_options_from_environment();

/// What the environment says: local when TRIREME_LOCAL_RANK is set, else PMIx under a PMIx launcher (PMIX_RANK), else
/// single; clear error when a launcher is there but does not offer PMIx (srun without --mpi=pmix with more than one
/// task: says which flag to add).
Result<std::unique_ptr<Bootstrap>> bootstrap_detect();

/// What every rank tells every other at the start.
struct Member {
  Rank rank = kNoRank;
  std::string host;
  /// Ranks with equal node ids share memory. Boot id + PID namespace by default; TRIREME_NODE_ID overrides it, so that
  /// ranks of one machine can be forced apart; a slurmd node name (SLURMD_NODENAME) counts as a node of its own.
  std::string node_id;
  std::int32_t pid = 0;
  std::uint64_t build_id = 0;
  /// Addresses by backend name, and what upper layers add (resources, topology).
  std::vector<std::pair<std::string, Bytes>> blobs;

  Bytes encode() const;
  static Result<Member> decode(BytesView bytes);
  BytesView blob(std::string_view name) const;  ///< empty when absent
};

/// This process's host, node id, pid and build id, rank and blobs left to the caller.
Member local_member();
/// Error build_mismatch naming the first ranks and hosts whose build differs from rank 0's.
Status check_same_build(const std::vector<Member>& members);

}  // namespace trireme::transport
