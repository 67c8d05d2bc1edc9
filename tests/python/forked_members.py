"""Members of a group of `trireme._collective` as plain processes, without a runtime."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

from trireme import _collective

TIMEOUT_S = 60.0


def run_members(
    size: int,
    member: Callable[[Any, int], None],
    killed: int = -1,
    node_ids: list[str] | None = None,
    fixed_order: bool = False,
) -> None:
    """Runs `member(communicator, rank)` in `size` forked processes that exchange blobs through pipes."""
    context = multiprocessing.get_context("fork")
    ends: list[list[Any]] = [[None] * size for _ in range(size)]
    for i in range(size):
        for j in range(i):
            ends[i][j], ends[j][i] = context.Pipe()

    def start(rank: int) -> None:
        if node_ids is not None:
            os.environ["TRIREME_NODE_ID"] = node_ids[rank]

        def exchange(mine: bytes, timeout: float) -> list[bytes]:
            assert timeout == TIMEOUT_S
            for other in range(size):
                if other != rank:
                    ends[rank][other].send_bytes(mine)
            return [mine if other == rank else ends[rank][other].recv_bytes() for other in range(size)]

        member(_collective.Communicator(rank, size, exchange, "test", TIMEOUT_S, fixed_order), rank)

    processes = [context.Process(target=start, args=(rank,)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT_S)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [-signal.SIGKILL if rank == killed else 0 for rank in range(size)]
