"""The terminal on which an output is seen: how wide it is, and lines that are drawn anew in place."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TextIO

DEFAULT_COLUMNS = 80


def columns(file: TextIO) -> int | None:
    """Characters of a line; None when the output goes into a file or a pipe, where lines may be of any length.

    Open MPI gives a rank a terminal of its own, which has no size and is one even if `mpirun` writes into a pipe. What
    counts then is where the launcher writes, which is a parent of the rank.
    """
    try:
        if not file.isatty():
            return None
        width = _width(file.fileno())
    except (OSError, ValueError):
        return None
    process = os.getppid()
    while not width and process > 1:
        path = f"/proc/{process}/fd/1"
        try:
            if not stat.S_ISCHR(os.stat(path).st_mode):
                return None
            where = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            break  # another user's
        try:
            if not os.isatty(where):
                return None
            width = _width(where)
        finally:
            os.close(where)
        process = _parent(process)
    return width or int(os.environ.get("COLUMNS") or DEFAULT_COLUMNS)


def _width(descriptor: int) -> int:
    try:
        return os.get_terminal_size(descriptor).columns
    except OSError:
        return 0


def _parent(process: int) -> int:
    try:
        # The name, in brackets, may hold anything.
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        return 0


def wrapped(lines: list[str], width: int) -> list[str]:
    """The lines, cut where they are longer than `width`."""
    return [line[at : at + width] for line in lines for at in range(0, max(1, len(line)), width)]


class Lines:
    """Lines at the end of a terminal; see `trireme._progress.Region`."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._drawn = 0
        self.lines: list[str] = []

    def erase(self) -> None:
        if self._drawn:
            self._file.write(f"\x1b[{self._drawn}F\x1b[J")
            self._file.flush()
            self._drawn = 0

    def draw(self) -> None:
        self._file.write("".join(f"{line}\n" for line in self.lines))
        self._file.flush()
        self._drawn = len(self.lines)
