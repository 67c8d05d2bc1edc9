#!/usr/bin/env python3
"""Prints what was slow and what was skipped in a run of scripts/test.sh, and how pytest closed where it was run.

Usage: test_report.py DIR, with ctest's JUnit files (<part>.xml) and `times` (lines of "<name> <seconds>") in DIR.
Exit status 1 when CI=true and a test was skipped for want of anything but a GPU. What pytest itself skips inside a file is
listed, and is no failure: it names packages that Debian does not have.
"""

import os
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

SLOWEST_SHOWN = 10
# "== 12 passed, 1 skipped in 3.21s ==", with or without the rules around it.
PYTEST_CLOSING = re.compile(r"^(?:=+ )?((?:\d+ [a-z]+(?:, )?)+) in [\d.]+s(?: \([\d:]+\))?(?: =+)?$", re.MULTILINE)
PYTEST_SKIPPED = re.compile(r"^SKIPPED \[\d+\] (?:\S+: )?(.*)$", re.MULTILINE)


def main(folder: Path) -> int:
    seconds: list[tuple[float, str]] = []
    skipped: list[tuple[str, str]] = []
    pytest_skipped: list[tuple[str, str]] = []
    closings: list[tuple[str, str]] = []
    for path in sorted(folder.glob("*.xml")):
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            name = f"{path.stem}: {case.get('name')}"
            seconds.append((float(case.get("time", 0)), name))
            # ctest calls a disabled test "disabled" and one that was skipped or could not start "notrun".
            if case.find("skipped") is not None:
                found = re.search(r"SKIPPED: (.*)", case.findtext("system-out") or "")
                skipped.append((name, found.group(1) if found else "no reason given"))

            output = case.findtext("system-out") or ""
            if closing := PYTEST_CLOSING.findall(output):
                closings.append((name, closing[-1]))
                pytest_skipped += [(name, reason) for reason in PYTEST_SKIPPED.findall(output)]

    times = folder / "times"
    if times.exists():
        print("seconds:", ", ".join(times.read_text().splitlines()))
    print("slowest tests:")
    for spent, name in sorted(seconds, reverse=True)[:SLOWEST_SHOWN]:
        print(f"  {spent:7.1f} s  {name}")
    for name, reason in skipped:
        print(f"skipped: {name}: {reason}")

    for name, reason in pytest_skipped:
        print(f"skipped by pytest: {name}: {reason}")
    print_pytest(closings)

    if os.environ.get("CI") == "true" and any("GPU" not in reason for _, reason in skipped):
        print("CI=true: a skipped test is a failure")
        return 1
    return 0


def print_pytest(closings: list[tuple[str, str]]) -> None:
    """One line per file, then pytest's closing line for all of them."""
    if not closings:
        return
    total: dict[str, int] = {}
    for name, closing in closings:
        print(f"pytest: {name}: {closing}")
        for number, what in re.findall(r"(\d+) ([a-z]+)", closing):
            what = {"errors": "error", "warnings": "warning"}.get(what, what)
            total[what] = total.get(what, 0) + int(number)
    shown = ["failed", "passed", "skipped", "xfailed", "xpassed", "error"]
    print(
        "=== "
        + ", ".join(f"{total[what]} {what}" for what in shown if what in total)
        + f" in {len(closings)} files ==="
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
