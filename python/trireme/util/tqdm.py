"""Progress bars that tasks and actors advance and the driver shows, each once.

A bar in a worker of rank 0 writes its state as a marked line to the worker's standard output; the driver takes such lines
out of what it prints (`trireme._progress`) and draws all bars together, so they neither overwrite each other nor mix with
other output. Workers of other ranks, whose output the driver does not see, have a task on rank 0 write the line.
"""

from __future__ import annotations

import builtins
import functools
import json
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from trireme import _progress, _state

T = TypeVar("T")


class tqdm:  # noqa: N801 - the name programs know
    """A progress bar with the part of tqdm's interface that makes sense from afar.

    Threading: one thread.

    Parameters
    ----------
    iterable
        Its items are yielded and counted.
    desc
        Shown before the bar.
    total
        How many steps; `len(iterable)` by default, unknown when it has none.
    position
        Bars with smaller positions stand above.
    flush_interval_s
        Seconds between two updates that are sent.
    unit
        What is counted.
    """

    def __init__(
        self,
        iterable: Iterable[T] | None = None,
        desc: str | None = None,
        total: int | None = None,
        *,
        position: int | None = None,
        flush_interval_s: float = 0.2,
        unit: str = "it",
    ) -> None:
        self._iterable = iterable
        if total is None:
            try:
                total = len(iterable)  # type: ignore[arg-type]
            except TypeError:
                pass
        self.desc = desc or ""
        self.total = total
        self.n = 0
        self.unit = unit
        self._position = position or 0
        self._interval = flush_interval_s
        self._id = uuid.uuid4().hex
        self._number = 0
        self._sent_at = 0.0
        self._closed = False
        self._send()

    def set_description(self, desc: str) -> None:
        """Change what is shown before the bar."""
        self.desc = desc
        self._send()

    def update(self, n: int = 1) -> None:
        """Advance by `n` steps."""
        self.n += n
        if time.monotonic() - self._sent_at >= self._interval or self.n == self.total:
            self._send()

    def refresh(self) -> None:
        """Send the state now."""
        self._send()

    def close(self) -> None:
        """End the bar; it stays as it is."""
        if not self._closed:
            self._closed = True
            self._send()

    def __iter__(self) -> Iterator[Any]:
        if self._iterable is None:
            raise TypeError("this tqdm has no iterable; use update()")
        try:
            for item in self._iterable:
                yield item
                self.update()
        finally:
            self.close()

    def __enter__(self) -> tqdm:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not sys.is_finalizing() and not getattr(self, "_closed", True):
            self.close()

    def _send(self) -> None:
        self._sent_at = time.monotonic()
        self._number += 1
        state = {
            "id": self._id,
            "number": self._number,
            "pid": os.getpid(),
            "desc": self.desc,
            "n": self.n,
            "total": self.total,
            "unit": self.unit,
            "position": self._position,
            "closed": self._closed,
        }
        if _state.worker is None:
            _progress.display().update(state)
        elif _state.core.rank == 0:
            _write(json.dumps(state))
        else:
            _on_rank_0().remote(json.dumps(state))


def _write(text: str) -> None:
    # One write, so that lines of several threads do not mix.
    sys.stdout.write(f"{_progress.MARK}{text}\n")
    sys.stdout.flush()


@functools.cache
def _on_rank_0() -> Any:
    import trireme
    from trireme.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(trireme.nodes()[0]["NodeID"], soft=False)
    return trireme.remote(_write).options(num_cpus=0, max_retries=0, scheduling_strategy=there)


def trange(*args: int, **kwargs: Any) -> tqdm:
    """As `tqdm(range(*args))`."""
    return tqdm(range(*args), **kwargs)


def safe_print(*args: Any, **kwargs: Any) -> None:
    """Print without disturbing the bars."""
    if _state.worker is not None:
        builtins.print(*args, **kwargs)
        return
    with _progress.display().aside():
        builtins.print(*args, **kwargs)
