"""Dask's distributed scheduler with a worker process a core on this machine: empty tasks.

usage: python_dask.py task_one|task_batch[,...]     (microseconds a task)
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time

from distributed import Client, LocalCluster

SECONDS = 0.4


def empty(i: int) -> bytes:
    return b"ok"


def measure(client: Client, ops: int) -> float:
    number = 0

    def one() -> None:
        nonlocal number
        client.gather(client.map(empty, range(number, number + ops), pure=False))
        number += ops

    one()
    rounds = 0
    begin = time.perf_counter()
    while True:
        one()
        rounds += 1
        took = time.perf_counter() - begin
        if took > SECONDS:
            return 1e6 * took / (rounds * ops)


def main() -> int:
    cases = {"task_one": 1, "task_batch": 1000}
    wanted = sys.argv[1].split(",") if len(sys.argv) == 2 else []
    if not wanted or not set(wanted) <= set(cases):
        print(__doc__, file=sys.stderr)
        return 2
    cores = len(os.sched_getaffinity(0))
    with (
        LocalCluster(n_workers=cores, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR) as cluster,
        Client(cluster) as client,
    ):
        for case in wanted:
            print(json.dumps({"case": case, "unit": "us/call", "value": measure(client, cases[case])}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
