"""A job that works for hours needs no more memory than one that has worked for a minute."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import RANKS

# What two rounds may add in any rank: free lists and pages that fill up. A block, a task or a reference for each of the
# operations of a round is more.
ALLOWED_KB = 400


def private_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1])
    raise AssertionError(f"no Private_Dirty in smaps_rollup of {pid}")


def rank_processes() -> list[int]:
    """The ranks: this process, and under mpirun those that were started beside it."""
    if RANKS == 1:
        return [os.getpid()]
    parent = os.getppid()
    pids = [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    assert len(pids) == RANKS, f"{len(pids)} ranks below mpirun"
    return pids


class Jobs:
    """Remote functions and actors that all loads use; where there are several ranks, on another one."""

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
        options: dict[str, Any] = {"num_cpus": 0}
        if RANKS > 1:
            own = runtime.get_runtime_context().get_node_id()
            other = next(node["NodeID"] for node in runtime.nodes() if node["NodeID"] != own)
            strategies = runtime.util.scheduling_strategies
            options["scheduling_strategy"] = strategies.NodeAffinitySchedulingStrategy(other, soft=False)

        @runtime.remote
        def echo(value: Any = None) -> Any:
            return value

        @runtime.remote(max_retries=0)
        def fail() -> None:
            raise ValueError("as asked")

        @runtime.remote(num_returns="streaming")
        def count(to: int) -> Any:
            yield from range(to)

        @runtime.remote
        class Actor:
            def echo(self, value: Any = None) -> Any:
                return value

            def memory(self) -> int:
                gc.collect()
                return private_kb(os.getpid())

        @runtime.remote
        class Async:
            async def echo(self, value: Any = None) -> Any:
                return value

            async def forever(self) -> None:
                import asyncio

                await asyncio.Event().wait()

        self.echo, self.fail, self.count = (each.options(**options) for each in (echo, fail, count))
        self.actor, self.asynchronous = (each.options(**options).remote() for each in (Actor, Async))
        self.pending = self.asynchronous.forever.remote()


@pytest.fixture(scope="module")
def jobs(runtime: Any) -> Jobs:
    return Jobs(runtime)


def tasks(jobs: Jobs, rounds: int) -> None:
    for i in range(rounds):
        jobs.runtime.get([jobs.echo.remote(jobs.echo.remote(i)) for _ in range(20)])


def errors(jobs: Jobs, rounds: int) -> None:
    for _ in range(rounds):
        with contextlib.suppress(ValueError):
            jobs.runtime.get(jobs.fail.remote())


def large_results(jobs: Jobs, rounds: int) -> None:
    for _ in range(rounds):
        jobs.runtime.get(jobs.echo.remote(np.zeros(20_000)))


def calls(jobs: Jobs, rounds: int) -> None:
    for i in range(rounds):
        for _ in range(9):
            jobs.actor.echo.remote(i)
        jobs.runtime.get(jobs.actor.echo.remote([jobs.runtime.put(i)]))


def asynchronous_calls(jobs: Jobs, rounds: int) -> None:
    for i in range(rounds):
        jobs.runtime.get(jobs.asynchronous.echo.remote(i))


def objects(jobs: Jobs, rounds: int) -> None:
    array = np.zeros(20_000)
    for _ in range(rounds):
        jobs.runtime.get([jobs.runtime.put(1), jobs.runtime.put(array)])


def looks(jobs: Jobs, rounds: int) -> None:
    for _ in range(rounds):
        assert jobs.runtime.wait([jobs.pending], timeout=0)[0] == []


def streams(jobs: Jobs, rounds: int) -> None:
    for _ in range(rounds):
        assert [jobs.runtime.get(ref) for ref in jobs.count.remote(3)] == [0, 1, 2]
        next(jobs.count.remote(3))  # the rest is dropped


def cancelled(jobs: Jobs, rounds: int) -> None:
    for _ in range(rounds):
        pending = jobs.asynchronous.forever.remote()
        waiting = jobs.echo.remote(pending)  # kept until its argument is there, which is why that is cancelled, too
        for ref in (waiting, pending):
            jobs.runtime.cancel(ref)
            with pytest.raises(jobs.runtime.exceptions.TaskCancelledError):
                jobs.runtime.get(ref)


@pytest.mark.parametrize(
    ("load", "rounds"),
    [
        (tasks, 200),
        (errors, 1500),
        (large_results, 1000),
        (calls, 600),
        (asynchronous_calls, 3000),
        (objects, 8000),
        (looks, 20000),
        (streams, 400),
        (cancelled, 1000),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_memory_stays_what_it_is(jobs: Jobs, load: Callable[[Jobs, int], None], rounds: int) -> None:
    ranks = rank_processes()

    def memory() -> dict[str, int]:
        gc.collect()
        actor = jobs.runtime.get(jobs.actor.memory.remote())
        return {"actor": actor, **{f"rank process {pid}": private_kb(pid) for pid in ranks}}

    for _ in range(2):
        load(jobs, rounds)
    before = memory()
    for _ in range(2):
        load(jobs, rounds)
    after = memory()
    grown = {who: after[who] - before[who] for who in before}
    assert max(grown.values()) <= ALLOWED_KB, f"more private memory after {2 * rounds} further rounds, in kB: {grown}"
