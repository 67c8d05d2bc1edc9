"""`trireme.util.collective` among actors: Ray's calls, planned groups, errors, a worker's death and a new group."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trireme._collective")


class Member:
    """An actor that runs what it is given in its process."""

    def join(self, size: int, rank: int, name: str, **options: Any) -> None:
        from trireme.util import collective

        collective.init_collective_group(size, rank, group_name=name, **options)

    def run(self, what: Callable[..., Any], *arguments: Any) -> Any:
        return what(*arguments)

    def pid(self) -> int:
        return os.getpid()


def members(trireme: Any, count: int, name: str | None = None) -> list[Any]:
    """Actors, in a group of that name if one is given."""
    actors = [trireme.remote(Member).options(num_cpus=0).remote() for _ in range(count)]
    if name is not None:
        trireme.get([actor.join.remote(count, rank, name) for rank, actor in enumerate(actors)], timeout=60)
    return actors


def everywhere(trireme: Any, actors: list[Any], what: Callable[..., Any], *arguments: Any) -> list[Any]:
    return trireme.get([actor.run.remote(what, *arguments) for actor in actors], timeout=60)


def operations(name: str) -> dict[str, Any]:
    from trireme.util import collective as c

    rank, size = c.get_rank(name), c.get_collective_group_size(name)
    x = np.full(1000, rank + 1.0)
    c.allreduce(x, name)
    y = np.full(3, rank + 1)
    c.reduce(y, 1, name, c.ReduceOp.PRODUCT)
    z = np.full(3, rank)
    c.broadcast(z, 1, name)
    gathered = [np.zeros(2) for _ in range(size)]
    c.allgather(gathered, np.full(2, float(rank)), name)
    part = np.zeros(2)
    c.reducescatter(part, [np.full(2, float(i)) for i in range(size)], name)
    if rank == 0:
        c.send(np.arange(5), 1, name)
    got = np.zeros(5, int)
    if rank == 1:
        c.recv(got, 0, name)
    work = c.start_allreduce(mean := np.full(100_000, float(rank), np.float32), name, c.ReduceOp.MEAN)
    c.barrier(name)
    work.wait()
    return {
        "sum": x[0], "product": y[0], "broadcast": z[0], "gathered": [g[0] for g in gathered], "part": part[0],
        "got": got.tolist(), "mean": float(mean[-1]), "initialized": c.is_group_initialized(name),
    }  # fmt: skip


def test_every_operation_among_actors(runtime: Any) -> None:
    results = everywhere(runtime, members(runtime, 3, "all"), operations, "all")
    for rank, result in enumerate(results):
        assert result == {
            "sum": 6, "product": 6 if rank == 1 else rank + 1, "broadcast": 1, "gathered": [0, 1, 2], "part": 3 * rank,
            "got": [0, 1, 2, 3, 4] if rank == 1 else [0] * 5, "mean": 1, "initialized": True,
        }  # fmt: skip


def test_a_planned_group_joins_with_its_first_operation(runtime: Any) -> None:
    from trireme.util import collective

    actors = members(runtime, 2)
    collective.create_collective_group(actors, 2, [1, 0], group_name="planned")

    def first() -> tuple[float, int]:
        from trireme.util import collective as c

        x = np.ones(4)
        c.allreduce(x, "planned")
        return float(x[0]), c.get_rank("planned")

    assert everywhere(runtime, actors, first) == [(2.0, 1), (2.0, 0)]
    collective.destroy_collective_group("planned")


def test_a_killed_actor_is_named_and_the_others_form_a_new_group(runtime: Any) -> None:
    actors = members(runtime, 3, "first")
    lost = runtime.get(actors[1].pid.remote())

    def reduce_until_it_fails(victim: int) -> str:
        from trireme.util import collective as c

        if os.getpid() == victim:
            os.kill(victim, signal.SIGKILL)
        try:
            for _ in range(100_000):
                c.allreduce(np.ones(10), "first")
        except c.CollectiveError as error:
            c.destroy_collective_group("first")
            return f"{error.code} {error.member}"
        return "nothing"

    calls = [actor.run.remote(reduce_until_it_fails, lost) for actor in actors]
    assert runtime.get([calls[0], calls[2]], timeout=60) == ["peer_lost 1"] * 2
    survivors = [actors[0], actors[2]]
    runtime.get([actor.join.remote(2, rank, "second") for rank, actor in enumerate(survivors)], timeout=60)
    assert everywhere(runtime, survivors, _sum_of_ones, "second") == [2.0, 2.0]


def _sum_of_ones(name: str) -> float:
    from trireme.util import collective as c

    x = np.ones(10)
    c.allreduce(x, name)
    return float(x[0])


def test_what_makes_no_sense_says_why(runtime: Any) -> None:
    from trireme.util import collective

    with pytest.raises(RuntimeError, match="no group 'missing'"):
        collective.allreduce(np.ones(3), "missing")
    assert collective.get_rank("missing") == collective.get_collective_group_size("missing") == -1
    assert not collective.is_group_initialized("missing")
    collective.destroy_collective_group("missing")
    with pytest.raises(ValueError, match="no backend 'mpi'"):
        collective.init_collective_group(1, 0, "mpi")
    with pytest.raises(ValueError, match="rank 2 of 2"):
        collective.init_collective_group(2, 2)
    with pytest.raises(TimeoutError, match="not all 2 members came"):
        collective.init_collective_group(2, 0, group_name="lonely", timeout=0.5)
    collective.init_collective_group(1, 0, group_name="one")
    with pytest.raises(RuntimeError, match="initialised already"):
        collective.init_collective_group(1, 0, group_name="one")
    collective.destroy_collective_group("one")
