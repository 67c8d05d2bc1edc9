#!/usr/bin/env python3
"""Prints what was slow and what was skipped in a run of scripts/test.sh.

Usage: test_report.py DIR, with ctest's JUnit files (<part>.xml) and `times` (lines of "<name> <seconds>") in DIR.
Exit status 1 when CI=true and a test was skipped for want of anything but a GPU.
"""

import os
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

SLOWEST_SHOWN = 10


def main(folder: Path) -> int:
    seconds: list[tuple[float, str]] = []
    skipped: list[tuple[str, str]] = []
    for path in sorted(folder.glob("*.xml")):
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            name = f"{path.stem}: {case.get('name')}"
            seconds.append((float(case.get("time", 0)), name))
            # ctest calls a disabled test "disabled" and one that was skipped or could not start "notrun".
            if case.find("skipped") is not None:
                found = re.search(r"SKIPPED: (.*)", case.findtext("system-out") or "")
                skipped.append((name, found.group(1) if found else "no reason given"))

    times = folder / "times"
    if times.exists():
        print("seconds:", ", ".join(times.read_text().splitlines()))
    print("slowest tests:")
    for spent, name in sorted(seconds, reverse=True)[:SLOWEST_SHOWN]:
        print(f"  {spent:7.1f} s  {name}")
    for name, reason in skipped:
        print(f"skipped: {name}: {reason}")

    if os.environ.get("CI") == "true" and any("GPU" not in reason for _, reason in skipped):
        print("CI=true: a skipped test is a failure")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
