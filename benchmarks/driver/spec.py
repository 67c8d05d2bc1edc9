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
    unit: str = ""  # what a scaled figure is to be called
    session: bool = False  # args[0] is a case that the program can take together with others in one process


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
            # Counts whose goal is none at all: what is left of a share of one is rounding.
            return value / self.value_at_most if self.value_at_most else (1.0 if value < 0.005 else float("inf"))
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
    goals: tuple[Goal, ...]
    wall: bool
    polls: int
    full_only: bool
    once: bool  # deterministic or very long: one sample
    quick_repeats: int  # turns at most when nobody has said how many; 0: as many as the others
    limit: str  # what holds it back while it misses its goal, as far as a profile has shown
    session: str  # measures of the same session are sampled together, see Runner.compare()

    def systems(self, with_subject: bool = True) -> list[Command]:
        return [*self.anchors, *([self.subject] if self.subject and with_subject else [])]

    @property
    def goal(self) -> Goal | None:
        return self.goals[0] if self.goals else None

    def goal_against(self, anchor: str | None) -> Goal | None:
        """The goal that compares with this anchor; a bound on the value itself stands where there is none, or with the first."""
        for goal in self.goals:
            if goal.anchor == (anchor or ""):
                return goal
        first = self.anchors[0].name if self.anchors else None
        return next((goal for goal in self.goals if not goal.anchor), None) if anchor == first else None


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
                   scale=raw.get("scale", 1.0), unit=raw.get("unit", ""),
                   session=raw.get("session", False))


def _measures(row: str, raw: dict[str, Any]) -> list[Measure]:
    axes: dict[str, list[str]] = raw.get("each", {})
    expanded = []
    for choice in itertools.product(*axes.values()):
        one = _fill(raw, dict(zip(axes, choice), cores=str(core_count())))
        expanded.append(Measure(
            row=row, name=one["name"], what=one["what"],
            subject=_command(one["subject"], "Trireme") if "subject" in one else None,
            anchors=tuple(_command(anchor, "") for anchor in one.get("anchors", [])),
            goals=tuple(Goal(**goal) for goal in one.get("goals", [one["goal"]] if "goal" in one else [])),
            wall=one.get("time") == "wall", polls=_count(one.get("polls", 0)), full_only=one.get("full_only", False),
            once=one.get("once", False), quick_repeats=one.get("quick_repeats", 0), limit=one.get("limit", ""),
            session=one.get("session", "")))
    return expanded


def load_rows(path: Path) -> list[Row]:
    raw = json.loads(path.read_text())
    return [Row(row["row"], row["goal"], tuple(m for one in row["measures"] for m in _measures(row["row"], one)))
            for row in raw["rows"]]


class Programs:
    """The programs that this build has, and the peers that were not found."""

    def __init__(self, path: Path, peers: Path) -> None:
        """`path`: what CMake wrote. `peers`: the environment that `make bench-peers` made, if it did."""
        self._entries: dict[str, dict[str, Any]] = json.loads(path.read_text())
        self._peers = peers
        for entry in self._entries.values():
            if "{peers}" not in entry.get("command", []):
                continue
            package = entry["peer"].lower()
            version = self._version_of(package)
            if version is None:
                entry["missing"] = "make bench-peers"
            else:
                entry["version"] = version

    def _version_of(self, package: str) -> str | None:
        """Of a package of the peers' environment; None if it is not there."""
        for folder in self._peers.glob(f"lib/python3*/site-packages/{package}-*.dist-info"):
            return folder.name.removesuffix(".dist-info").split("-", 1)[1]
        return None

    def why_missing(self, command: Command) -> str | None:
        """None if the program can run, else a line for the table."""
        entry = self._entries.get(command.program)
        if entry is None:
            return f"{command.program} is not built"
        if "missing" in entry:
            return f"{entry['peer']} is not installed ({entry['missing']})"
        program = entry["command"][0]
        if program.startswith("/") and not Path(program).exists():
            return f"{program} is missing: build it"
        return None

    def argv(self, command: Command, python: str, cases: tuple[str, ...] = ()) -> list[str]:
        """`cases`: in place of the one that the command names, for a program that takes several."""
        words = self._entries[command.program]["command"]
        places = {"{python}": python, "{peers}": str(self._peers / "bin" / "python")}
        args = [",".join(cases), *command.args[1:]] if cases else [*command.args]
        return [places.get(word, word) for word in words] + args

    def versions(self) -> dict[str, str]:
        return {e["peer"]: e["version"] for e in self._entries.values() if e.get("version") and e.get("peer")}

    def missing_peers(self) -> dict[str, str]:
        return {e["peer"]: e["missing"] for e in self._entries.values() if "missing" in e}
