#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace trireme::python {

/// First byte of every frame between a rank and a worker process. Both run the same build; the bytes never leave the
/// node. Written with Writer, read with Reader; `v` is a varint, numbers without it are fixed.
///
/// Handles name references. Odd ones are drawn by the worker for what it makes (it need not wait to be told), even
/// ones by the rank; 0 is none. A reference that the rank sends again keeps its handle, and the worker counts how
/// often it got it: `release` gives the count back, so a release and a send that cross do no harm.
///
/// A value is `Form` u8, then
///   inlined: blob                                   either way
///   located: Located                                rank to worker: to be read in place, given back by `unpin`
///            v pin                                  worker to rank: space got by `room`, filled; now the rank's
///   failed:  an error (core::encode_error)          rank to worker
///   pending: nothing                                rank to worker: not there yet
/// and after the first two `refs`: v count, count x v handle. The blob is a packed value (wire.hpp).
///
/// A request carries `v request`, drawn by the worker from 1; the rank answers each exactly once:
///   reply: v request, Answer u8, then for `ok` what is said below, for `error` an error.
enum class Frame : std::uint8_t {
  // rank to worker
  /// u64 token, i32 slot (tasks; else -1), WorkKind u8, v attempt, v returns, u8 flags (1 streaming, 2 args are the
  /// first dep), v n, n x v device (GPUs it holds), blob meta, text name, blob args (packed), v deps, deps x value,
  /// refs
  /// (those of the first deps are 0).
  work = 1,
  cancel,  ///< u64 token: the call is no longer wanted
  reply,
  event,  ///< v token: a watched reference is ready
  leave,  ///< end after what was sent before
  // worker to rank
  hello = 32,  ///< ready for work
  done,        ///< u64 token, v n, n x value
  failed,      ///< u64 token, text message, text type, blob payload
  yielded,     ///< v request, u64 token, value. Reply, with nothing, once there is room for another
  /// v n, n x v handle for the results (streaming: end, stream), CallText, v pin of large args (0: in CallText),
  /// refs (the arguments', deps first; CallText::deps counts neither the large args nor the stream), u8 has options,
  /// Options, i32 backpressure (streaming)
  submit,
  /// v request (0 unless named), v handle of the actor, then as submit from CallText on. Reply: nothing
  create,
  call,        ///< v handle of the actor, then as submit, without options
  put,         ///< v handle, value
  get,         ///< v request, refs. Reply: v n, n x value; once all are there, or as soon as one failed
  wait,        ///< v request, v count, refs. Reply: blob, a byte each, 1: ready
  wait_now,    ///< v request: answer that wait with what is ready by now
  forget,      ///< v request: nobody waits for it any more; answered with `forgotten` if it was still open
  watch,       ///< v token, v handle
  release,     ///< v n, n x (v handle, v count): references that the worker no longer has
  unpin,       ///< v n, n x v pin: values that it no longer reads, space that it did not use
  room,        ///< v request, v bytes: space in the arena. Reply: Located
  kill,        ///< v handle, u8 no_restart
  find,        ///< v request, text name. Reply: v handle, 0: no such actor
  cancel_ref,  ///< v handle, u8 force, u8 recursive
  exported,    ///< blob key, blob text
  imported,    ///< v request, v rank, blob key. Reply: blob
  group,  ///< v request, u8 strategy (GroupStrategy), v n, n x Resources, GroupLabels. Reply: v handle of ready, id
  group_removed,  ///< id
  ranks,          ///< v request. Reply: text, JSON
  actor_rank,     ///< v request, v handle. Reply: i64
  identify,       ///< v request, v handle. Reply: id
  stream_next,    ///< v handle of the stream, v handle for the item
  exit_actor,     ///< the process ends after the present call
  label,          ///< text: what its output is prefixed with
  myself,         ///< v request: the actor that this process is. Reply: v handle, 0: it is none; else its id, if known
  failure,        ///< v request, v handle. Reply: u8 failed, then the error; never fetches the value
  objects,        ///< v request. Reply: text, JSON
  bell,           ///< v request, v pid, v fd: of a pipe that wakes it while it sleeps in poll(). Reply: nothing
  /// v handle for the result, text library, text name, value (arguments without references), refs (the arguments that
  /// are), u8 has options, Options
  cpp_submit,
  cpp_create,  ///< v handle for the actor, then as cpp_submit, with options, i32 max_concurrency
  cpp_call,    ///< v handle of the actor, then as cpp_submit, without options; the name is the method's
};

enum class WorkKind : std::uint8_t { task = 0, create = 1, call = 2 };
enum class Answer : std::uint8_t { ok = 0, error = 1, forgotten = 2 };
enum class Form : std::uint8_t { inlined = 0, located = 1, failed = 2, pending = 3 };

inline constexpr std::size_t kRingBytes = 512U << 10;
/// Larger frames travel in pieces.
inline constexpr std::size_t kPieceBytes = 32U << 10;
/// Values up to this travel in frames and messages; larger ones lie in an arena.
inline constexpr std::size_t kInlineBytesMax = 8U << 10;
inline constexpr std::size_t kWorkersMax = 4096;
/// Tasks sent ahead to one worker.
inline constexpr std::uint32_t kPipelineMax = 64;

/// Shared by a rank and all its workers; the rank's memory file, zeros at first.
struct Board {
  /// 1 while the rank sleeps or is about to. The rank sets it; a worker that takes it (exchange to 0) rings once.
  alignas(64) std::atomic<std::uint32_t> sleeping;
  /// A futex: 1 while a thread of the rank sleeps until some worker has something to say, the driver in get() say. A
  /// worker that takes it (exchange to 0) wakes that thread instead of ringing: one wake-up, not two. Whoever is woken
  /// sees to all pending bits.
  alignas(64) std::atomic<std::uint32_t> waiter;
  /// A set bit: the rank looks into that worker's ring. Set by the worker after it published, cleared by the rank
  /// before it looks. All sequentially consistent, with the ring's headers, so one of the two sees the other.
  alignas(64) std::atomic<std::uint64_t> pending[kWorkersMax / 64];
};

/// The first page of a worker's memory file. The ring to the worker follows, then the ring to the rank.
struct WorkerPage {
  /// A futex: kOnFutex or kOnBell while the worker sleeps or is about to; the rank takes it (exchange to kAwake) and
  /// wakes it that way. Sequentially consistent with the ring's headers, as above.
  enum : std::uint32_t { kAwake, kOnFutex, kOnBell };
  alignas(64) std::atomic<std::uint32_t> asleep;
  /// Token of the call that is to be cancelled, written (release) before SIGINT is sent.
  alignas(64) std::atomic<std::uint64_t> cancelled;
  /// Token of the call in which SIGINT has raised KeyboardInterrupt, written by the worker. Until then the rank repeats
  /// the signal: between the interpreter's last look for signals and a system call that blocks, one is seen too late.
  std::atomic<std::uint64_t> interrupted;
  /// Per task sent ahead: kQueued until either side takes it by compare-exchange (acq_rel). The worker takes what it
  /// begins (kStarted) and frees (kFree, release) what it finds taken back; the rank frees what is done.
  enum : std::uint32_t { kFree, kQueued, kStarted, kTakenBack };
  alignas(64) std::atomic<std::uint32_t> slots[kPipelineMax];
};

inline constexpr std::size_t kPageBytes = 4096;
static_assert(sizeof(WorkerPage) <= kPageBytes);
inline constexpr std::size_t kWorkerBytes = kPageBytes + 2 * kRingBytes;

}  // namespace trireme::python
