"""Actors with several threads: `max_concurrency` or concurrency groups of plain methods."""

from __future__ import annotations

import queue
import threading
from typing import Any

from trireme import _observe
from trireme._serialization import NONE_RESULT, pack, unpack_args
from trireme._worker import Work, Worker, _iterable

#: What each thread runs now, for the runtime context.
running = threading.local()


class ThreadMode:
    """Runs calls on threads, each group on its own.

    Threading: start() and cancel() by the worker's main thread.
    """

    takes_work = False  # the worker's main loop does

    def __init__(self, worker: Worker, max_concurrency: int, groups: dict[str, int]) -> None:
        self._worker = worker
        self._pools = {None: _Threads(self, max_concurrency)}
        for name, size in groups.items():
            self._pools[name] = _Threads(self, size)
        self.cancelled: set[int] = set()
        self._left = 0  # calls that were started and are not through
        self._through = threading.Condition()

    def construct(self, cls: type, args: tuple, kwargs: dict) -> Any:
        return cls(*args, **kwargs)

    def start(self, task: Any, work: Work) -> None:
        pool = self._pools.get(work.group)
        if pool is None:
            known = ", ".join(str(name) for name in self._pools if name) or "none"
            error = ValueError(f"{work.name}: there is no concurrency group {work.group!r}; there are: {known}")
            self._worker.fail(task, work.name, error)
            return
        with self._through:
            self._left += 1
        pool.add(task, work)

    def serve(self) -> None:
        """Until the calls that were started are through."""
        with self._through:
            self._through.wait_for(lambda: self._left == 0)

    def run(self, task: Any, work: Work) -> None:
        try:
            self.execute(task, work)
        finally:
            with self._through:
                self._left -= 1
                self._through.notify_all()

    def token(self) -> int:
        return getattr(running, "token", 0)

    def is_cancelled(self) -> bool:
        return self.token() in self.cancelled

    def work(self) -> Work | None:
        return getattr(running, "work", None)

    def cancel(self, token: int) -> None:
        """What has not begun will not; a thread cannot be stopped from outside."""
        self.cancelled.add(token)

    def execute(self, task: Any, work: Work) -> None:
        worker, token = self._worker, task.token
        attempt = task.attempt
        yielded = 0
        running.token, running.work = token, work
        recorder = _observe.recorder
        record = recorder.begin(_observe.CALL, work.name, attempt, token) if recorder is not None else 0
        while True:
            try:
                if token in self.cancelled:
                    worker.core.fail(token, "the call was cancelled", "TaskCancelledError", b"")
                    break
                args, kwargs = unpack_args(task, task.args.refs) if task.args.data else ((), {})
                result = work.function(*args, **kwargs)
                if work.num_returns == "streaming":
                    for number, item in enumerate(_iterable(result, work)):
                        if number >= yielded:
                            worker.core.yield_item(token, *pack(item))
                            yielded = number + 1
                    worker.core.finish(token, ())
                elif result is None and work.plain:
                    worker.core.finish(token, (NONE_RESULT,))
                else:
                    worker.core.finish(token, worker.results(work, result))
            except BaseException as error:  # noqa: BLE001 - user code raises anything
                if isinstance(error, Exception) and work.retries(error, attempt):
                    attempt += 1
                    continue
                if recorder is not None:
                    recorder.end(record, type(error).__name__)
                worker.fail(task, work.name, error)
            break
        self.cancelled.discard(token)
        if recorder is not None:
            recorder.end(record)


class _Threads:
    """Up to `size` threads, started as they are needed."""

    def __init__(self, mode: ThreadMode, size: int) -> None:
        self._mode = mode
        self._size = size
        self._started = 0
        self._idle = 0
        self._queue: queue.SimpleQueue = queue.SimpleQueue()

    def add(self, task: Any, work: Work) -> None:
        self._queue.put((task, work))
        # `_idle` may lag behind; then a thread more is started, never more than `size`.
        if self._idle < self._queue.qsize() and self._started < self._size:
            self._started += 1
            threading.Thread(target=self._run, name=f"trireme-actor-{self._started}", daemon=True).start()

    def _run(self) -> None:
        run, take = self._mode.run, self._queue.get
        while True:
            self._idle += 1
            item = take()
            self._idle -= 1
            run(*item)
            del item
