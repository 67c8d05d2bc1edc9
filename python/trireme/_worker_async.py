"""Async actors: calls as asyncio tasks of one event loop, which has a thread of its own."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import threading
from typing import Any

from trireme import _observe
from trireme._serialization import NONE_RESULT, pack, unpack_args
from trireme._worker import _ASYNC_GENERATOR, _COROUTINE, _GENERATOR, Work, Worker, _iterable

#: Token of the call that runs, for the runtime context.
running: contextvars.ContextVar[int] = contextvars.ContextVar("trireme_call", default=0)


class _Group:
    """A concurrency group: how many of its calls run, and those that wait."""

    __slots__ = ("limit", "running", "waiting")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.running = 0
        self.waiting: collections.deque = collections.deque()


class AsyncMode:
    """Runs calls on the event loop. Plain methods run on it too and hold it up meanwhile.

    Threading: start() and cancel() by the worker's main thread; all else by the loop's.
    """

    def __init__(self, worker: Worker, max_concurrency: int, groups: dict[str, int]) -> None:
        self._worker = worker
        self._groups: dict[str | None, _Group] = {None: _Group(max_concurrency)}
        for name, size in groups.items():
            self._groups[name] = _Group(size)
        self._tasks: dict[int, asyncio.Task] = {}
        self._arrived: collections.deque = collections.deque()
        self._woken = False
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self._run_loop, name="trireme-asyncio", daemon=True).start()

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def construct(self, cls: type, args: tuple, kwargs: dict) -> Any:
        # On the loop, so that a constructor may start tasks of its own.
        async def make() -> Any:
            return cls(*args, **kwargs)

        return asyncio.run_coroutine_threadsafe(make(), self.loop).result()

    def start(self, task: Any, work: Work) -> None:
        self._arrived.append((task, work))
        # One wake-up for all that arrive before the loop looks.
        if not self._woken:
            self._woken = True
            self.loop.call_soon_threadsafe(self._take)

    def join(self) -> None:
        """Until the calls that were started are through."""

        async def idle() -> None:
            self._take()
            while self._tasks:
                await asyncio.wait(list(self._tasks.values()))

        asyncio.run_coroutine_threadsafe(idle(), self.loop).result()

    def token(self) -> int:
        return running.get()

    def cancel(self, token: int) -> None:
        self._arrived.append((token, None))
        if not self._woken:
            self._woken = True
            self.loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._woken = False
        arrived = self._arrived
        while arrived:
            task, work = arrived.popleft()
            if work is None:
                self._cancel(task)
                continue
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
        self._tasks[task.token] = self.loop.create_task(self._execute(group, task, work))

    def _cancel(self, token: int) -> None:
        running_task = self._tasks.get(token)
        if running_task is not None:
            running_task.cancel()
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
        running.set(token)
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
            del self._tasks[token]
            group.running -= 1
            while group.waiting and group.running < group.limit:
                self._begin(group, *group.waiting.popleft())

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
