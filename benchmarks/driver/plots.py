"""Plots of a run as SVG, with matplotlib (Debian: python3-matplotlib). Without it there are none, and a line says so."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
_COLOURS = {"Trireme": "#2a7f62", "Ray": "#b3432b", "MPI": "#3b6ea8"}
_GREY = "#999999"
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def bytes_of(text: str) -> int:
    found = re.fullmatch(r"(\d+)(KiB|MiB|GiB)?", text)
    if found is None:
        raise ValueError(f"{text}: expected a size such as 64KiB")
    return int(found[1]) * _UNITS[found[2] or "B"]


def _systems(records: list[Record], names: list[str]) -> dict[str, list[float | None]]:
    """The figure of each system in each of the measures; None where it has none."""
    found: dict[str, list[float | None]] = {}
    for i, name in enumerate(names):
        for record in (r for r in records if r["name"] == name):
            for system, value in (("Trireme", record["value"]), (record["anchor"], record["anchor_value"])):
                if system and value is not None:
                    found.setdefault(system, [None] * len(names))[i] = value
    return found


def _bars(axes: Any, records: list[Record], names: list[str], convert: Callable[[float], float], label: str) -> None:
    systems = _systems(records, names)
    width = 0.8 / max(1, len(systems))
    for k, (system, values) in enumerate(systems.items()):
        places = [i + k * width - 0.4 + width / 2 for i, v in enumerate(values) if v]
        axes.bar(places, [convert(v) for v in values if v], width, label=system, color=_COLOURS.get(system, _GREY))
    axes.set_xticks(range(len(names)), [name.removeprefix("python.") for name in names], rotation=20, ha="right")
    axes.set_yscale("log")
    axes.set_ylabel(label)
    axes.legend(fontsize=8)


def _present(records: list[Record], pattern: str) -> list[str]:
    return list(dict.fromkeys(r["name"] for r in records if re.fullmatch(pattern, r["name"]) and (r["value"] or r["anchor_value"])))


def _latency(axes: Any, records: list[Record]) -> bool:
    names = _present(records, r"python\.(task|call|async)\.one|python\.(get|put)")
    _bars(axes, records, names, lambda v: v, "microseconds, less is better")
    return bool(names)


def _throughput(axes: Any, records: list[Record]) -> bool:
    names = _present(records, r"python\.(task|call|async)\.(batch|many|n_to_n)")
    _bars(axes, records, names, lambda us: 1e6 / us, "calls a second, more is better")
    return bool(names)


def _bandwidth(axes: Any, records: list[Record]) -> bool:
    any_line = False
    for kind in ("put", "pull"):
        lines: dict[str, list[tuple[int, float]]] = {}
        for record in records:
            found = re.fullmatch(rf"{kind}\.(\d+\w*)", record["name"])
            if not found:
                continue
            for system, value in (("Trireme", record["value"]), (record["anchor"], record["anchor_value"])):
                if system and value is not None:
                    lines.setdefault(f"{kind}, {system}", []).append((bytes_of(found[1]), value))
        for label, points in lines.items():
            axes.plot(*zip(*sorted(points)), marker="o", linestyle="-" if "Trireme" in label else "--", label=label)
            any_line = True
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("bytes")
    axes.set_ylabel("GB/s, more is better")
    if any_line:
        axes.legend(fontsize=8)
    return any_line


def _metg(axes: Any, records: list[Record]) -> bool:
    names = _present(records, r"(python\.)?metg\.(trivial|stencil_1d|fft|tree)")
    _bars(axes, records, names, lambda v: v, "METG(50%) in microseconds, less is better")
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    return bool(names)


def _scaling(axes: Any, records: list[Record]) -> bool:
    lines: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        found = re.fullmatch(r"scale\.(\w+)\.(\d+)", record["name"])
        if found and record["value"] is not None:
            lines.setdefault(found[1], []).append((int(found[2]), record["value"]))
    for label, points in lines.items():
        axes.plot(*zip(*sorted(points)), marker="o", label=label)
    axes.axhline(0.9, color=_GREY, linestyle="--", label="goal")
    axes.set_xscale("log")
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("simulated ranks, 10 ms tasks")
    axes.set_ylabel("share of perfect balance")
    axes.legend(fontsize=8)
    return bool(lines)


PLOTS = {"latency": _latency, "throughput": _throughput, "bandwidth": _bandwidth, "metg": _metg, "scaling": _scaling}


def draw(records: list[Record], folder: Path) -> list[Path]:
    """Writes the plots for which the run has figures; gives their paths."""
    try:
        import matplotlib

        matplotlib.use("svg")
        from matplotlib import pyplot
    except ImportError:
        print("no plots: matplotlib is not installed (Debian: python3-matplotlib)", file=sys.stderr)
        return []
    matplotlib.rcParams["svg.hashsalt"] = "trireme"  # the same figures give the same file
    written = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, plot in PLOTS.items():
        figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
        if plot(axes, records):
            path = folder / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None})
            written.append(path)
        pyplot.close(figure)
    return written
