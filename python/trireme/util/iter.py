"""Results as they become ready, with a bound on what is in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import trireme


def as_completed(refs: Sequence[Any], *, chunk_size: int = 10, yield_obj_refs: bool = False) -> Iterator[Any]:
    """Yield results in the order in which they become ready.

    Parameters
    ----------
    refs
        Object references, each once.
    chunk_size
        How many results are waited for and fetched together.
    yield_obj_refs
        Yield the references instead of the values.

    Raises
    ------
    ValueError
        `chunk_size` is below 1.
    RayError
        What a task raised, when its turn comes.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size is at least 1, but {chunk_size} was given")
    pending = list(refs)
    while pending:
        ready, pending = trireme.wait(pending, num_returns=min(chunk_size, len(pending)), fetch_local=True)
        yield from ready if yield_obj_refs else _values(ready)


def _values(refs: list[Any]) -> Iterator[Any]:
    # One by one, so that an error comes in its place and not before the values that were ready with it.
    for ref in refs:
        yield trireme.get(ref)


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
) -> Iterator[Any]:
    """Run `fn.remote(item)` for all items and yield results in the order in which they become ready.

    Parameters
    ----------
    fn
        A remote function, or an actor's method.
    items
        The arguments; taken as results are consumed, so they may be endless.
    backpressure_size
        How many tasks may be in flight; None: no bound.
    chunk_size
        How many results are waited for and fetched together.
    yield_obj_refs
        Yield the references instead of the values.

    Raises
    ------
    ValueError
        `chunk_size` is below 1, or above `backpressure_size`.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size is at least 1, but {chunk_size} was given")
    if backpressure_size is not None and backpressure_size < chunk_size:
        raise ValueError(
            f"backpressure_size is at least chunk_size, but {backpressure_size} and {chunk_size} were given"
        )
    return _map_unordered(fn, items, backpressure_size, chunk_size, yield_obj_refs)


def _map_unordered(
    fn: Any, items: Iterable[Any], backpressure_size: int | None, chunk_size: int, yield_obj_refs: bool
) -> Iterator[Any]:
    source = iter(items)
    pending: deque[Any] = deque()
    exhausted = False
    while True:
        while not exhausted and (backpressure_size is None or len(pending) < backpressure_size):
            try:
                item = next(source)
            except StopIteration:
                exhausted = True
            else:
                pending.append(fn.remote(item))
        if not pending:
            return
        ready, rest = trireme.wait(list(pending), num_returns=min(chunk_size, len(pending)), fetch_local=True)
        pending = deque(rest)
        yield from ready if yield_obj_refs else _values(ready)
