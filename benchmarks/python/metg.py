"""METG(50%) of Task Bench's patterns as Python tasks: the smallest task at which the whole grid still does half of what the
same cores do in long tasks.

usage: metg.py ray|trireme trivial[,stencil_1d,fft,tree]     (microseconds: cores x time / tasks)

The patterns are those of benchmarks/workloads/patterns.hpp; a task's inputs are references to the outputs of the step before.
"""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import runtime

WIDTH = 8
LEVELS = 3
LARGEST_S = 16e-3
RUN_S = 0.2
HALVINGS = 4


def active(pattern: str, t: int) -> int:
    return WIDTH if pattern != "tree" or t >= LEVELS else 1 << t


def inputs(pattern: str, t: int, column: int) -> list[int]:
    if t == 0 or pattern == "trivial":
        return []
    if pattern == "tree":
        return [column // 2]
    distance = 1 if pattern == "stencil_1d" else 1 << ((t - 1) % LEVELS)
    return [c for c in (column - distance, column, column + distance) if 0 <= c < WIDTH]


def work(rounds: int) -> float:
    x = 1.0
    for _ in range(rounds):
        x = x * 0.999999 + 1e-6
    return x


class Grid:
    def __init__(self, ray: Any, pattern: str) -> None:
        self.ray = ray
        self.pattern = pattern

        @ray.remote
        def point(rounds: int, t: int, column: int, *before: tuple[int, int]) -> tuple[int, int]:
            wanted = [(t - 1, c) for c in inputs(pattern, t, column)]
            if list(before) != wanted:
                raise AssertionError(f"task {t}, {column} got {before}, not {wanted}")
            work(rounds)
            return t, column

        self.point = point

    def run(self, rounds: int, steps: int) -> tuple[float, int]:
        """Seconds, and how many tasks."""
        tasks = 0
        begin = time.perf_counter()
        last: list[Any] = []
        for t in range(steps):
            now = []
            for column in range(active(self.pattern, t)):
                before = [last[c] for c in inputs(self.pattern, t, column)]
                now.append(self.point.remote(rounds, t, column, *before))
            tasks += len(now)
            if self.pattern == "trivial":
                last += now  # nobody reads them but the end
            else:
                last = now
        self.ray.get(last)
        return time.perf_counter() - begin, tasks

    def measure(self, rounds: int, peak: float) -> tuple[float, float]:
        """Efficiency, and the size of a task in seconds of a core."""
        steps = 4
        seconds, tasks = self.run(rounds, steps)
        while seconds < RUN_S / 2:
            steps = int(steps * min(16.0, max(2.0, RUN_S / seconds)))
            seconds, tasks = self.run(rounds, steps)
        again, _ = self.run(rounds, steps)
        seconds = min(seconds, again)
        return tasks * rounds / seconds / peak, runtime.cores() * seconds / tasks


def peak_rate(ray: Any) -> float:
    """Rounds a second of all cores together, each in one long task."""
    long = ray.remote(work)
    rounds = 2_000_000
    best = 0.0
    for _ in range(3):
        begin = time.perf_counter()
        ray.get([long.remote(rounds) for _ in range(runtime.cores())])
        best = max(best, runtime.cores() * rounds / (time.perf_counter() - begin))
    return best


def metg(ray: Any, pattern: str) -> float:
    peak = peak_rate(ray)
    grid = Grid(ray, pattern)
    rounds = int(LARGEST_S * peak / runtime.cores())
    grid.run(1, 8)
    efficiency, size = grid.measure(rounds, peak)
    if efficiency < 0.5:
        return 1e6 * size  # too fine already
    good, good_size = rounds, size
    bad = good
    while efficiency >= 0.5 and bad > 1:
        good, good_size = bad, size
        bad = max(1, bad // 4)
        efficiency, size = grid.measure(bad, peak)
    if efficiency >= 0.5:
        return 1e6 * size
    for _ in range(HALVINGS):
        middle = int(math.sqrt(good * bad))
        if not bad < middle < good:
            break
        efficiency, size = grid.measure(middle, peak)
        if efficiency >= 0.5:
            good, good_size = middle, size
        else:
            bad = middle
    return 1e6 * good_size


def case_of(pattern: str) -> runtime.Case:
    return lambda ray: metg(ray, pattern)


CASES: dict[str, tuple[str, runtime.Case]] = {
    pattern: ("us", case_of(pattern)) for pattern in ("trivial", "stencil_1d", "fft", "tree")
}


def main() -> int:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    ray = runtime.start(sys.argv[1])
    status = runtime.run_cases(sys.argv[2], CASES, ray)
    ray.shutdown()
    return status


if __name__ == "__main__":
    sys.exit(main())
