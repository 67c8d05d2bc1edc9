"""What is measured: goals.json and the list of built programs, read and expanded."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def core_count() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Command:
    """One system's side of a measure. `ranks` > 0 means: under mpirun, with the words of `launch` behind it; `apart`:
    each rank a node of its own."""

    name: str
    program: str
    args: tuple[str, ...] = ()
    ranks: int = 0
    apart: bool = False
    launch: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict, hash=False)
    scale: float = 1.0


@dataclass(frozen=True)
class Goal:
    """A bound on the ratio to `anchor`, or on the value itself where there is no anchor."""

    anchor: str = ""
    at_most: float | None = None
    at_least: float | None = None
    value_at_most: float | None = None
    value_at_least: float | None = None

    def excess(self, value: float, ratio: float | None) -> float | None:
        """How many times worse than the bound; 1 is just met. None without the figure that it needs."""
        if self.value_at_most is not None:
            return value / self.value_at_most
        if self.value_at_least is not None:
            return self.value_at_least / value if value else float("inf")
        if ratio is None or not ratio:
            return None
        return ratio / self.at_most if self.at_most is not None else (self.at_least or 0.0) / ratio


@dataclass(frozen=True)
class Measure:
    row: str
    name: str
    what: str
    subject: Command | None
    anchors: tuple[Command, ...]
    goal: Goal | None
    wall: bool
    polls: int
    full_only: bool
    once: bool  # deterministic: every repeat would give the same


@dataclass(frozen=True)
class Row:
    name: str
    goal: str
    measures: tuple[Measure, ...]


def _fill(value: Any, words: dict[str, str]) -> Any:
    """Puts the words of one expansion into every {placeholder} of a piece of goals.json."""
    if isinstance(value, str):
        for key, word in words.items():
            value = value.replace("{" + key + "}", word)
        return value
    if isinstance(value, list):
        return [_fill(item, words) for item in value]
    if isinstance(value, dict):
        return {key: _fill(item, words) for key, item in value.items()}
    return value


def _count(value: Any) -> int:
    return core_count() if value == "cores" else int(value)


def _command(raw: dict[str, Any], name: str) -> Command:
    return Command(name=raw.get("name", name), program=raw["program"], args=tuple(raw.get("args", [])),
                   ranks=_count(raw.get("ranks", 0)), apart=raw.get("apart", False),
                   launch=tuple(raw.get("launch", [])), env=raw.get("env", {}),
                   scale=raw.get("scale", 1.0))


def _measures(row: str, raw: dict[str, Any]) -> list[Measure]:
    axes: dict[str, list[str]] = raw.get("each", {})
    expanded = []
    for choice in itertools.product(*axes.values()):
        one = _fill(raw, dict(zip(axes, choice), cores=str(core_count())))
        expanded.append(Measure(
            row=row, name=one["name"], what=one["what"],
            subject=_command(one["subject"], "Trireme") if "subject" in one else None,
            anchors=tuple(_command(anchor, "") for anchor in one.get("anchors", [])),
            goal=Goal(**one["goal"]) if "goal" in one else None,
            wall=one.get("time") == "wall", polls=_count(one.get("polls", 0)), full_only=one.get("full_only", False),
            once=one.get("once", False)))
    return expanded


def load_rows(path: Path) -> list[Row]:
    raw = json.loads(path.read_text())
    return [Row(row["row"], row["goal"], tuple(m for one in row["measures"] for m in _measures(row["row"], one)))
            for row in raw["rows"]]


class Programs:
    """The programs that this build has, and the peers that were not found."""

    def __init__(self, path: Path) -> None:
        self._entries: dict[str, dict[str, Any]] = json.loads(path.read_text())

    def why_missing(self, command: Command) -> str | None:
        """None if the program can run, else a line for the table."""
        entry = self._entries.get(command.program)
        if entry is None:
            return f"{command.program} is not built"
        if "missing" in entry:
            return f"{entry['peer']} is not installed ({entry['missing']})"
        return None

    def argv(self, command: Command, python: str) -> list[str]:
        words = self._entries[command.program]["command"]
        return [word.replace("{python}", python) for word in words] + list(command.args)

    def versions(self) -> dict[str, str]:
        return {e["peer"]: e["version"] for e in self._entries.values() if e.get("version") and e.get("peer")}

    def missing_peers(self) -> dict[str, str]:
        return {e["peer"]: e["missing"] for e in self._entries.values() if "missing" in e}
