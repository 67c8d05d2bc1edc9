"""A worker's standard output and error: lines that say which call wrote what follows.

Only who writes pays: a mark goes before the first line that a call writes and after its last one. The rank takes the marks out
(Pool::add_output) and keeps with each line whose it is.
"""

from __future__ import annotations

import contextlib
import io
import sys
from typing import Any

from trireme import _state

#: Begins a mark; the call's token follows, in hexadecimal, and the line's end.
MARK = "\x1e__trireme_call__:"


class Output(io.TextIOWrapper):
    """One of the two streams. Threading: any thread; lines that calls write piece by piece at the same time mix."""

    _writer = 0
    _within_line = False

    def write(self, text: str) -> int:
        """As of every stream; what is written within a line belongs to who began it."""
        worker = _state.worker
        mark = ""
        if worker is not None and text and not self._within_line:
            token = worker.token()
            # Calls that run at the same time write in any order: each line says whose it is.
            if token != self._writer or worker.concurrent:
                mark = f"{MARK}{token:x}\n"
                self._writer = token
                worker.core.wrote = True
        if text:
            self._within_line = text[-1] != "\n"
        super().write(mark + text if mark else text)
        return len(text)

    def end(self) -> None:
        """The call is over: what is written next, not through this object, is nobody's."""
        if self._writer and not self._within_line:
            self._writer = 0
            with contextlib.suppress(OSError, ValueError):  # the program closed it
                super().write(f"{MARK}0\n")


def replace_streams() -> None:
    """In a process whose standard streams are pipes to its rank."""
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        made = Output(stream.detach(), encoding=stream.encoding, errors=stream.errors, line_buffering=True)
        setattr(sys, name, made)
        setattr(sys, f"__{name}__", made)


def end() -> None:
    """See Output.end(); of what the program put in place of a stream nothing is known."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if type(stream) is Output:
            stream.end()
