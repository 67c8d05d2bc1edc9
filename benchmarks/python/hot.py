"""The hot paths of Python a fixed number of times, for counts.py.

usage: hot.py task|call|task.one|call.one count=N     (task, call: 100 outstanding; *.one: one by one)
"""

from __future__ import annotations

import os
import sys

import runtime

BATCH = 100


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in ("task", "call", "task.one", "call.one"):
        sys.exit(__doc__)
    path = sys.argv[1]
    count = runtime.options(sys.argv[2:], {"count": 1000})["count"]
    ray = runtime.start("trireme")

    @ray.remote
    def empty() -> bytes:
        return b"ok"

    @ray.remote
    class Actor:
        def empty(self) -> bytes:
            return b"ok"

    actor = Actor.remote()
    submit = (lambda: empty.remote()) if path.startswith("task") else (lambda: actor.empty.remote())
    ray.get([submit() for _ in range(BATCH)])
    os.access("/counting-begins", os.F_OK)  # a mark in the trace of system calls
    if path.endswith(".one"):
        for _ in range(count):
            ray.get(submit())
    else:
        for _ in range(count // BATCH):
            ray.get([submit() for _ in range(BATCH)])
    os.access("/counting-ends", os.F_OK)
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
