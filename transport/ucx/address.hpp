#pragma once

#include <ucp/api/ucp.h>

#include <cstdint>
#include <span>

#include "base/result.hpp"
#include "base/wire.hpp"
#include "transport/ucx/worker.hpp"

namespace trireme::transport::ucx {

/// What a rank publishes: how to reach its worker and its exposed memory.
struct Address {
  /// Drawn at random by the rank and sent back in every message to it: a stranger who finds the port, or a rank of an
  /// earlier job that still holds the address, is not listened to.
  std::uint64_t token = 0;
  Bytes worker;
  std::uint64_t memory_base = 0;  ///< virtual address in that rank
  std::uint64_t memory_bytes = 0;
  Bytes memory_key;  ///< empty when nothing is exposed

  Bytes encode() const;
  static Result<Address> decode(BytesView bytes);
};

/// Memory of this rank that peers may read.
///
/// Lifetime: the worker outlives it, and it outlives its use by peers.
class ExposedMemory {
 public:
  ExposedMemory() = default;
  ~ExposedMemory() { reset(); }
  ExposedMemory(const ExposedMemory&) = delete;
  ExposedMemory& operator=(const ExposedMemory&) = delete;

  Status expose(Worker& worker, std::span<std::byte> memory);
  void reset();
  std::span<std::byte> memory() const { return memory_; }
  const Bytes& key() const { return key_; }
  /// The registration that covers `range`, or nullptr: with it UCX need not register the target of a get anew.
  ucp_mem_h covering(std::span<const std::byte> range) const;

 private:
  ucp_context_h context_ = nullptr;
  ucp_mem_h handle_ = nullptr;
  std::span<std::byte> memory_;
  Bytes key_;
};

}  // namespace trireme::transport::ucx
