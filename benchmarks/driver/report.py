"""Shows the figures: a table for the terminal, one for docs/benchmarks.md, and what they were measured on."""

from __future__ import annotations

import os
import platform
import re
import statistics
from datetime import UTC, datetime
from pathlib import Path

from .measure import Comparison
from .spec import Programs, Row, core_count

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def number(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def machine(programs: Programs) -> dict[str, str]:
    """What a reader must know to compare; no host name."""
    facts = {"cores": str(core_count()), "kernel": ".".join(platform.release().split(".")[:2])}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            facts["processor"] = line.split(":", 1)[1].strip()
            break
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    facts["memory"] = f"{pages / 2**30:.0f} GiB"
    release = Path("/etc/os-release")
    if release.exists():
        found = re.search(r'^PRETTY_NAME="?([^"\n]*)', release.read_text(), re.MULTILINE)
        facts["system"] = found.group(1) if found else ""
    facts["date"] = datetime.now(UTC).strftime("%Y-%m-%d")
    facts["load before"] = f"{os.getloadavg()[0]:.1f}"
    facts.update({peer: version for peer, version in sorted(programs.versions().items())})
    return facts


def _goal_text(comparison: Comparison) -> str:
    goal = comparison.goal
    if goal is None:
        return ""
    if goal.value_at_most is not None:
        return f"<= {number(goal.value_at_most)}"
    if goal.value_at_least is not None:
        return f">= {number(goal.value_at_least)}"
    return f"<= {number(goal.at_most)}x" if goal.at_most is not None else f">= {number(goal.at_least)}x"


def _cells(c: Comparison) -> list[str]:
    subject, anchor, ratios = c.subject_figures, c.anchor_figures, c.ratios
    unit = (subject or anchor).unit if (subject or anchor) else ""
    spread = ""
    if ratios or subject or anchor:
        record = c.record()
        spread = f"{record['spread']:.0%}"
    return [
        c.measure.name, unit,
        number(subject.median) if subject else "-",
        c.anchor or "-",
        number(anchor.median) if anchor else "-",
        number(statistics.median(ratios)) if ratios else "-",
        spread, _goal_text(c), "; ".join(filter(None, (c.verdict(), c.note))),
    ]


HEAD = ["measure", "unit", "Trireme", "anchor", "its figure", "ratio", "spread", "goal", "verdict"]


def terminal(comparisons: list[Comparison]) -> str:
    table = [HEAD, *(_cells(c) for c in comparisons)]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEAD) - 1)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[-1]]).rstrip()
                     for row in table)


def markdown(rows: list[Row], comparisons: list[Comparison], facts: dict[str, str], missing: dict[str, str]) -> str:
    lines = ["Measured on: " + "; ".join(f"{key} {value}" for key, value in facts.items()) + ".", ""]
    if missing:
        lines += ["Peers not installed: " + ", ".join(f"{peer} ({package})" for peer, package in missing.items()) + ".", ""]
    lines += ["| what | " + " | ".join(HEAD) + " |", "|---" * (len(HEAD) + 1) + "|"]
    by_row: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        by_row.setdefault(comparison.measure.row, []).append(comparison)
    for row in rows:
        if not row.measures:
            lines.append(f"| {row.name} |" + " |" * (len(HEAD) - 2) + f" {row.goal} | no program yet |")
        for i, comparison in enumerate(by_row.get(row.name, [])):
            cells = _cells(comparison)
            lines.append("| " + " | ".join([row.name if i == 0 else "", *cells]) + " |")
    missed = {c.measure.name: c for c in comparisons if c.verdict().startswith("missed")}
    if missed:
        lines += ["", "What holds back the goals that are missed (figures that the table does not hold: 2 cores of an AMD EPYC, "
                      "where no other machine is named):", ""]
        lines += [f"- {name} ({c.verdict()}): {c.measure.limit or 'not profiled yet'}" for name, c in missed.items()]
    return "\n".join(lines)


def write_docs(path: Path, text: str) -> None:
    """Replaces what stands between the markers; the rest of the page is written by hand."""
    page = path.read_text()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{path}: the markers '{BEGIN}' and '{END}' are missing")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
