"""Showing what workers write: one line each with who wrote it, lines that many write folded into one."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from trireme import _logbook, _output
from trireme._progress import MARK, display

#: The same text from other processes within this time is counted, not shown.
FOLD_S = 5.0
_FOLDED_MAX = 1000


class Printer:
    """Prints the lines of this rank's workers until the runtime ends.

    Threading: start() and join() by who owns the rank; the lines are printed by a thread of its own.
    """

    def __init__(self, core: Any, settings: Callable[[], dict[str, Any]]) -> None:
        self._core = core
        self._settings = settings
        self._lock = threading.Lock()
        self._folded: dict[str, _Folded] = {}
        #: By process and stream the token of the call that writes.
        self._writers: dict[tuple[int, int], int] = {}
        self._timer: threading.Timer | None = None
        self._thread = threading.Thread(target=self._run, name="trireme-logs", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self) -> None:
        """After the runtime's stop(): until all is printed."""
        self._thread.join()
        if self._timer is not None:
            self._timer.cancel()
        self._flush(float("inf"))

    def _run(self) -> None:
        shown: bool | None = None
        while lines := self._core.next_logs():
            if shown is None:
                shown = self._ask()
            for pid, stream, label, text in lines:
                if text.startswith(_output.MARK):
                    self._writers[pid, stream] = int(text[len(_output.MARK) :], 16)
                    continue
                if text.startswith(MARK) and display().take(text):
                    continue
                _logbook.keep(pid, stream, label, text, self._writers.get((pid, stream), 0))
                if shown:
                    self.add(pid, stream, label, text)
            _logbook.flush()
        _logbook.close()

    def _ask(self) -> bool:
        try:
            return bool(self._settings()["log_to_driver"])
        except Exception:  # noqa: BLE001 - the job may be over
            return True

    def add(self, pid: int, stream: int, label: str, text: str) -> None:
        now = time.monotonic()
        with self._lock:
            folded = self._folded.get(text)
            if folded is not None and now - folded.since < FOLD_S and pid not in folded.pids:
                folded.pids.add(pid)
                folded.last = (pid, stream, label)
                if self._timer is None:
                    self._timer = threading.Timer(FOLD_S, self._on_timer)
                    self._timer.daemon = True
                    self._timer.start()
                return
            if folded is not None:
                self._print_folded(text, folded)
            if len(self._folded) >= _FOLDED_MAX:
                self._flush_locked(now)
            if text.strip():
                self._folded[text] = _Folded(now, pid)
            self._print(pid, stream, label, text)

    def _on_timer(self) -> None:
        with self._lock:
            self._timer = None
        self._flush(time.monotonic())

    def _flush(self, now: float) -> None:
        with self._lock:
            self._flush_locked(now)

    def _flush_locked(self, now: float) -> None:
        for text, folded in list(self._folded.items()):
            if now - folded.since >= FOLD_S:
                self._print_folded(text, folded)
                del self._folded[text]

    def _print_folded(self, text: str, folded: _Folded) -> None:
        count = len(folded.pids) - 1
        if count > 0 and folded.last is not None:
            pid, stream, label = folded.last
            self._print(pid, stream, label, f"{text} [repeated {count}x by other workers]")

    def _print(self, pid: int, stream: int, label: str, text: str) -> None:
        out = sys.stdout if stream == 1 else sys.stderr
        name = f"{label} " if label else ""
        try:
            with display().aside():
                out.write(f"({name}pid={pid} rank={self._core.rank}) {text}\n")
                out.flush()
        except (OSError, ValueError):
            pass  # the reader of our output is gone; the job goes on


class _Folded:
    """A line that was shown: when, and which processes wrote it since."""

    __slots__ = ("last", "pids", "since")

    def __init__(self, since: float, pid: int) -> None:
        self.since = since
        self.pids = {pid}
        self.last: tuple[int, int, str] | None = None
