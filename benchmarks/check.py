#!/usr/bin/python3
"""Compares a run with the committed baseline and says what got worse.

Figures are compared as ratios to their anchors, which a busy or slower machine moves too; figures without an anchor (counts,
memory, simulations) as they are. Worse means: by more than both spreads together, and by at least a tenth (counts of
instructions: a fiftieth).

usage: check.py [--results build/bench/results.json] [--baseline benchmarks/baseline.json] [--update]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MORE_IS_BETTER = ("/s", "of perfect")
NOISE = 0.10
NOISE_OF_COUNTS = 0.02
# Times without an anchor say nothing on another machine, or beside other work.
TIMES = ("ns", "us", "ms", "s")
KEPT = ("name", "unit", "value", "anchor", "ratio", "spread")


def figure(record: dict[str, Any]) -> float | None:
    if record["ratio"] is not None:
        return record["ratio"]
    unit = record["unit"].split("/")[0]
    return None if record["anchor"] or unit in TIMES or record["unit"].endswith("/s") else record["value"]


def change(before: dict[str, Any], after: dict[str, Any]) -> tuple[float, float] | None:
    """How much worse, as a share (negative: better), and how much of it may be noise; None where nothing compares."""
    old, new = figure(before), figure(after)
    if old is None or new is None or before["unit"] != after["unit"]:
        return None
    more = before["unit"].endswith(MORE_IS_BETTER)
    noise = (before["spread"] or 0) + (after["spread"] or 0) + (NOISE_OF_COUNTS if before["unit"] == "instructions/op" else NOISE)
    if before["unit"] in ("allocations/op", "syscalls/op"):
        # Around zero a share says nothing; how often a side that waits gives way depends on the machine.
        return (new - old, max(0.1, old if before["unit"] == "syscalls/op" else noise * old))
    if not old or not new:
        return None
    return ((old / new if more else new / old) - 1, noise)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=HERE.parent / "build" / "bench" / "results.json")
    parser.add_argument("--baseline", type=Path, default=HERE / "baseline.json")
    parser.add_argument("--update", action="store_true", help="the results become the baseline; measures not run stay")
    options = parser.parse_args()
    if not options.results.exists():
        print(f"{options.results} is missing: run make bench first", file=sys.stderr)
        return 2
    results = {(r["name"], r["anchor"]): r for r in json.loads(options.results.read_text())}
    known = {}
    if options.baseline.exists():
        known = {(r["name"], r["anchor"]): r for r in json.loads(options.baseline.read_text())}
    if options.update:
        for key, record in results.items():
            if record["value"] is not None:
                known[key] = {field: record[field] for field in KEPT}
        options.baseline.write_text("[\n" + ",\n".join(json.dumps(record) for record in known.values()) + "\n]\n")
        print(f"{options.baseline}: {len(known)} measures")
        return 0
    if not known:
        print(f"{options.baseline} is missing: write it with {sys.argv[0]} --update", file=sys.stderr)
        return 2
    worse, better, compared = [], [], 0
    for key, before in known.items():
        after = results.get(key)
        if after is None:
            continue
        if after["value"] is None:
            worse.append(f"{key[0]} has no figure any more: {after['note']}")
            continue
        found = change(before, after)
        if found is None:
            continue
        compared += 1
        by, noise = found
        against = f" against {key[1]}" if key[1] else ""
        line = f"{key[0]}{against}: {figure(before):.4g} -> {figure(after):.4g} ({before['unit']}; noise {noise:.2g})"
        if by > noise:
            worse.append(line)
        elif by < -noise:
            better.append(line)
    for line in better:
        print(f"better  {line}")
    for line in worse:
        print(f"WORSE   {line}")
    print(f"{compared} measures compared with the baseline: {len(worse)} worse, {len(better)} better")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
