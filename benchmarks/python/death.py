"""kill -9 of a worker: how long until who waits for its call is told.

usage: death.py ray|trireme actor|task     (milliseconds)
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import runtime


def until_told(ray: Any, ref: Any, process: int) -> float:
    time.sleep(0.2)  # it runs, and this process has gone to sleep
    begin = time.perf_counter()
    os.kill(process, signal.SIGKILL)
    try:
        ray.get(ref)
    except ray.exceptions.RayError:
        return 1e3 * (time.perf_counter() - begin)
    raise AssertionError("the call of a dead worker returned")


def actor(ray: Any) -> float:
    @ray.remote
    class Victim:
        def process(self) -> int:
            return os.getpid()

        def forever(self) -> None:
            while True:
                time.sleep(1)

    victim = Victim.remote()
    process = ray.get(victim.process.remote())
    return until_told(ray, victim.forever.remote(), process)


def task(ray: Any) -> float:
    @ray.remote(max_retries=0)
    def forever(path: str) -> None:
        Path(path + ".new").write_text(str(os.getpid()))
        os.rename(path + ".new", path)
        while True:
            time.sleep(1)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "process")
        ref = forever.remote(str(path))
        deadline = time.monotonic() + 60
        while not path.exists():
            if time.monotonic() > deadline:
                raise TimeoutError("the task did not begin within 60 s")
            time.sleep(0.01)
        return until_told(ray, ref, int(path.read_text()))


CASES: dict[str, tuple[str, runtime.Case]] = {"actor": ("ms", actor), "task": ("ms", task)}


def main() -> int:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    ray = runtime.start(sys.argv[1])
    status = runtime.run_cases(sys.argv[2], CASES, ray)
    ray.shutdown()
    return status


if __name__ == "__main__":
    sys.exit(main())
