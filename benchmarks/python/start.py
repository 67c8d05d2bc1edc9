"""From the first line of a program to its first result.

usage: start.py ray|trireme first_result|import     (milliseconds, each from the start of `init` or of `import`)
"""

from __future__ import annotations

import sys
import time

import runtime


def first_result(name: str) -> float:
    runtime.load(name)
    begin = time.perf_counter()
    ray = runtime.start(name)

    @ray.remote
    def one() -> int:
        return 1

    assert ray.get(one.remote()) == 1
    took = time.perf_counter() - begin
    ray.shutdown()
    return 1e3 * took


def imported(name: str) -> float:
    import numpy  # noqa: F401 - not counted: programs have it anyway

    begin = time.perf_counter()
    runtime.load(name)
    return 1e3 * (time.perf_counter() - begin)


CASES: dict[str, tuple[str, runtime.Case]] = {"first_result": ("ms", first_result), "import": ("ms", imported)}

if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(runtime.run_cases(sys.argv[2], CASES, sys.argv[1]))
