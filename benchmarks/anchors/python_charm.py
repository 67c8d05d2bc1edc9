"""Charm4py's own layer with Ray's names, on a process a core of this machine: empty tasks and calls.

usage: python_charm.py task_one|task_batch|call_one|call_batch[,...]     (microseconds a call)

Its layer takes no options, knows classes and functions of modules only, gives every task one argument, and keeps a process
apart for the program. So this is the work of benchmarks/python/micro.py in the words that it understands.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
import runtime  # noqa: E402 - what the programs measure with

SECONDS = 0.4
BATCH = 1000
INSIDE = "--inside"


def measure(ray: Any, remote: Callable, ops: int) -> float:
    def one() -> None:
        if ops == 1:
            ray.get(remote())
        else:
            ray.get([remote() for _ in range(ops)])

    return 1e6 * runtime.seconds_per_op(one, ops, SECONDS)


if INSIDE in sys.argv:  # in each of Charm++'s processes; what is called lives in a module
    from charm4py import charm, ray

    @ray.remote
    class Actor:
        def __init__(self) -> None:
            pass

        def empty(self) -> bytes:
            return b"ok"

    @ray.remote
    def empty(_: int) -> bytes:
        return b"ok"

    def program(arguments: list[str]) -> None:
        ray.init()
        # The last is in another process than the program.
        actors = [Actor.remote() for _ in range(charm.numPes())]
        ray.get([actor.empty.remote() for actor in actors])
        cases = {
            "task_one": (lambda: empty.remote(0), 1),
            "task_batch": (lambda: empty.remote(0), BATCH),
            "call_one": (actors[-1].empty.remote, 1),
            "call_batch": (actors[-1].empty.remote, BATCH),
        }
        for case in arguments[-1].split(","):
            runtime.sample(case, "us/call", measure(ray, *cases[case]))
        exit()


def main() -> int:
    wanted = sys.argv[1].split(",") if len(sys.argv) == 2 else []
    if not wanted or not set(wanted) <= {"task_one", "task_batch", "call_one", "call_batch"}:
        print(__doc__, file=sys.stderr)
        return 2
    cores = runtime.cores()
    command = [sys.executable, "-m", "charmrun.start", f"+p{cores}", "++local", __file__, INSIDE, sys.argv[1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    print("\n".join(lines), flush=True)
    if len(lines) != len(wanted):
        print((done.stderr or done.stdout).strip()[-2000:], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    if INSIDE in sys.argv:
        charm.start(program)
    else:
        sys.exit(main())
