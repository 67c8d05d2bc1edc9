"""The lines that a rank's workers wrote, kept in the session's folder for `trireme logs`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from trireme import _session

LIMIT_BYTES = 2 << 20  # of the newer of two files; then it becomes the older one
_NEW, _OLD = "log", "log.1"


class Logbook:
    """Appends lines. Threading: one thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open()

    def _open(self) -> None:
        self._file = open(self._folder / _NEW, "a", encoding="utf-8", errors="replace")  # noqa: SIM115 - until close()

    def add(self, pid: int, stream: int, label: str, text: str, call: int) -> None:
        """Keep a line that a worker wrote to stream 1 or 2; `call` is the token of the call that wrote it, 0 when not known."""
        line = {"time": time.time(), "pid": pid, "stream": stream, "label": label, "text": text, "call": call}
        self._file.write(json.dumps(line) + "\n")
        if self._file.tell() > LIMIT_BYTES:
            self._file.close()
            os.replace(self._folder / _NEW, self._folder / _OLD)
            self._open()

    def flush(self) -> None:
        """Make what was added readable."""
        self._file.flush()

    def close(self) -> None:
        """End the book."""
        self._file.close()


_book: Logbook | None = None


def keep(pid: int, stream: int, label: str, text: str, call: int) -> None:
    """Add a line to the book of this rank's session. By the thread that reads the workers' output."""
    global _book
    if _book is None:
        folder = _session.current()
        if folder is None:
            return
        _book = Logbook(folder)
    _book.add(pid, stream, label, text, call)


def flush() -> None:
    """Make what was kept readable."""
    if _book is not None:
        _book.flush()


def close() -> None:
    """End the session's book."""
    global _book
    if _book is not None:
        _book.close()
        _book = None


def read_folder(folder: Path) -> list[dict[str, Any]]:
    """Return the lines kept in the session's folder, the oldest first."""
    lines = []
    for name in (_OLD, _NEW):
        try:
            text = (folder / name).read_text(encoding="utf-8")
        except OSError:
            continue
        for line in text.splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                continue  # the one that is being written
    return lines
