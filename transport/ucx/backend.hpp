#pragma once

#include <cstdint>
#include <memory>

#include "transport/transport.hpp"

namespace trireme::transport {

/// The backend for ranks of other nodes: one UCX worker, connections opened by the first use, a dead peer reported.
///
/// A connection carries frames as eager active messages and reads memory with one-sided gets. It never uses shared
/// memory: UCX offers none that reports a dead peer, and ranks of one node have a backend of their own
/// (docs/decisions/002). UCX_* variables reach it; TRIREME_UCX_* variables too, and reach nothing else, so that an MPI
/// library in the same process keeps its own settings.
///
/// Threading: as Backend says; the worker runs without locks, so the caller's token is what keeps it whole.
/// Errors:    unavailable when UCX finds no usable device or refuses its settings.
/// Lifetime:  the object holds its own UCX context; other users of UCX in the process are not touched.
Result<std::unique_ptr<Backend>> make_ucx_backend(Rank self, std::uint32_t size);

}  // namespace trireme::transport
