"""Dask's distributed scheduler with a worker process a core on this machine: empty tasks.

usage: python_dask.py task_one|task_batch[,...]     (microseconds a task)
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from distributed import Client, LocalCluster

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "python"))
import runtime  # noqa: E402 - what the programs measure with

SECONDS = 0.4


def empty(i: int) -> bytes:
    return b"ok"


def measure(client: Client, ops: int) -> float:
    number = 0

    def one() -> None:
        nonlocal number
        client.gather(client.map(empty, range(number, number + ops), pure=False))
        number += ops

    return 1e6 * runtime.seconds_per_op(one, ops, SECONDS)


def main() -> int:
    cases = {"task_one": 1, "task_batch": 1000}
    wanted = sys.argv[1].split(",") if len(sys.argv) == 2 else []
    if not wanted or not set(wanted) <= set(cases):
        print(__doc__, file=sys.stderr)
        return 2
    cores = runtime.cores()
    with (
        LocalCluster(n_workers=cores, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR) as cluster,
        Client(cluster) as client,
    ):
        for case in wanted:
            runtime.sample(case, "us/call", measure(client, cases[case]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
