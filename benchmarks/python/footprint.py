"""What an idle session costs: memory, threads and CPU.

usage: footprint.py ray|trireme CASE[,CASE...]

worker_*: a worker process that ran one task. rank_*: this process (with Ray the driver). all_*: this process and everything
that it started, which with Ray are gcs, raylet and agents too.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import runtime

IDLE_S = 2.0


def field(process: int, file: str, key: str) -> float:
    """A number of a /proc file, in its own unit; the sum where there are several lines."""
    lines = Path(f"/proc/{process}/{file}").read_text().splitlines()
    found = [int(line.split()[1]) for line in lines if line.split(":")[0] == key]
    if not found:
        raise LookupError(f"/proc/{process}/{file} has no {key}")
    return float(sum(found))


def private_mb(process: int) -> float:
    return (field(process, "smaps_rollup", "Private_Clean") + field(process, "smaps_rollup", "Private_Dirty")) * 1024 / 1e6


def share_mb(process: int) -> float:
    """Its memory, with what several processes map divided among them."""
    return field(process, "smaps_rollup", "Pss") * 1024 / 1e6


def cpu_s(process: int) -> float:
    """Of all of its threads, to the nanosecond: /proc/*/stat counts in steps of 10 ms, 0.5 % of a core in two seconds."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def tree() -> list[int]:
    """This process and its descendants."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue  # it has ended
        parents[int(entry.name)] = int(words[1])
    found = [os.getpid()]
    for process in found:
        found += [child for child, parent in parents.items() if parent == process]
    return found


class Session:
    def __init__(self, ray: Any) -> None:
        @ray.remote
        def process() -> int:
            return os.getpid()

        self.worker = ray.get(process.remote())
        self.rank = os.getpid()
        self._idle: dict[int, float] = {}

    def idle_share(self, processes: list[int] | None = None) -> float:
        """CPU that they (all of the session) use together while nothing is asked of them, in % of a core: over the same two
        seconds, whoever is asked for.
        """
        if not self._idle:
            time.sleep(1.5)  # until every thread has stopped to look for work, and what is prepared beside the first task is there
            before = {process: cpu_s(process) for process in tree()}
            time.sleep(IDLE_S)
            self._idle = {process: 100 * (cpu_s(process) - seconds) / IDLE_S for process, seconds in before.items()}
        return sum(self._idle.values() if processes is None else (self._idle[process] for process in processes))


CASES: dict[str, tuple[str, runtime.Case]] = {
    "worker_private": ("MB", lambda s: private_mb(s.worker)),
    "worker_threads": ("threads", lambda s: field(s.worker, "status", "Threads")),
    "worker_cpu": ("% of a core", lambda s: s.idle_share([s.worker])),
    "rank_memory": ("MB", lambda s: field(s.rank, "status", "VmRSS") * 1024 / 1e6),
    "rank_threads": ("threads", lambda s: field(s.rank, "status", "Threads")),
    "rank_cpu": ("% of a core", lambda s: s.idle_share([s.rank])),
    "all_memory": ("MB", lambda s: sum(share_mb(process) for process in tree())),
    "all_threads": ("threads", lambda s: sum(field(process, "status", "Threads") for process in tree())),
    "all_cpu": ("% of a core", lambda s: s.idle_share()),
}


def main() -> int:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    ray = runtime.start(sys.argv[1])
    status = runtime.run_cases(sys.argv[2], CASES, Session(ray))
    ray.shutdown()
    return status


if __name__ == "__main__":
    sys.exit(main())
