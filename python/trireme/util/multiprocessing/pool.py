"""The pool: actors that each run one chunk of calls at a time, and one thread that hands chunks out."""

from __future__ import annotations

import collections
import itertools
import logging
import queue
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing.pool import ExceptionWithTraceback, MaybeEncodingError
from typing import Any

import trireme
from trireme.util.multiprocessing.results import AsyncResult, IMapIterator, Outcome, _chunked

logger = logging.getLogger(__name__)

Call = tuple[Sequence[Any], dict[str, Any]]

# Chunks per process that map() aims at when no chunksize is given, as the standard library does.
CHUNKS_PER_PROCESS = 4
# Chunks a process of imap() may have before the consumer takes results: one that runs, one that waits.
AHEAD_PER_PROCESS = 2


@dataclass
class _Chunk:
    fn: Callable[..., Any]
    calls: list[Call]
    part: int
    deliver: Callable[[int, list[Outcome]], None]


class Pool:
    """A pool of processes with the interface of `multiprocessing.Pool`.

    Threading: any thread. Callbacks run in a thread of the pool. Errors: a call's exception is raised by `get` and by
    the blocking methods; a process that dies fails the calls it had, and is replaced. Lifetime: `close` and `join`,
    `terminate`, or the end of a `with` block end the processes.

    Parameters
    ----------
    processes
        How many; by default one for each CPU of the job.
    initializer, initargs
        Called in each process before any work.
    maxtasksperchild
        Chunks after which a process is replaced by a new one.
    context
        Only for the signature; processes are actors, and a warning says so when something is given.
    ray_address
        Where to connect when the runtime is not initialised, as `address` of `trireme.init`.
    ray_remote_args
        Options of the actors (`num_cpus`, `resources`, ...).
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        if context is not None:
            logger.warning("Pool: context=%r changes nothing: the processes are actors", context)
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer is a callable, not {type(initializer).__name__}")
        if maxtasksperchild is not None and maxtasksperchild < 1:
            raise ValueError(f"maxtasksperchild is at least 1, but {maxtasksperchild} was given")
        if not trireme.is_initialized():
            trireme.init(address=ray_address)
        if processes is None:
            processes = max(1, int(trireme.cluster_resources().get("CPU", 1)))
        if processes < 1:
            raise ValueError(f"processes is at least 1, but {processes} was given")
        self._processes = processes
        self._max_chunks = maxtasksperchild
        self._initializer = (initializer, tuple(initargs))
        actor_class = trireme.remote(_Process)
        self._actor_class = actor_class.options(**ray_remote_args) if ray_remote_args else actor_class
        self._lock = threading.Lock()
        self._waiting: collections.deque[_Chunk] = collections.deque()
        self._running: dict[_Member, _Chunk] = {}
        self._closed = False
        self._terminated = False
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._idle: collections.deque[_Member] = collections.deque(self._new_member() for _ in range(processes))
        self._all = set(self._idle)
        self._thread = threading.Thread(target=_run_events, args=(self._events,), name="trireme-pool", daemon=True)
        self._thread.start()

    def _new_member(self) -> _Member:
        return _Member(self._actor_class.remote(*self._initializer))

    # Handing out chunks. `_submit` runs in the caller's thread, everything after it in the pool's.

    def _submit(
        self,
        fn: Callable[..., Any],
        calls: list[Call],
        part: int,
        deliver: Callable[[int, list[Outcome]], None],
    ) -> None:
        chunk = _Chunk(fn, calls, part, deliver)
        with self._lock:
            if self._terminated:
                raise ValueError("the pool was terminated")
            if not self._idle:
                self._waiting.append(chunk)
                return
            member = self._idle.popleft()
            self._running[member] = chunk
        self._start(member, chunk)

    def _start(self, member: _Member, chunk: _Chunk) -> None:
        member.chunks += 1
        try:
            future = member.actor.run.remote(chunk.fn, chunk.calls).future()
        except Exception as error:  # noqa: BLE001 - arguments that cannot be serialized are this chunk's failure
            self._events.put((self._finish, member, chunk, None, error))
            return
        future.add_done_callback(lambda done: self._ended(member, chunk, done))

    def _ended(self, member: _Member, chunk: _Chunk, future: Any) -> None:
        if not self._terminated:  # else the thread has ended, and the caller was told
            self._events.put((self._finish, member, chunk, future, None))

    def _finish(self, member: _Member, chunk: _Chunk, future: Any, error: BaseException | None) -> None:
        with self._lock:
            if self._running.pop(member, None) is None:
                return  # terminated meanwhile, and the caller was told
        error = error or future.exception()
        if error is None:
            outcomes = future.result()
        else:
            outcomes = [(False, error)] * max(1, len(chunk.calls))
        died = isinstance(error, trireme.exceptions.RayActorError)
        if died or (self._max_chunks is not None and member.chunks >= self._max_chunks):
            member = self._replace(member, died)
        with self._lock:
            following = self._waiting.popleft() if self._waiting and not self._terminated else None
            if following is not None:
                self._running[member] = following
            else:
                self._idle.append(member)
        if following is not None:
            self._start(member, following)
        chunk.deliver(chunk.part, outcomes)
        self._end_when_closed()

    def _replace(self, member: _Member, died: bool) -> _Member:
        if not died:
            trireme.kill(member.actor)
        with self._lock:
            self._all.discard(member)
            if self._terminated:
                return member
            fresh = self._new_member()
            self._all.add(fresh)
        return fresh

    def _check_running(self) -> None:
        if self._closed:
            raise ValueError("Pool not running: it was closed or terminated")

    # The interface of multiprocessing.Pool.

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = (), kwargs: dict[str, Any] | None = None) -> Any:
        """Call `func(*args, **kwargs)` in a process and return its result."""
        return self.apply_async(func, args, kwargs).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: dict[str, Any] | None = None,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """As `apply`, without waiting. `callback` gets the value, `error_callback` the exception."""
        self._check_running()
        result = AsyncResult(1, True, callback, error_callback)
        self._submit(func, [(tuple(args), dict(kwargs or {}))], 0, result._deliver)
        return result

    def map(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None) -> list[Any]:
        """Apply `func` to every value; `chunksize` of them go to a process at a time."""
        return self.map_async(func, iterable, chunksize).get()

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """As `map`, without waiting."""
        return self._map_async(func, [((value,), {}) for value in iterable], chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """As `map`, with each value unpacked as arguments."""
        return self.starmap_async(func, iterable, chunksize).get()

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """As `starmap`, without waiting."""
        return self._map_async(func, [(tuple(values), {}) for values in iterable], chunksize, callback, error_callback)

    def _map_async(
        self,
        func: Callable[..., Any],
        calls: list[Call],
        chunksize: int | None,
        callback: Callable[[list[Any]], Any] | None,
        error_callback: Callable[[BaseException], Any] | None,
    ) -> AsyncResult:
        self._check_running()
        if chunksize is None:
            chunksize = max(1, -(-len(calls) // (self._processes * CHUNKS_PER_PROCESS)))
        chunks = list(_chunked(calls, _checked_chunksize(chunksize)))
        result = AsyncResult(len(chunks), False, callback, error_callback)
        for part, chunk in enumerate(chunks):
            self._submit(func, chunk, part, result._deliver)
        return result

    def imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator:
        """Apply `func` to the values, which are taken as results are consumed; results in order."""
        return self._imap(func, iterable, chunksize, True)

    def imap_unordered(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator:
        """As `imap`, with results in the order in which they are ready."""
        return self._imap(func, iterable, chunksize, False)

    def _imap(self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int, ordered: bool) -> IMapIterator:
        self._check_running()
        ahead = AHEAD_PER_PROCESS * self._processes
        return IMapIterator(self, func, iterable, _checked_chunksize(chunksize), ahead, ordered)

    def close(self) -> None:
        """Take no more work; the processes end when what was given is done."""
        self._closed = True
        self._events.put((self._end_when_closed,))

    def _end_when_closed(self) -> None:
        with self._lock:
            over = self._closed and not self._running and not self._waiting
            members, self._all = (self._all, set()) if over else (set(), self._all)
        for member in members:
            trireme.kill(member.actor)
        if over:
            self._events.put(None)

    def terminate(self) -> None:
        """End the processes at once; results that are not there yet fail."""
        with self._lock:
            self._closed = self._terminated = True
            unfinished = [*self._running.values(), *self._waiting]
            self._running.clear()
            self._waiting.clear()
            members, self._all = self._all, set()
        for member in members:
            trireme.kill(member.actor)
        error = RuntimeError("the pool was terminated before this call ended")
        for chunk in unfinished:
            self._events.put((chunk.deliver, chunk.part, [(False, error)] * max(1, len(chunk.calls))))
        self._events.put((self._end_when_closed,))

    def join(self) -> None:
        """Wait for the processes to end.

        Raises
        ------
        ValueError
            Neither `close` nor `terminate` was called.
        """
        if not self._closed:
            raise ValueError("Pool is still running: call close() or terminate() before join()")
        self._thread.join()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, *exc: object) -> None:
        self.terminate()

    def __del__(self) -> None:
        # Only here when no chunk is in flight: those hold the pool.
        if (events := getattr(self, "_events", None)) is not None:
            events.put(None)

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        state = "TERMINATE" if self._terminated else "CLOSE" if self._closed else "RUN"
        return f"<{type(self).__module__}.{type(self).__qualname__} state={state} pool_size={self._processes}>"


class _Member:
    """An actor of the pool and how many chunks it was given."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.chunks = 0


def _run_events(events: queue.SimpleQueue[Any]) -> None:
    # Without a reference to the pool, so that one which nobody uses any more is collected.
    while (event := events.get()) is not None:
        call, *arguments = event
        try:
            call(*arguments)
        except Exception:  # noqa: BLE001 - a user's callback must not end the thread
            logger.error("Pool: a callback raised:\n%s", traceback.format_exc())
        del event, call, arguments


def _checked_chunksize(chunksize: int) -> int:
    if chunksize < 1:
        raise ValueError(f"chunksize is at least 1, but {chunksize} was given")
    return chunksize


class _Process:
    """The actor: runs chunks of calls."""

    def __init__(self, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
        if initializer is not None:
            initializer(*initargs)

    def run(self, fn: Callable[..., Any], calls: list[Call]) -> list[Outcome]:
        return list(itertools.starmap(lambda args, kwargs: _outcome(fn, args, kwargs), calls))


def _outcome(fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Outcome:
    try:
        value = fn(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - goes to the caller, with the traceback of here
        return False, _portable(error)
    return True, value


def _portable(error: BaseException) -> Any:
    import cloudpickle

    wrapped = ExceptionWithTraceback(error, error.__traceback__)
    try:
        cloudpickle.dumps(wrapped)
    except Exception as failure:  # noqa: BLE001
        return MaybeEncodingError(failure, error)
    return wrapped
