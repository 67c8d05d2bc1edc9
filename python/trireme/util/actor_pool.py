"""Work handed out to a fixed set of actors."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import trireme

V = TypeVar("V")


class ActorPool:
    """Give each free actor the next piece of work.

    Threading: one thread. Errors: what the actor's method raised comes out of the `get_next*` call, after the actor
    has gone back to the pool.

    Parameters
    ----------
    actors
        Handles of actors that nobody else gives work to.

    Examples
    --------
    >>> pool = ActorPool([Worker.remote() for _ in range(2)])
    >>> list(pool.map(lambda actor, value: actor.double.remote(value), [1, 2, 3]))
    [2, 4, 6]
    """

    def __init__(self, actors: Iterable[Any]) -> None:
        self._idle: deque[Any] = deque(actors)
        self._running: dict[Any, tuple[int, Any]] = {}  # reference -> (number of the submission, actor)
        self._by_number: dict[int, Any] = {}  # number of the submission -> reference
        self._waiting: deque[tuple[Callable[[Any, Any], Any], Any]] = deque()
        self._next_submitted = 0
        self._next_returned = 0

    def map(self, fn: Callable[[Any, V], Any], values: Iterable[V]) -> Iterator[Any]:
        """Apply `fn(actor, value)`, which makes an actor call, to all values; results in the order of the values."""
        self._submit_all(fn, values)
        while self.has_next():
            yield self.get_next()

    def map_unordered(self, fn: Callable[[Any, V], Any], values: Iterable[V]) -> Iterator[Any]:
        """As `map`, with results in the order in which they are ready."""
        self._submit_all(fn, values)
        while self.has_next():
            yield self.get_next_unordered()

    def _submit_all(self, fn: Callable[[Any, V], Any], values: Iterable[V]) -> None:
        # A map starts afresh: earlier submissions run on, but their results are no part of it.
        self._waiting.clear()
        for reference in list(self._running):
            self._take(reference)
        for value in values:
            self.submit(fn, value)

    def submit(self, fn: Callable[[Any, V], Any], value: V) -> None:
        """Call `fn(actor, value)` as soon as an actor is free."""
        if not self._idle:
            self._waiting.append((fn, value))
            return
        actor = self._idle.popleft()
        reference = fn(actor, value)
        if isinstance(reference, list):
            reference = tuple(reference)
        self._running[reference] = (self._next_submitted, actor)
        self._by_number[self._next_submitted] = reference
        self._next_submitted += 1

    def has_next(self) -> bool:
        """Whether a result is there or will be."""
        return bool(self._running) or bool(self._waiting)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Wait for the next result in the order of submission.

        Parameters
        ----------
        timeout
            Seconds; None waits for ever.
        ignore_if_timedout
            Give this result up after `timeout` and let its actor go on; TimeoutError is raised all the same.

        Raises
        ------
        StopIteration
            Nothing was submitted whose result is still to come.
        TimeoutError
            The result was not there in time.
        ValueError
            The next result was already taken by `get_next_unordered`.
        """
        if not self.has_next():
            raise StopIteration("no more results: everything submitted to this ActorPool was returned")
        if self._next_returned not in self._by_number:
            raise ValueError(
                "get_next() cannot follow get_next_unordered(): the results left are older than the last one"
            )
        reference = self._by_number[self._next_returned]
        if not self._wait([reference], timeout):
            message = f"no result of ActorPool within {timeout} s"
            if ignore_if_timedout:
                self._take(reference)
                raise TimeoutError(message + "; it is given up, and its actor may take new work")
            raise TimeoutError(message)
        return self._result(reference)

    def get_next_unordered(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """Wait for whichever result is ready first. Parameters and errors as for `get_next`."""
        if not self.has_next():
            raise StopIteration("no more results: everything submitted to this ActorPool was returned")
        ready = self._wait(list(self._running), timeout)
        if not ready:
            if ignore_if_timedout:
                self._take(min(self._running, key=lambda reference: self._running[reference][0]))
            raise TimeoutError(f"no result of ActorPool within {timeout} s")
        return self._result(ready)

    @staticmethod
    def _wait(references: list[Any], timeout: float | None) -> Any:
        # A method with several returns gives a tuple of references, which are ready together.
        first = {(entry[0] if isinstance(entry, tuple) else entry): entry for entry in references}
        ready, _ = trireme.wait(list(first), num_returns=1, timeout=timeout)
        return first[ready[0]] if ready else None

    def _result(self, reference: Any) -> Any:
        self._take(reference)
        return trireme.get(list(reference) if isinstance(reference, tuple) else reference)

    def _take(self, reference: Any) -> None:
        number, actor = self._running.pop(reference)
        del self._by_number[number]
        self._next_returned = max(self._next_returned, number + 1)
        self._give_back(actor)

    def _give_back(self, actor: Any) -> None:
        self._idle.append(actor)
        if self._waiting:
            self.submit(*self._waiting.popleft())

    def has_free(self) -> bool:
        """Whether an actor is idle."""
        return bool(self._idle) and not self._waiting

    def pop_idle(self) -> Any | None:
        """Take an idle actor out of the pool; None when all are busy."""
        return self._idle.popleft() if self.has_free() else None

    def push(self, actor: Any) -> None:
        """Add an actor.

        Raises
        ------
        ValueError
            The actor is in the pool already.
        """
        if actor in self._idle or any(actor == busy for _, busy in self._running.values()):
            raise ValueError(f"{actor!r} belongs to this ActorPool already")
        self._give_back(actor)
