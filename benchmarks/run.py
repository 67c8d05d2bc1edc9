#!/usr/bin/python3
"""Runs the benchmarks that are installed and says how far each goal is met.

Every measure compares Trireme with its anchors by running them in turn (A B A B ...), each sample in fresh
processes. Quick by default; FULL=1 takes more repeats and the longer measures. Only the standard library is needed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

from driver import picture, plots, report
from driver.measure import Comparison, Runner
from driver.spec import Programs, core_count, load_rows

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "bench", help="build folder of the programs")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench" / "results.json",
                        help="the results; machine.json and goals.svg go beside them")
    parser.add_argument("--only", default="", help="regular expression on the names of the measures")
    parser.add_argument("--repeats", type=int, help="turns of every measure; without it five, three where a peer takes "
                        "minutes, and eleven with FULL=1")
    parser.add_argument("--anchors", action="store_true", help="the anchors alone, to see what a machine can do")
    parser.add_argument("--docs", action="store_true", help="write table and picture into docs/ (a whole run does it anyway)")
    parser.add_argument("--goals", type=Path, default=HERE / "goals.json", help="the measures and their goals")
    parser.add_argument("--list", action="store_true", help="print the names of the measures")
    return parser.parse_args()


def write(path: Path, comparisons: list[Comparison]) -> None:
    path.write_text(json.dumps([c.record() for c in comparisons], indent=1) + "\n")


def interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    options = parse()
    full = os.environ.get("FULL") == "1"
    repeats = options.repeats or (11 if full else 5)
    rows = load_rows(options.goals)
    chosen = [m for row in rows for m in row.measures if re.search(options.only, m.name)
              and (full or not m.full_only) and (m.anchors or not options.anchors)]
    if options.list:
        print("\n".join(f"{m.name}: {m.what}" for m in chosen))
        return 0
    manifest = options.build / "benchmarks" / "programs.json"
    if not manifest.exists():
        print(f"{manifest} is missing: configure with -DTRIREME_BENCHMARKS=ON and build {options.build} first",
              file=sys.stderr)
        return 2
    if repeats < 5:
        print("fewer than five repeats: a look, not a figure", file=sys.stderr)
    programs = Programs(manifest, ROOT / "build" / "peers")
    folder = options.out.resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    facts = report.machine(programs)
    if os.getloadavg()[0] > 0.5 * core_count():
        print(f"others are busy on this machine (load {facts['load before']}): expect wide spreads", file=sys.stderr)

    runner = Runner(programs, options.build.resolve(), repeats, quick=not full and options.repeats is None)
    comparisons: list[Comparison] = []
    done = 0
    begin = time.monotonic()
    for _, members in itertools.groupby(enumerate(chosen), lambda pair: pair[1].session or pair[0]):
        together = [measure for _, measure in members]
        done += len(together)
        more = f" and {len(together) - 1} more in one process" if len(together) > 1 else ""
        seconds = time.monotonic() - begin
        print(f"[{done}/{len(chosen)}, {seconds:.0f} s] {together[0].name}{more}", file=sys.stderr, flush=True)
        try:
            comparisons += runner.compare(together, with_subject=not options.anchors)
        except KeyboardInterrupt as why:
            write(options.out, comparisons)
            print(report.terminal(comparisons))
            print(f"ended by {why} after {len(comparisons)} comparisons: they are in {options.out}, the rest is missing and "
                  "docs/ is as it was", file=sys.stderr)
            return 130
    longest = sorted(runner.spent_s.items(), key=lambda entry: -entry[1])
    print(f"took {(time.monotonic() - begin) / 60:.1f} minutes: " + ", ".join(f"{name} {s / 60:.1f}" for name, s in longest if s >= 6),
          file=sys.stderr)

    write(options.out, comparisons)
    (folder / "machine.json").write_text(json.dumps(facts, indent=1) + "\n")
    (folder / "goals.svg").write_text(picture.draw(comparisons))
    print(report.terminal(comparisons))
    for peer, package in programs.missing_peers().items():
        print(f"not installed: {peer} (Debian: {package})")
    if options.docs or not (options.only or options.anchors):
        text = report.markdown(rows, comparisons, facts, programs.missing_peers())
        report.write_docs(ROOT / "docs" / "benchmarks.md", text)
        (ROOT / "docs" / "benchmarks" / "goals.svg").write_text(picture.draw(comparisons))
        plots.draw([c.record() for c in comparisons], ROOT / "docs" / "benchmarks")
    return 0


if __name__ == "__main__":
    sys.exit(main())
