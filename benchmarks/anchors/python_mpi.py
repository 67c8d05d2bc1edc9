"""A pickled object there and back between two Python processes by mpi4py; both wait busily.

usage: mpirun -n 2 python_mpi.py call_one     (microseconds a round trip)
"""

from __future__ import annotations

import json
import sys
import time

from mpi4py import MPI

ROUNDS = 20_000


def main() -> int:
    world = MPI.COMM_WORLD
    if sys.argv[1:] != ["call_one"] or world.size != 2:
        print(__doc__, file=sys.stderr)
        return 2
    for rounds in (ROUNDS // 10, ROUNDS):
        begin = time.perf_counter()
        for _ in range(rounds):
            if world.rank == 0:
                world.send(b"ok", dest=1)
                world.recv(source=1)
            else:
                world.send(world.recv(source=0), dest=0)
        took = time.perf_counter() - begin
    if world.rank == 0:
        print(json.dumps({"case": "call_one", "unit": "us/call", "value": 1e6 * took / ROUNDS}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
