"""What the pool's asynchronous calls return."""

from __future__ import annotations

import collections
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import TimeoutError
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trireme.util.multiprocessing.pool import Pool

# One result of a call: (True, value) or (False, exception).
Outcome = tuple[bool, Any]


class AsyncResult:
    """The result of `apply_async`, `map_async` or `starmap_async`.

    Threading: any thread. Errors: `get` raises the first failed call's exception, in the order of the arguments.
    """

    def __init__(
        self,
        parts: int,
        single: bool,
        callback: Callable[[Any], Any] | None,
        error_callback: Callable[[BaseException], Any] | None,
    ) -> None:
        self._parts: list[list[Outcome] | None] = [None] * parts
        self._missing = parts
        self._single = single
        self._callback = callback
        self._error_callback = error_callback
        self._done = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        if parts == 0:
            self._settle()

    def wait(self, timeout: float | None = None) -> None:
        """Return when the result is there, or after `timeout` seconds."""
        self._done.wait(timeout)

    def ready(self) -> bool:
        """Whether the result is there."""
        return self._done.is_set()

    def successful(self) -> bool:
        """Whether no call raised.

        Raises
        ------
        ValueError
            The result is not there yet.
        """
        if not self.ready():
            raise ValueError(f"{self!r} is not ready")
        return self._error is None

    def get(self, timeout: float | None = None) -> Any:
        """Return the value, or the list of values.

        Raises
        ------
        multiprocessing.TimeoutError
            Not there within `timeout` seconds.
        """
        if not self._done.wait(timeout):
            raise TimeoutError(f"no result within {timeout} s")
        if self._error is not None:
            raise self._error
        return self._value

    def _deliver(self, part: int, outcomes: list[Outcome]) -> None:
        # By the pool's thread only, once a part.
        self._parts[part] = outcomes
        self._missing -= 1
        if self._missing == 0:
            self._settle()

    def _settle(self) -> None:
        outcomes = list(itertools.chain.from_iterable(part or [] for part in self._parts))
        self._error = next((value for ok, value in outcomes if not ok), None)
        if self._error is None:
            values = [value for _, value in outcomes]
            self._value = values[0] if self._single else values
        self._parts = []
        if self._error is None and self._callback is not None:
            self._callback(self._value)
        elif self._error is not None and self._error_callback is not None:
            self._error_callback(self._error)
        self._done.set()


class IMapIterator(Iterator[Any]):
    """Results of `imap` and `imap_unordered`. Arguments are taken a bounded number ahead, so they may be endless.

    Threading: one consumer.
    """

    def __init__(
        self, pool: Pool, fn: Callable[..., Any], arguments: Iterable[Any], chunksize: int, ahead: int, ordered: bool
    ) -> None:
        self._pool = pool
        self._fn = fn
        self._chunks = _chunked(arguments, chunksize)
        self._ordered = ordered
        self._arrived = threading.Condition()
        self._ready: dict[int, list[Outcome]] = {}
        self._order: collections.deque[int] = collections.deque()
        self._current: collections.deque[Outcome] = collections.deque()
        self._submitted = 0
        self._exhausted = False
        for _ in range(ahead):
            self._submit_next()

    def _submit_next(self) -> None:
        if self._exhausted:
            return
        chunk = next(self._chunks, None)
        if chunk is None:
            self._exhausted = True
            return
        number, self._submitted = self._submitted, self._submitted + 1
        if self._ordered:
            self._order.append(number)
        self._pool._submit(self._fn, [((argument,), {}) for argument in chunk], number, self._deliver)

    def _deliver(self, number: int, outcomes: list[Outcome]) -> None:
        with self._arrived:
            self._ready[number] = outcomes
            if not self._ordered:
                self._order.append(number)
            self._arrived.notify_all()

    def __iter__(self) -> IMapIterator:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result.

        Raises
        ------
        StopIteration
            There are no more.
        multiprocessing.TimeoutError
            None arrived within `timeout` seconds; the iterator can be asked again.
        """
        if not self._current:
            self._current.extend(self._next_chunk(timeout))
        ok, value = self._current.popleft()
        if not ok:
            raise value
        return value

    def _next_chunk(self, timeout: float | None) -> list[Outcome]:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._arrived:
            if not self._order and not self._ready and self._pending() == 0:
                raise StopIteration
            while not (self._order and self._order[0] in self._ready):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"no result within {timeout} s")
                self._arrived.wait(left)
            outcomes = self._ready.pop(self._order.popleft())
            self._taken = self._taken + 1
        self._submit_next()
        return outcomes

    _taken = 0

    def _pending(self) -> int:
        return self._submitted - self._taken


def _chunked(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    source = iter(values)
    while chunk := list(itertools.islice(source, size)):
        yield chunk
