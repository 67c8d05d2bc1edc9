"""What a hot path costs in things that do not depend on how busy the machine is.

usage: counts.py PATH_OF_HOT PATH_OF_HOT_PY WHAT.PATH[,WHAT.PATH...]

WHAT is instructions, allocations or syscalls; PATH is a case of cpp/hot.cpp, or `python.` and one of python/hot.py. Two runs of
different length are subtracted, so starting and ending do not count. Instructions and calls of malloc: valgrind's callgrind, the
rank's process with all its threads. System calls: `perf stat` where it may count them, else strace, of all processes of the
session; strace slows them down so much that threads that would look for a moment sleep. Python's own small objects do not come
from malloc.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Of Python and of C++. A thread that looks for work a little longer in one run than in the other must not show.
LENGTHS = {True: (1000, 3000), False: (5_000, 25_000)}
PERF_LENGTHS = (1_000, 101_000)  # of both: nothing slows the programs down
PERF = ("stat", "-x,", "-e", "raw_syscalls:sys_enter")
LIMIT_S = 100
ALLOCATIONS = ("malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "memalign")


class Failed(Exception):
    """A tool that is missing, or a program that did not end well."""


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise Failed(f"{name} is not installed (Debian: {name})")
    return path


def run(command: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise Failed(f"{command[0]} ended with status {done.returncode}: {last}")


def callgrind(command: list[str], out: Path) -> tuple[int, int]:
    """Instructions, and calls of malloc and its kin."""
    run([tool("valgrind"), "--tool=callgrind", f"--callgrind-out-file={out}", "--trace-children=no", "--quiet", *command])
    names: dict[str, str] = {}
    callee = ""
    instructions = allocations = 0
    for line in out.read_text(errors="replace").splitlines():
        if named := re.match(r"(c?fn)=\((\d+)\)(?: (.*))?$", line):
            if named[3]:
                names[named[2]] = re.sub(r"@.*|'\d+$", "", named[3])
            if named[1] == "cfn":
                callee = names.get(named[2], "")
        elif line.startswith("calls=") and callee in ALLOCATIONS:
            allocations += int(line[6:].split()[0])
        elif line.startswith(("summary:", "totals:")):
            instructions = int(line.split()[1])
    out.unlink()
    return instructions, allocations


@functools.cache
def perf_counts() -> bool:
    """Whether perf is there and may count system calls."""
    path = shutil.which("perf")
    return path is not None and subprocess.run([path, *PERF, "--", "true"], capture_output=True, check=False).returncode == 0


def perf(command: list[str], folder: Path) -> int:
    """System calls of all processes from start to end."""
    out = folder / "perf.out"
    run([tool("perf"), *PERF, "-o", str(out), "--", *command])
    counted = re.search(r"^(\d+),.*raw_syscalls:sys_enter", out.read_text(), re.MULTILINE)
    out.unlink()
    if counted is None:
        raise Failed("perf counted no system calls")
    return int(counted[1])


def strace(command: list[str], folder: Path) -> int:
    """System calls of all processes, between the marks if there are any."""
    out = folder / "strace.out"
    run([tool("strace"), "-f", "-qq", "-o", str(out), *command])
    marks = "counting-begins"
    text = out.read_text(errors="replace").splitlines()
    calls = [line for line in text if re.match(r"\d+\s+\w+\(", line)]
    first = next((i for i, line in enumerate(calls) if f'access("/{marks}' in line and "read(" not in line), None)
    if first is not None:
        last = next(i for i, line in enumerate(calls) if 'access("/counting-ends' in line and "read(" not in line)
        calls = calls[first + 1 : last]
    out.unlink()
    return len(calls)


class Counter:
    """Runs each program once for each length, however much is asked of it."""

    def __init__(self, hot: str, hot_py: str, folder: Path) -> None:
        self._hot = hot
        self._hot_py = hot_py
        self._folder = folder
        self._seen: dict[tuple[str, str, int], dict[str, int]] = {}

    def _command(self, path: str, count: int) -> list[str]:
        if path.startswith("python."):
            return [sys.executable, self._hot_py, path.removeprefix("python."), f"count={count}"]
        threads = 2 if path == "steal" else 1
        return [self._hot, f"--trireme-threads={threads}", path, f"count={count}"]

    def _counts(self, what: str, path: str, count: int) -> int:
        how = "callgrind" if what != "syscalls" else "perf" if perf_counts() else "strace"
        key = (how, path, count)
        if key not in self._seen:
            command = self._command(path, count)
            if how == "perf":
                self._seen[key] = {"syscalls": perf(command, self._folder)}
            elif how == "strace":
                self._seen[key] = {"syscalls": strace(command, self._folder)}
            else:
                instructions, allocations = callgrind(command, self._folder / f"callgrind.{count}")
                self._seen[key] = {"instructions": instructions, "allocations": allocations}
        return self._seen[key][what]

    def of_one(self, what: str, path: str) -> float:
        if what not in ("instructions", "allocations", "syscalls"):
            raise ValueError(f"{what}: instructions, allocations and syscalls can be counted")
        lengths = PERF_LENGTHS if what == "syscalls" and perf_counts() else LENGTHS[path.startswith("python.")]
        # Python takes long to start under callgrind, so both lengths run at once. Whoever runs beside another takes longer and so
        # looks for messages more often, which shows in C++'s few instructions.
        with ThreadPoolExecutor(2 if path.startswith("python.") and what != "syscalls" else 1) as pool:
            short, long = pool.map(lambda count: self._counts(what, path, count), lengths)
        return (long - short) / (lengths[1] - lengths[0])


def main() -> int:
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        return 2
    hot, hot_py, cases = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        counter = Counter(hot, hot_py, Path(folder))
        for case in cases.split(","):
            what, _, path = case.partition(".")
            try:
                print(json.dumps({"case": case, "unit": f"{what}/op", "value": counter.of_one(what, path)}), flush=True)
            except (Failed, ValueError, OSError, subprocess.SubprocessError) as error:
                print(json.dumps({"case": case, "error": str(error)[:300]}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
