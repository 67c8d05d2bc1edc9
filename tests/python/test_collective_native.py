"""`trireme._collective` among plain processes, without a runtime: arrays of all kinds in place, errors, a death."""

# ctest: one rank
from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest

_collective = pytest.importorskip("trireme._collective")

from forked_members import run_members  # noqa: E402 - needs the module

SUM, PRODUCT, MIN, MAX, MEAN = range(5)


@pytest.mark.parametrize("nodes", [None, ["a", "b", "c"], ["a", "a", "b"]], ids=["one node", "apart", "mixed"])
def test_every_operation_works_in_place(nodes: list[str] | None) -> None:
    def member(group: Any, rank: int) -> None:
        assert (group.rank, group.size, group.name) == (rank, 3, "test")
        for dtype in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"):
            x = (np.arange(1000) % 10).astype(dtype)
            group.all_reduce(x)
            assert (x == 3 * (np.arange(1000) % 10)).all(), dtype
        x = np.full((3, 4), rank + 1.0)
        group.reduce(x, 1, MAX)
        assert (x == (3 if rank == 1 else rank + 1)).all()
        group.broadcast(x, 1)
        assert (x == 3).all()
        everything = np.zeros((3, 5), "i8")
        group.all_gather(np.full(5, rank), everything)
        assert (everything == np.arange(3)[:, None]).all()
        part = np.zeros(5, "i8")
        group.reduce_scatter(everything, part, SUM)
        assert (part == 3 * rank).all()
        swapped = np.zeros(3, "i4")
        group.all_to_all(np.arange(3, dtype="i4") + 10 * rank, swapped)
        assert (swapped == 10 * np.arange(3) + rank).all()
        if rank == 0:
            group.send(np.arange(100.0), 2, tag=4)
        elif rank == 2:
            got = np.zeros(100)
            group.recv(got, 0, tag=4)
            assert (got == np.arange(100)).all()
        works = [group.start_all_reduce(np.full(50_000, 1.0), MEAN) for _ in range(4)]  # the arrays are kept
        works.append(group.start_barrier())
        for work in works:
            work.wait()
            assert work.test()
        flags = np.array([True, rank == 0, False])
        group.all_reduce(flags, MIN)
        assert flags.tolist() == [True, False, False]
        group.close()
        with pytest.raises(_collective.CollectiveError, match="closed"):
            group.barrier()

    run_members(3, member, node_ids=nodes)


def test_torch_tensors_are_used_in_place() -> None:
    torch = pytest.importorskip("torch")

    def member(group: Any, rank: int) -> None:
        weights = torch.full((100, 100), float(rank), requires_grad=True)
        group.all_reduce(weights, MEAN)
        assert (weights == 0.5).all()
        narrow = torch.full((7,), rank + 1, dtype=torch.bfloat16)
        group.all_reduce(narrow)
        assert (narrow == 3).all()
        with pytest.raises(ValueError, match="contiguous"):
            group.all_reduce(torch.zeros(4, 4)[:, 1])

    run_members(2, member)


def test_what_is_no_array_is_refused_with_a_reason() -> None:
    group = _collective.Communicator(0, 1, lambda mine, timeout: [mine])
    for wrong, error, text in (
        (np.ones((4, 4))[:, 1], ValueError, "ascontiguousarray"),
        (memoryview(b"abc"), ValueError, "read-only"),
        ([1, 2], TypeError, "is a list"),
        (np.ones(3, complex), TypeError, "Zd"),
        (np.ones(3, bool), TypeError, "bool is reduced by"),
    ):
        with pytest.raises(error, match=text):
            group.all_reduce(wrong)
    with pytest.raises(_collective.CollectiveError, match="no member 5") as caught:
        group.broadcast(np.ones(3), 5)
    assert (caught.value.code, caught.value.member) == ("invalid_argument", -1)
    with pytest.raises(_collective.CollectiveError, match="expected 1 times"):
        group.all_gather(np.ones(3), np.ones(4))


def test_what_the_exchange_raises_comes_through() -> None:
    def exchange(mine: bytes, timeout: float) -> list[bytes]:
        raise TimeoutError("nobody came")

    with pytest.raises(TimeoutError, match="nobody came"):
        _collective.Communicator(0, 2, exchange)


@pytest.mark.parametrize("nodes", [None, ["a", "b", "c"]], ids=["one node", "apart"])
def test_a_killed_member_is_named_on_the_others(nodes: list[str] | None) -> None:
    def member(group: Any, rank: int) -> None:
        group.barrier()
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        with pytest.raises(_collective.CollectiveError, match="member 1") as caught:
            for _ in range(10):
                group.all_reduce(np.ones(3))
        assert (caught.value.code, caught.value.member) == ("peer_lost", 1)
        assert "member 1" in group.broken

    run_members(3, member, killed=1, node_ids=nodes)
