"""A bare ring in shared memory between two Python processes: what a call costs that is nothing but a number each way.

usage: python_ring.py one|batch     (microseconds a call; both sides spin, so two cores are needed)
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import time

SLOTS = 1024
STOP = (1 << 64) - 1


def serve(asked: memoryview, answered: memoryview) -> None:
    """Answers each number with itself, in order, until STOP."""
    at = 0
    while True:
        value = asked[at]
        while value == 0:
            value = asked[at]
        asked[at] = 0
        answered[at] = value
        if value == STOP:
            return
        at = (at + 1) % SLOTS


def calls(asked: memoryview, answered: memoryview, at: int, count: int) -> int:
    """`count` outstanding calls, at most as many as there are slots; gives the next slot."""
    for i in range(count):
        asked[(at + i) % SLOTS] = 1
    for i in range(count):
        slot = (at + i) % SLOTS
        while answered[slot] == 0:
            pass
        answered[slot] = 0
    return (at + count) % SLOTS


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in ("one", "batch"):
        print(__doc__, file=sys.stderr)
        return 2
    count = 1 if sys.argv[1] == "one" else 1000
    memory = mmap.mmap(-1, 2 * SLOTS * 8)
    words = memoryview(memory).cast("Q")
    asked, answered = words[:SLOTS], words[SLOTS:]
    child = os.fork()
    if child == 0:
        serve(asked, answered)
        os._exit(0)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    os.sched_setaffinity(child, {cores[-1]})
    at = calls(asked, answered, 0, count)
    done = 0
    begin = time.perf_counter()
    while True:
        for _ in range(max(1, 1000 // count)):
            at = calls(asked, answered, at, count)
            done += count
        took = time.perf_counter() - begin
        if took > 0.3:
            break
    asked[at] = STOP
    os.waitpid(child, 0)
    print(json.dumps({"case": sys.argv[1], "unit": "us/call", "value": 1e6 * took / done}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
