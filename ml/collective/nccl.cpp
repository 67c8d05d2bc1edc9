#include "trireme/ml/nccl.hpp"

#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <nccl.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "base/clock.hpp"

namespace trireme::ml {
namespace {

[[noreturn]] void refused(const std::string& text) { throw CollectiveError(Errc::unavailable, -1, text); }

void check(ncclResult_t result, const char* what) {
  if (result != ncclSuccess && result != ncclInProgress)
    refused(fmt::format("NCCL: {}: {} (NCCL_DEBUG=INFO says more)", what, ncclGetErrorString(result)));
}
void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) refused(fmt::format("CUDA: {}: {}", what, cudaGetErrorString(error)));
}

ncclDataType_t nccl_type(DType type) {
  switch (type) {
    case DType::f16:
      return ncclFloat16;
    case DType::bf16:
      return ncclBfloat16;
    case DType::f32:
      return ncclFloat32;
    case DType::f64:
      return ncclFloat64;
    case DType::i8:
      return ncclInt8;
    case DType::i32:
      return ncclInt32;
    case DType::i64:
      return ncclInt64;
    case DType::u8:
      return ncclUint8;
    case DType::u32:
      return ncclUint32;
    case DType::u64:
      return ncclUint64;
    default:
      refused(fmt::format("NCCL has no type {}", to_string(type)));
  }
}

ncclRedOp_t nccl_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
      return ncclSum;
    case ReduceOp::product:
      return ncclProd;
    case ReduceOp::min:
      return ncclMin;
    case ReduceOp::max:
      return ncclMax;
    case ReduceOp::mean:
      return ncclAvg;
  }
  refused("NCCL has no such reduction");
}

cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

struct NcclGroup::Impl {
  Impl(std::uint32_t rank, std::uint32_t size, const Exchange& exchange, const NcclOptions& options)
      : options(options),
        // Its one long receive below must not time out; meeting still does.
        control(rank, size,
                [&](std::span<const std::byte> mine, std::int64_t) { return exchange(mine, options.timeout_ns); },
                {.name = options.name, .timeout_ns = INT64_MAX}) {
    check(cudaSetDevice(options.device), "cudaSetDevice");
    ncclUniqueId id{};
    if (rank == 0) check(ncclGetUniqueId(&id), "ncclGetUniqueId");
    control.broadcast(std::span(reinterpret_cast<std::uint8_t*>(&id), sizeof id), 0);
    // A receive that nobody answers: the control group's helper thread drives it, and so learns of deaths on all nodes.
    if (size > 1) watch = control.start_recv(std::span(&nothing, 1), (rank + 1) % size, kWatchTag);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;  // so that a member that dies meanwhile can be noticed
    check(ncclCommInitRankConfig(&comm, static_cast<int>(size), id, static_cast<int>(rank), &config),
          "making a communicator");
    settle("making a communicator");
  }
  ~Impl() {
    if (comm == nullptr) return;
    if (broken) {
      ncclCommAbort(comm);
      return;
    }
    // Destroying waits for what is queued; a finalize that fails means that a member is gone.
    if (ncclCommFinalize(comm) == ncclSuccess || state() == ncclInProgress) {
      const Nanos until = SystemClock::read() + kFinalize;
      while (state() == ncclInProgress && SystemClock::read() < until) std::this_thread::yield();
    }
    state() == ncclSuccess ? ncclCommDestroy(comm) : ncclCommAbort(comm);
  }

  ncclResult_t state() const {
    ncclResult_t now = ncclSuccess;
    return ncclCommGetAsyncError(comm, &now) == ncclSuccess ? now : ncclInternalError;
  }
  /// Throws when a member is lost or the time is up, after NCCL let go of the GPU.
  void look(Nanos until, const char* what) {
    if (watch.test() && size() > 1) {
      abort();
      watch.wait();  // throws the error that names the member
    }
    if (SystemClock::read() < until) return;
    abort();
    throw CollectiveError(Errc::timeout, -1,
                          fmt::format("group '{}', member {}: {} took longer than {} s", options.name, control.rank(),
                                      what, static_cast<double>(options.timeout_ns) / 1e9));
  }
  void settle(const char* what) {
    const Nanos until = deadline();
    ncclResult_t now = state();
    for (; now == ncclInProgress; now = state()) {
      look(until, what);
      std::this_thread::yield();
    }
    if (now == ncclSuccess) return;
    look(kForever, what);
    abort();
    check(now, what);
  }
  template <class Call>
  void queue(const char* what, Call call) {
    if (broken) refused(fmt::format("group '{}' is broken", options.name));
    check(call(), what);
    settle(what);
  }
  void abort() {
    broken = true;
    if (comm != nullptr) ncclCommAbort(std::exchange(comm, nullptr));
  }
  Nanos deadline() const {
    const Nanos now = SystemClock::read();
    return options.timeout_ns > kForever - now ? kForever : now + options.timeout_ns;
  }
  std::uint32_t size() const { return control.size(); }

  static constexpr std::uint32_t kWatchTag = 1;
  static constexpr Nanos kFinalize = 5 * kSecond;
  const NcclOptions options;
  Communicator control;
  std::uint8_t nothing = 0;
  Work watch;
  ncclComm_t comm = nullptr;
  bool broken = false;
};

NcclGroup::NcclGroup(std::uint32_t rank, std::uint32_t size, const Exchange& exchange, NcclOptions options)
    : impl_(std::make_unique<Impl>(rank, size, exchange, options)) {}
NcclGroup::~NcclGroup() = default;

std::uint32_t NcclGroup::rank() const { return impl_->control.rank(); }
std::uint32_t NcclGroup::size() const { return impl_->size(); }

void NcclGroup::all_reduce(Buffer data, ReduceOp op, void* stream) {
  impl_->queue("all_reduce", [&] {
    return ncclAllReduce(data.data, data.data, data.count, nccl_type(data.type), nccl_op(op), impl_->comm,
                         as_stream(stream));
  });
}
void NcclGroup::reduce(Buffer data, std::uint32_t root, ReduceOp op, void* stream) {
  impl_->queue("reduce", [&] {
    return ncclReduce(data.data, data.data, data.count, nccl_type(data.type), nccl_op(op), static_cast<int>(root),
                      impl_->comm, as_stream(stream));
  });
}
void NcclGroup::broadcast(Buffer data, std::uint32_t root, void* stream) {
  impl_->queue("broadcast", [&] {
    return ncclBroadcast(data.data, data.data, data.count, nccl_type(data.type), static_cast<int>(root), impl_->comm,
                         as_stream(stream));
  });
}
void NcclGroup::all_gather(ConstBuffer mine, Buffer all, void* stream) {
  impl_->queue("all_gather", [&] {
    return ncclAllGather(mine.data, all.data, mine.count, nccl_type(mine.type), impl_->comm, as_stream(stream));
  });
}
void NcclGroup::reduce_scatter(ConstBuffer all, Buffer mine, ReduceOp op, void* stream) {
  impl_->queue("reduce_scatter", [&] {
    return ncclReduceScatter(all.data, mine.data, mine.count, nccl_type(mine.type), nccl_op(op), impl_->comm,
                             as_stream(stream));
  });
}
void NcclGroup::all_to_all(ConstBuffer from, Buffer to, void* stream) {
  impl_->queue("all_to_all", [&] {
    const std::size_t part = from.count / size();
    const std::size_t bytes = part * bytes_of(from.type);
    ncclResult_t result = ncclGroupStart();
    for (std::uint32_t peer = 0; peer < size() && result == ncclSuccess; ++peer) {
      result = ncclSend(static_cast<const std::byte*>(from.data) + peer * bytes, part, nccl_type(from.type),
                        static_cast<int>(peer), impl_->comm, as_stream(stream));
      if (result == ncclSuccess || result == ncclInProgress)
        result = ncclRecv(static_cast<std::byte*>(to.data) + peer * bytes, part, nccl_type(from.type),
                          static_cast<int>(peer), impl_->comm, as_stream(stream));
      if (result == ncclInProgress) result = ncclSuccess;
    }
    const ncclResult_t ended = ncclGroupEnd();
    return result == ncclSuccess ? ended : result;
  });
}
void NcclGroup::send(ConstBuffer data, std::uint32_t to, void* stream) {
  impl_->queue("send", [&] {
    return ncclSend(data.data, data.count, nccl_type(data.type), static_cast<int>(to), impl_->comm, as_stream(stream));
  });
}
void NcclGroup::recv(Buffer data, std::uint32_t from, void* stream) {
  impl_->queue("recv", [&] {
    return ncclRecv(data.data, data.count, nccl_type(data.type), static_cast<int>(from), impl_->comm,
                    as_stream(stream));
  });
}

void NcclGroup::wait(void* stream) {
  if (impl_->broken) refused(fmt::format("group '{}' is broken", impl_->options.name));
  const Nanos until = impl_->deadline();
  for (;;) {
    const cudaError_t now = cudaStreamQuery(as_stream(stream));
    if (now == cudaSuccess) return;
    if (now != cudaErrorNotReady) check(now, "waiting for the stream");
    impl_->look(until, "waiting for the stream");
    if (const auto state = impl_->state(); state != ncclSuccess && state != ncclInProgress) {
      impl_->look(kForever, "waiting for the stream");
      impl_->abort();
      check(state, "waiting for the stream");
    }
    std::this_thread::yield();
  }
}

}  // namespace trireme::ml
