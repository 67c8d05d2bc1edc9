"""The standard library's executor interface on tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from typing import Any

import trireme


class TaskFuture(futures.Future):
    """The future of a task. `cancel` also cancels the task; `ref` is its object reference."""

    def __init__(self, ref: Any) -> None:
        super().__init__()
        self.ref = ref
        self._settling = threading.Lock()  # a cancellation and the task's end exclude each other

    def cancel(self) -> bool:
        """Cancel the task, interrupting it when it runs. False when the result is in already."""
        with self._settling:
            if self.cancelled():
                return True
            if not super().cancel():
                return False
            self.set_running_or_notify_cancel()
        trireme.cancel(self.ref)
        return True

    def settle(self, source: futures.Future) -> None:
        """Take over the outcome of the task."""
        with self._settling:
            if self.cancelled():
                return
            self.set_running_or_notify_cancel()
        error = source.exception()
        if error is None:
            self.set_result(source.result())
        else:
            self.set_exception(error)


class Executor(futures.Executor):
    """Runs each call as a task of the job.

    Threading: any thread. Errors: `Future.result` raises what the call raised (a `RayTaskError` that is
    also an instance of that class). Lifetime: `shutdown` waits for the
    tasks, and does not end the runtime.

    Parameters
    ----------
    max_workers
        How many calls may be in flight; further ones wait here. None: no bound, the job's resources decide.
    options
        Options of every task (`num_cpus`, `num_gpus`, `max_retries`, ...).

    Examples
    --------
    >>> with Executor() as executor:
    ...     list(executor.map(pow, [2, 3], [5, 2]))
    [32, 9]
    """

    def __init__(self, max_workers: int | None = None, **options: Any) -> None:
        if max_workers is not None and max_workers < 1:
            raise ValueError(f"max_workers is at least 1, but {max_workers} was given")
        self._call = trireme.remote(_call)
        if options:
            self._call = self._call.options(**options)
        self._slots = threading.BoundedSemaphore(max_workers) if max_workers is not None else None
        self._lock = threading.Lock()
        self._pending: set[TaskFuture] = set()
        self._closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> TaskFuture:
        """Start `fn(*args, **kwargs)` as a task; blocks while `max_workers` are in flight.

        Raises
        ------
        RuntimeError
            After `shutdown`.
        """
        if self._closed:
            raise RuntimeError("cannot submit to an executor after its shutdown")
        if self._slots is not None:
            self._slots.acquire()
        try:
            ref = self._call.remote(fn, args, kwargs)
        except BaseException:
            if self._slots is not None:
                self._slots.release()
            raise
        future = TaskFuture(ref)
        with self._lock:
            self._pending.add(future)
        ref.future().add_done_callback(lambda source: self._finish(future, source))
        return future

    def _finish(self, future: TaskFuture, source: futures.Future) -> None:
        if self._slots is not None:
            self._slots.release()
        future.settle(source)
        with self._lock:
            self._pending.discard(future)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls.

        Parameters
        ----------
        wait
            Return when all calls have ended.
        cancel_futures
            Cancel those that have not.
        """
        self._closed = True
        with self._lock:
            pending = list(self._pending)
        if cancel_futures:
            for future in pending:
                future.cancel()
        if wait:
            futures.wait(pending)


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)
