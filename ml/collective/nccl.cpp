#include "trireme/ml/nccl.hpp"

#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <nccl.h>

#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "base/clock.hpp"
#include "ml/collective/nccl_agreement.hpp"

namespace trireme::ml {
namespace {

[[noreturn]] void refused(const std::string& text) { throw CollectiveError(Errc::unavailable, -1, text); }

std::string text_of(ncclResult_t result) {
  const char* last = ncclGetLastError(nullptr);
  return fmt::format("{}{}{} (NCCL_DEBUG=INFO says more)", ncclGetErrorString(result),
                     last != nullptr && *last != '\0' ? ": " : "", last != nullptr ? last : "");
}
void check(ncclResult_t result, const char* what) {
  if (result != ncclSuccess && result != ncclInProgress) refused(fmt::format("NCCL: {}: {}", what, text_of(result)));
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

/// Makes a device the thread's current one, which NCCL and the default stream go by, and puts back what was.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (before_ != device) check(cudaSetDevice(device), "cudaSetDevice");
    changed_ = before_ != device;
  }
  ~OnDevice() {
    if (changed_) cudaSetDevice(before_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

void check_device(int device) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0)
    refused(fmt::format("no CUDA device on this machine ({}); for arrays in the host's memory make a group on the CPU",
                        error == cudaSuccess ? "the driver shows none" : cudaGetErrorString(error)));
  if (device < 0 || device >= count)
    refused(fmt::format("CUDA device {} was asked for, this process sees {} (CUDA_VISIBLE_DEVICES)", device, count));
}

}  // namespace

struct NcclGroup::Impl {
  Impl(std::uint32_t rank, std::uint32_t size, const Exchange& exchange, const NcclOptions& options)
      : options(options),
        // Its one long receive below must not time out; meeting still does.
        control(
            std::in_place, rank, size,
            [&](std::span<const std::byte> mine, std::int64_t) { return exchange(mine, options.timeout_ns); },
            CommunicatorOptions{.name = options.name, .timeout_ns = INT64_MAX}),
        rank(rank),
        size(size) {
    const auto id_of_group = agreement.agree(
        *control, options.name,
        [&] {
          check_device(options.device);
          ncclUniqueId made{};
          if (rank == 0) check(ncclGetUniqueId(&made), "ncclGetUniqueId");
          detail::NcclAgreement::Id bytes{};
          static_assert(sizeof made == sizeof bytes);
          std::memcpy(bytes.data(), &made, sizeof made);
          return bytes;
        },
        deadline());
    const OnDevice here(options.device);
    ncclUniqueId id{};
    std::memcpy(&id, id_of_group.data(), sizeof id);
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;  // so that a member that dies meanwhile can be noticed
    if (size > 1) watch();
    try {
      {
        const std::lock_guard lock(mutex);
        if (failure) throw CollectiveError(*failure);
        check(ncclCommInitRankConfig(&comm, static_cast<int>(size), id, static_cast<int>(rank), &config),
              "making a communicator");
      }
      settle("making a communicator");
    } catch (...) {
      close();  // the destructor of what was not made does not run
      throw;
    }
  }
  ~Impl() { close(); }

  /// A receive that nobody answers ends when a member dies, wherever it is; the watcher then makes NCCL let go of the
  /// GPU, whatever the member's own thread is waiting for.
  void watch() {
    death = control->start_recv(Buffer{&nothing, 1, DType::u8}, (rank + 1) % size, kWatchTag);
    watcher = std::thread([this] {
      try {
        death.wait();
      } catch (const CollectiveError& error) {
        const std::lock_guard lock(mutex);
        if (closing) return;
        if (!failure) failure = error;
        abort();
      }
    });
  }
  void close() {
    bool orderly = size > 1;
    {
      const std::lock_guard lock(mutex);
      if (closing) return;
      orderly = orderly && !failure && comm != nullptr;
    }
    // Nobody leaves before the others are through: they would take it for dead. One that does not come is not awaited
    // for long.
    if (orderly) {
      try {
        Work leaving = control->start_barrier();
        detail::wait_until(leaving, SystemClock::read() + kLeave);
      } catch (const CollectiveError&) {  // somebody is gone already
      }
    }
    {
      const std::lock_guard lock(mutex);
      closing = true;
      finish();
    }
    control.reset();  // ends the watcher's receive
    if (watcher.joinable()) watcher.join();
  }
  /// Under the mutex. Destroying waits for what is queued; a finalize that fails means that a member is gone.
  void finish() {
    if (comm == nullptr) return;
    const ncclResult_t begun = ncclCommFinalize(comm);
    const Nanos until = SystemClock::read() + kLeave;
    while (state() == ncclInProgress && SystemClock::read() < until) std::this_thread::yield();
    const bool finalized = (begun == ncclSuccess || begun == ncclInProgress) && state() == ncclSuccess;
    finalized ? ncclCommDestroy(comm) : ncclCommAbort(comm);
    comm = nullptr;
  }

  /// Under the mutex, and with a communicator.
  ncclResult_t state() const {
    ncclResult_t now = ncclSuccess;
    return ncclCommGetAsyncError(comm, &now) == ncclSuccess ? now : ncclInternalError;
  }
  /// Under the mutex.
  void abort() {
    if (comm != nullptr) ncclCommAbort(std::exchange(comm, nullptr));
  }
  /// Under the mutex. Ends the group with this error.
  [[noreturn]] void fail(CollectiveError error) {
    if (!failure) failure = std::move(error);
    abort();
    throw CollectiveError(*failure);
  }
  void usable() const {
    if (failure) throw CollectiveError(*failure);
    if (comm == nullptr) refused(fmt::format("group '{}' was closed", options.name));
  }
  /// One look at NCCL: true when nothing is in progress on the host's side. Throws when the group is broken.
  bool settled(const char* what, Nanos until) {
    const std::lock_guard lock(mutex);
    usable();
    const ncclResult_t now = state();
    if (now == ncclSuccess) return true;
    // A member that died is better named by the watcher; it is about to. (Its error wins if it came first.)
    if (now != ncclInProgress)
      fail({Errc::unavailable, -1,
            fmt::format("group '{}', member {}: NCCL: {}: {}", options.name, rank, what, text_of(now))});
    if (SystemClock::read() >= until) fail(late(what));
    return false;
  }
  void settle(const char* what) {
    for (const Nanos until = deadline(); !settled(what, until);) std::this_thread::yield();
  }
  CollectiveError late(const char* what) const {
    return {Errc::timeout, -1,
            fmt::format("group '{}', member {}: {} took longer than {} s", options.name, rank, what,
                        static_cast<double>(options.timeout_ns) / 1e9)};
  }
  template <class Call>
  void queue(const char* what, Call call) {
    const OnDevice here(options.device);
    {
      const std::lock_guard lock(mutex);
      usable();
      check(call(), what);
    }
    settle(what);  // until then nothing need be on the stream
  }
  bool done(void* stream, const char* what) {
    const OnDevice here(options.device);  // the default stream is the current device's
    const cudaError_t now = cudaStreamQuery(as_stream(stream));
    if (now != cudaSuccess && now != cudaErrorNotReady) check(now, what);
    // Also when the stream is done: aborted operations end as well, and what they left is no result.
    const std::lock_guard lock(mutex);
    usable();
    if (const auto state = this->state(); state != ncclSuccess && state != ncclInProgress)
      fail({Errc::unavailable, -1,
            fmt::format("group '{}', member {}: NCCL: {}: {}", options.name, rank, what, text_of(state))});
    return now == cudaSuccess;
  }
  void wait(void* stream) {
    constexpr const char* kWhat = "waiting for the stream";
    for (const Nanos until = deadline(); !done(stream, kWhat);) {
      if (SystemClock::read() >= until) {
        const std::lock_guard lock(mutex);
        fail(late(kWhat));
      }
      std::this_thread::yield();
    }
  }
  void barrier(void* stream) {
    wait(stream);
    Work arriving = control->start_barrier();
    if (detail::wait_until(arriving, deadline())) return;
    const std::lock_guard lock(mutex);
    fail(late("barrier"));
  }
  Nanos deadline() const {
    const Nanos now = SystemClock::read();
    return options.timeout_ns > kForever - now ? kForever : now + options.timeout_ns;
  }

  static constexpr std::uint32_t kWatchTag = 1;
  static constexpr Nanos kLeave = 5 * kSecond;
  const NcclOptions options;
  detail::NcclAgreement agreement;  // before control, which may write into it to the end
  std::uint8_t nothing = 0;
  std::optional<Communicator> control;
  const std::uint32_t rank;
  const std::uint32_t size;
  Work death;
  std::thread watcher;
  mutable std::mutex mutex;  ///< guards what follows: the watcher aborts while the member's thread is at work
  ncclComm_t comm = nullptr;
  std::optional<CollectiveError> failure;
  bool closing = false;
};

namespace {

/// NCCL trusts these, and writes past the end.
void expect(bool right, const std::string& name, const char* what, const char* rule) {
  if (!right) throw CollectiveError(Errc::invalid_argument, -1, fmt::format("group '{}': {}: {}", name, what, rule));
}

}  // namespace

NcclGroup::NcclGroup(std::uint32_t rank, std::uint32_t size, const Exchange& exchange, NcclOptions options)
    : impl_(std::make_unique<Impl>(rank, size, exchange, options)) {}
NcclGroup::~NcclGroup() = default;

std::uint32_t NcclGroup::rank() const { return impl_->rank; }
std::uint32_t NcclGroup::size() const { return impl_->size; }

void NcclGroup::all_reduce(Buffer data, ReduceOp op, void* stream) {
  impl_->queue("all_reduce", [&] {
    return ncclAllReduce(data.data, data.data, data.count, nccl_type(data.type), nccl_op(op), impl_->comm,
                         as_stream(stream));
  });
}
void NcclGroup::reduce(Buffer data, std::uint32_t root, ReduceOp op, void* stream) {
  expect(root < size(), impl_->options.name, "reduce", "no such member");
  impl_->queue("reduce", [&] {
    return ncclReduce(data.data, data.data, data.count, nccl_type(data.type), nccl_op(op), static_cast<int>(root),
                      impl_->comm, as_stream(stream));
  });
}
void NcclGroup::broadcast(Buffer data, std::uint32_t root, void* stream) {
  expect(root < size(), impl_->options.name, "broadcast", "no such member");
  impl_->queue("broadcast", [&] {
    return ncclBroadcast(data.data, data.data, data.count, nccl_type(data.type), static_cast<int>(root), impl_->comm,
                         as_stream(stream));
  });
}
void NcclGroup::all_gather(ConstBuffer mine, Buffer all, void* stream) {
  expect(all.type == mine.type && all.count == mine.count * size(), impl_->options.name, "all_gather",
         "the whole holds size() times as many elements of the same type as the part");
  impl_->queue("all_gather", [&] {
    return ncclAllGather(mine.data, all.data, mine.count, nccl_type(mine.type), impl_->comm, as_stream(stream));
  });
}
void NcclGroup::reduce_scatter(ConstBuffer all, Buffer mine, ReduceOp op, void* stream) {
  expect(all.type == mine.type && all.count == mine.count * size(), impl_->options.name, "reduce_scatter",
         "the whole holds size() times as many elements of the same type as the part");
  impl_->queue("reduce_scatter", [&] {
    return ncclReduceScatter(all.data, mine.data, mine.count, nccl_type(mine.type), nccl_op(op), impl_->comm,
                             as_stream(stream));
  });
}
void NcclGroup::all_to_all(ConstBuffer from, Buffer to, void* stream) {
  expect(from.type == to.type && from.count == to.count && from.count % size() == 0, impl_->options.name, "all_to_all",
         "both arrays hold the same number of elements of one type, a multiple of size()");
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
  expect(to < size(), impl_->options.name, "send", "no such member");
  impl_->queue("send", [&] {
    return ncclSend(data.data, data.count, nccl_type(data.type), static_cast<int>(to), impl_->comm, as_stream(stream));
  });
}
void NcclGroup::recv(Buffer data, std::uint32_t from, void* stream) {
  expect(from < size(), impl_->options.name, "recv", "no such member");
  impl_->queue("recv", [&] {
    return ncclRecv(data.data, data.count, nccl_type(data.type), static_cast<int>(from), impl_->comm,
                    as_stream(stream));
  });
}

void NcclGroup::wait(void* stream) { impl_->wait(stream); }
bool NcclGroup::test(void* stream) { return impl_->done(stream, "asking the stream"); }
void NcclGroup::barrier(void* stream) { impl_->barrier(stream); }

int NcclGroup::devices() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

}  // namespace trireme::ml
