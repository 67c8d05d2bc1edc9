#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "trireme/ml/communicator.hpp"

namespace trireme::ml {

struct NcclOptions {
  std::string name = "group";
  std::int64_t timeout_ns = 1'800'000'000'000;
  int device = 0;  ///< this member's CUDA device
};

/// A group whose arrays lie in GPU memory, on NCCL. Members find each other as those of a Communicator do; one of
/// those, on the CPU, carries NCCL's unique id and watches the members, because NCCL itself waits for the dead forever.
///
/// Operations are queued on a stream (a cudaStream_t of `device`; null: its default stream) and return at once, in the
/// stream's order with what was and will be queued there; wait() makes the host wait for the stream. As with NCCL, all
/// members queue the same operations in the same order. The thread's current device stays what it was.
///
/// When a member dies, a thread of the group's own aborts NCCL, so that the stream ends however the host waits for it;
/// what the operations left is then no result, and the next call of the group throws.
///
/// Threading: one thread. Errors: throws CollectiveError: unavailable (no device, CUDA or NCCL refused, with their
/// text; from the constructor on every member, naming the one that cannot), invalid_argument, peer_lost naming the
/// member that died, or timeout. After the last two, and an error that NCCL itself reports later, the group is of no
/// more use. Units: counts in elements. Lifetime: buffers until wait() returned. Destroying is collective: it waits for
/// the others, five seconds at most.
class NcclGroup {
 public:
  NcclGroup(std::uint32_t rank, std::uint32_t size, const Exchange& exchange, NcclOptions options = {});
  ~NcclGroup();
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

  std::uint32_t rank() const;
  std::uint32_t size() const;

  void all_reduce(Buffer data, ReduceOp op, void* stream);
  void reduce(Buffer data, std::uint32_t root, ReduceOp op, void* stream);
  void broadcast(Buffer data, std::uint32_t root, void* stream);
  void all_gather(ConstBuffer mine, Buffer all, void* stream);
  void reduce_scatter(ConstBuffer all, Buffer mine, ReduceOp op, void* stream);
  void all_to_all(ConstBuffer from, Buffer to, void* stream);
  void send(ConstBuffer data, std::uint32_t to, void* stream);
  void recv(Buffer data, std::uint32_t from, void* stream);

  /// Returns when everything queued on the stream is done.
  void wait(void* stream);
  /// Whether everything queued on the stream is done.
  bool test(void* stream);
  /// Waits for the stream, then for all members.
  void barrier(void* stream);

  /// How many CUDA devices this process sees; 0 without a driver.
  static int devices();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace trireme::ml
