"""A first-in-first-out queue in an actor, for any number of producers and consumers."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterable
from typing import Any

import trireme


class Empty(queue.Empty):
    """Nothing to get, at once or within the timeout."""


class Full(queue.Full):
    """No room to put, at once or within the timeout."""


class Queue:
    """A queue shared by tasks and actors; pass it as an argument.

    Threading: any thread, any process. Order: items of one producer come out in the order in which it put them.
    Lifetime: the actor that holds the items ends with the last copy of the queue, or by `shutdown`.

    Parameters
    ----------
    maxsize
        How many items fit; 0 or less: no limit.
    actor_options
        Options of the actor that holds the items (`num_cpus`, `name`, `lifetime`, ...).
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        self.maxsize = maxsize
        options = {"num_cpus": 0, **(actor_options or {})}
        self.actor = trireme.remote(_QueueActor).options(**options).remote(maxsize)

    def __len__(self) -> int:
        return self.size()

    def __repr__(self) -> str:
        return f"Queue(maxsize={self.maxsize}, actor={self.actor!r})"

    def size(self) -> int:
        """Number of items; may be out of date at once."""
        return trireme.get(self.actor.qsize.remote())

    def qsize(self) -> int:
        """As `size`."""
        return self.size()

    def empty(self) -> bool:
        """Whether there is no item."""
        return trireme.get(self.actor.empty.remote())

    def full(self) -> bool:
        """Whether `maxsize` items are in."""
        return trireme.get(self.actor.full.remote())

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item.

        Parameters
        ----------
        item
            Any value that can be serialized.
        block
            Wait for room.
        timeout
            Seconds to wait; None: as long as it takes.

        Raises
        ------
        Full
            No room at once (`block=False`) or within `timeout`.
        ValueError
            `timeout` is negative.
        """
        if not block:
            self.put_nowait(item)
        else:
            _unwrap(trireme.get(self.actor.put.remote(item, _checked(timeout))))

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """As `put`, for coroutines."""
        if not block:
            _unwrap(await self.actor.put_nowait.remote(item))
        else:
            _unwrap(await self.actor.put.remote(item, _checked(timeout)))

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the oldest item.

        Raises
        ------
        Empty
            Nothing there at once (`block=False`) or within `timeout` seconds.
        ValueError
            `timeout` is negative.
        """
        if not block:
            return self.get_nowait()
        return _unwrap(trireme.get(self.actor.get.remote(_checked(timeout))))

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """As `get`, for coroutines."""
        if not block:
            return _unwrap(await self.actor.get_nowait.remote())
        return _unwrap(await self.actor.get.remote(_checked(timeout)))

    def put_nowait(self, item: Any) -> None:
        """Add an item or raise `Full` at once."""
        _unwrap(trireme.get(self.actor.put_nowait.remote(item)))

    def get_nowait(self) -> Any:
        """Take the oldest item or raise `Empty` at once."""
        return _unwrap(trireme.get(self.actor.get_nowait.remote()))

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Add all items or, when they do not all fit, none and raise `Full`."""
        if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
            raise TypeError(f"put_nowait_batch takes an iterable of items, not {type(items).__name__}")
        _unwrap(trireme.get(self.actor.put_nowait_batch.remote(list(items))))

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take the `num_items` oldest items or, when there are fewer, none and raise `Empty`."""
        if not isinstance(num_items, int):
            raise TypeError(f"num_items is an int, not {type(num_items).__name__}")
        if num_items < 0:
            raise ValueError(f"num_items is not negative, but {num_items} was given")
        return _unwrap(trireme.get(self.actor.get_nowait_batch.remote(num_items)))

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the actor; the queue is of no use afterwards.

        Parameters
        ----------
        force
            At once, whatever it does.
        grace_period_s
            Seconds for calls in progress to end, before it is ended by force.
        """
        if self.actor is None:
            return
        if not force:
            done = self.actor.__ray_terminate__.remote()
            trireme.wait([done], timeout=grace_period_s)
        trireme.kill(self.actor, no_restart=True)
        self.actor = None


def _checked(timeout: float | None) -> float | None:
    if timeout is not None and timeout < 0:
        raise ValueError(f"timeout is seconds and not negative, but {timeout} was given")
    return timeout


def _unwrap(answer: tuple[str, Any]) -> Any:
    # Full and Empty are answers of the actor, not failures of its calls: no traceback, and the plain classes.
    what, value = answer
    if what == "full":
        raise Full(value)
    if what == "empty":
        raise Empty(value)
    return value


class _QueueActor:
    """Holds the items. Its methods answer ("ok", value), ("full", why) or ("empty", why)."""

    def __init__(self, maxsize: int) -> None:
        self.maxsize = maxsize
        self.queue: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def qsize(self) -> int:
        return self.queue.qsize()

    async def empty(self) -> bool:
        return self.queue.empty()

    async def full(self) -> bool:
        return self.queue.full()

    async def put(self, item: Any, timeout: float | None) -> tuple[str, Any]:
        try:
            await asyncio.wait_for(self.queue.put(item), timeout)
        except TimeoutError:
            return "full", f"no room for an item within {timeout} s: {self.maxsize} are in"
        return "ok", None

    async def get(self, timeout: float | None) -> tuple[str, Any]:
        try:
            return "ok", await asyncio.wait_for(self.queue.get(), timeout)
        except TimeoutError:
            return "empty", f"no item within {timeout} s"

    async def put_nowait(self, item: Any) -> tuple[str, Any]:
        try:
            self.queue.put_nowait(item)
        except asyncio.QueueFull:
            return "full", f"no room for an item: {self.maxsize} are in"
        return "ok", None

    async def put_nowait_batch(self, items: list[Any]) -> tuple[str, Any]:
        if self.maxsize > 0 and len(items) + self.queue.qsize() > self.maxsize:
            return "full", f"no room for {len(items)} items: {self.queue.qsize()} of {self.maxsize} are in"
        for item in items:
            self.queue.put_nowait(item)
        return "ok", None

    async def get_nowait(self) -> tuple[str, Any]:
        try:
            return "ok", self.queue.get_nowait()
        except asyncio.QueueEmpty:
            return "empty", "no item"

    async def get_nowait_batch(self, num_items: int) -> tuple[str, Any]:
        if num_items > self.queue.qsize():
            return "empty", f"{num_items} items were asked for, {self.queue.qsize()} are in"
        return "ok", [self.queue.get_nowait() for _ in range(num_items)]
