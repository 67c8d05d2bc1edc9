"""Async actors: calls as asyncio tasks of one event loop, which runs in the worker's main thread and takes the calls itself:
no thread stands between the rank and the loop that would have to wake it."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import selectors
from collections.abc import Callable
from typing import Any

from trireme import _observe
from trireme._serialization import NONE_RESULT, pack, unpack_args
from trireme._worker import _ASYNC_GENERATOR, _COROUTINE, _GENERATOR, Work, Worker, _iterable

#: Token and work of the call that runs, for the runtime context.
running: contextvars.ContextVar[tuple[int, Work | None]] = contextvars.ContextVar("trireme_call", default=(0, None))
#: Pieces of work taken before the loop gets its turn.
_TAKEN_MAX = 64


class _Selector(selectors.EpollSelector):
    """Waits for the loop's descriptors and for what the rank sends at the same time."""

    def __init__(self) -> None:
        super().__init__()
        #: wait(descriptor, timeout): True when the descriptor is ready; None: there are the loop's descriptors alone.
        self.wait: Callable[[int, float | None], bool] | None = None

    def select(self, timeout: float | None = None) -> list:
        if self.wait is None:
            return super().select(timeout)
        return super().select(0) if self.wait(self.fileno(), timeout) else []


class _Group:
    """A concurrency group: how many of its calls run, and those that wait."""

    __slots__ = ("limit", "running", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.waiting: collections.deque = collections.deque()


class AsyncMode:
    """Runs calls on the event loop. Plain methods run on it too and hold it up meanwhile.

    Threading: everything by the worker's main thread, which the loop runs in.
    """

    takes_work = True

    def __init__(self, worker: Worker, max_concurrency: int, groups: dict[str, int]) -> None:
        self._worker = worker
        self._groups: dict[str | None, _Group] = {None: _Group(max_concurrency)}
        for name, size in groups.items():
            self._groups[name] = _Group(size)
        self._tasks: dict[int, asyncio.Task] = {}
        self._groups_of_new: dict[int, _Group] = {}  # of tasks that have not taken their first step
        self._leaving: asyncio.Task | None = None
        self._selector = _Selector()
        self.loop = asyncio.SelectorEventLoop(self._selector)
        asyncio.set_event_loop(self.loop)
        worker.core.open_bell()

    def construct(self, cls: type, args: tuple, kwargs: dict) -> Any:
        # On the loop, so that a constructor may start tasks of its own.
        async def make() -> Any:
            return cls(*args, **kwargs)

        return self.loop.run_until_complete(make())

    def serve(self) -> None:
        """Takes and runs calls until the process is to end and they are through."""
        self._selector.wait = self._wait
        self.loop.run_forever()

    def _wait(self, descriptor: int, timeout: float | None) -> bool:
        core, step = self._worker.core, self._worker.step
        ready = core.wait_in_loop(descriptor, timeout)
        for _ in range(_TAKEN_MAX):
            task = core.take()
            if task is None:
                if core.told_to_leave() and self._leaving is None:
                    self._leaving = self.loop.create_task(self._leave())
                break
            step(task)
        return ready

    async def _leave(self) -> None:
        while self._tasks:
            await asyncio.wait(list(self._tasks.values()))
        self.loop.stop()

    def token(self) -> int:
        return running.get()[0]

    def is_cancelled(self) -> bool:
        raise RuntimeError("is_canceled() is for calls that nothing interrupts; one of an async actor gets asyncio.CancelledError")

    def work(self) -> Work | None:
        return running.get()[1]

    def start(self, task: Any, work: Work) -> None:
        group = self._groups.get(work.group)
        if group is None:
            known = ", ".join(str(name) for name in self._groups if name) or "none"
            error = ValueError(f"{work.name}: there is no concurrency group {work.group!r}; there are: {known}")
            self._worker.fail(task, work.name, error)
        elif group.running < group.limit:
            self._begin(group, task, work)
        else:
            group.waiting.append((task, work))

    def _begin(self, group: _Group, task: Any, work: Work) -> None:
        group.running += 1
        self._groups_of_new[task.token] = group
        self._tasks[task.token] = self.loop.create_task(self._execute(group, task, work))

    def _end(self, group: _Group, token: int) -> None:
        del self._tasks[token]
        group.running -= 1
        while group.waiting and group.running < group.limit:
            self._begin(group, *group.waiting.popleft())

    def cancel(self, token: int) -> None:
        running_task = self._tasks.get(token)
        if running_task is not None:
            running_task.cancel()
            if (group := self._groups_of_new.pop(token, None)) is not None:
                # Such a coroutine never comes to its first line.
                self._fail_cancelled(token)
                self._end(group, token)
            return
        for group in self._groups.values():
            for waiting in group.waiting:
                if waiting[0].token == token:
                    group.waiting.remove(waiting)
                    self._fail_cancelled(token)
                    return

    def _fail_cancelled(self, token: int) -> None:
        self._worker.core.fail(token, "the call was cancelled", "TaskCancelledError", b"")

    async def _execute(self, group: _Group, task: Any, work: Work) -> None:
        worker, token = self._worker, task.token
        del self._groups_of_new[token]
        running.set((token, work))
        attempt = task.attempt
        recorder = _observe.recorder
        record = recorder.begin(_observe.CALL, work.name, attempt, token) if recorder is not None else 0
        state = [0]  # items yielded
        try:
            while True:
                try:
                    args, kwargs = unpack_args(task, task.args.refs) if task.args.data else ((), {})
                    result = work.function(*args, **kwargs)
                    if work.flags & _COROUTINE or (not work.flags & _ASYNC_GENERATOR and hasattr(result, "__await__")):
                        result = await result
                    if work.num_returns == "streaming":
                        await self._stream(token, work, result, state)
                    elif result is None and not work.flags & (_GENERATOR | _ASYNC_GENERATOR) and work.num_returns == 1:
                        worker.core.finish(token, (NONE_RESULT,))
                    else:
                        if work.flags & _ASYNC_GENERATOR:
                            result = [item async for item in result]
                        worker.core.finish(token, worker.results(work, result))
                except asyncio.CancelledError:
                    self._fail_cancelled(token)
                except BaseException as error:  # noqa: BLE001 - user code raises anything
                    if isinstance(error, Exception) and work.retries(error, attempt):
                        attempt += 1
                        continue
                    if recorder is not None:
                        recorder.end(record, type(error).__name__)
                    worker.fail(task, work.name, error)
                break
        finally:
            if recorder is not None:
                recorder.end(record)
            self._end(group, token)

    async def _stream(self, token: int, work: Work, result: Any, state: list[int]) -> None:
        core = self._worker.core
        number = 0
        if work.flags & _ASYNC_GENERATOR or hasattr(result, "__aiter__"):
            async for item in result:
                if number >= state[0]:
                    await self._yield_item(token, item)
                    state[0] = number + 1
                number += 1
        else:
            for item in _iterable(result, work):
                if number >= state[0]:
                    await self._yield_item(token, item)
                    state[0] = number + 1
                number += 1
        core.finish(token, ())

    async def _yield_item(self, token: int, item: Any) -> None:
        # yield_item() may hold the producer back, which must not hold the other calls.
        data, buffers, refs = pack(item)
        await self.loop.run_in_executor(None, self._worker.core.yield_item, token, data, buffers, refs)
