"""What is drawn in place on the driver's terminal: the bars of `trireme.util.tqdm` of all workers, and tables above them."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

#: Starts the lines of a worker's output that are the state of a bar and not for people.
MARK = "__trireme_progress__:"
# Where standard error is no terminal, a bar prints a line each so many seconds, and at its end.
PLAIN_INTERVAL_S = 5.0
_WIDTH = 30
_FIELDS = {"id", "number", "pid", "desc", "n", "total", "unit", "position", "closed"}


class Region(Protocol):
    """Lines at the end of a terminal that others may have to make way for. Called under the display's lock."""

    def erase(self) -> None:
        """Takes them away; the cursor stands where they began."""

    def draw(self) -> None:
        """Draws them where the cursor stands."""


class Display:
    """All bars and regions. Threading: any thread."""

    def __init__(self, out: Any = None) -> None:
        self._out = out if out is not None else sys.stderr
        self._terminal = self._out.isatty()
        self._lock = threading.RLock()
        self._bars: dict[str, dict[str, Any]] = {}
        self._drawn = 0
        self._printed: dict[str, float] = {}
        self._over: deque[str] = deque(maxlen=1000)
        self._regions: list[Region] = []

    def attach(self, region: Region) -> None:
        """From now on the region is erased and drawn again when something else is printed."""
        with self._lock:
            if region not in self._regions:
                self._regions.append(region)

    def detach(self, region: Region) -> None:
        """What the region shows now stays."""
        with self._lock:
            if region in self._regions:
                self._regions.remove(region)

    def update(self, state: dict[str, Any]) -> None:
        """Show a bar's new state."""
        missing = _FIELDS - state.keys()
        if missing:
            raise KeyError(f"the state of a bar lacks {sorted(missing)}")
        with self._lock:
            if state["id"] in self._over:
                return  # states of other ranks may overtake each other
            known = self._bars.setdefault(state["id"], {"started": time.monotonic(), "number": 0})
            if state["number"] < known["number"]:
                return
            known.update(state)
            if state["closed"]:
                self._over.append(state["id"])
            if self._terminal:
                self._erase()
                if state["closed"]:
                    self._out.write(_line(self._bars.pop(state["id"])) + "\n")
                self._draw()
            else:
                self._print_plain(known)

    def take(self, line: str) -> bool:
        """Show the state in a line of a worker's output. False when the line is none of ours."""
        if not line.startswith(MARK):
            return False
        try:
            state = json.loads(line[len(MARK) :])
            self.update(state)
        except (ValueError, KeyError, TypeError):
            return False
        return True

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Take bars and regions away while something else is printed."""
        with self._lock:
            if self._terminal:
                self._erase()
                self._out.flush()
            for region in reversed(self._regions):
                region.erase()
            try:
                yield
            finally:
                for region in self._regions:
                    region.draw()
                if self._terminal:
                    self._draw()

    def _print_plain(self, bar: dict[str, Any]) -> None:
        now = time.monotonic()
        # A full bar is about to close: it prints its last line then, and only then.
        full = bar["n"] == bar["total"]
        if bar["closed"] or (not full and now - self._printed.get(bar["id"], -math.inf) >= PLAIN_INTERVAL_S):
            self._printed[bar["id"]] = now
            self._out.write(_line(bar) + "\n")
            self._out.flush()
        if bar["closed"]:
            self._bars.pop(bar["id"], None)
            self._printed.pop(bar["id"], None)

    def _erase(self) -> None:
        if self._drawn:
            self._out.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0

    def _draw(self) -> None:
        bars = sorted(self._bars.values(), key=lambda bar: bar["position"])
        for bar in bars:
            self._out.write(_line(bar) + "\n")
        self._drawn = len(bars)
        self._out.flush()


def _line(bar: dict[str, Any]) -> str:
    seconds = max(time.monotonic() - bar["started"], 1e-9)
    rate = f"{bar['n'] / seconds:.1f} {bar['unit']}/s"
    head = f"{bar['desc']}: " if bar["desc"] else ""
    if not bar["total"]:
        return f"{head}{bar['n']} {bar['unit']} [{seconds:.0f} s, {rate}]"
    part = min(bar["n"] / bar["total"], 1.0)
    full = round(part * _WIDTH)
    drawn = "#" * full + "." * (_WIDTH - full)
    return f"{head}{part:4.0%} |{drawn}| {bar['n']}/{bar['total']} [{seconds:.0f} s, {rate}]"


_display: Display | None = None


def display() -> Display:
    """Return the display of this process."""
    global _display
    if _display is None:
        _display = Display()
    return _display
