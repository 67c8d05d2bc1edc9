"""`trireme._collective.DataParallel` among plain processes: in place, while the backward pass goes on, with a death."""

# ctest: one rank
from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest

from conftest import eventually

_collective = pytest.importorskip("trireme._collective")

from forked_members import run_members  # noqa: E402 - needs the module

NODES = pytest.mark.parametrize("nodes", [None, ["a", "b"]], ids=["one node", "apart"])


def _memory(parallel: Any, parameter: int, dtype: str) -> np.ndarray:
    return np.frombuffer(parallel.gradient(parameter), dtype)


@NODES
def test_parameters_start_alike_and_gradients_are_averaged_in_place(nodes: list[str] | None) -> None:
    def member(group: Any, rank: int) -> None:
        parameters = [np.full((3, 4), rank + 1.0), np.full(5, rank + 1, "f4"), np.full(1000, rank, "f2")]
        parallel = _collective.DataParallel(group, parameters, bucket_bytes=64)
        assert parallel.buckets == 3
        for value, of_rank_0 in zip(parameters, (1, 1, 0)):
            assert (value == of_rank_0).all()
        for step in range(3):
            for index in (2, 1, 0) if rank == 0 else (0, 2, 1):  # buckets leave in one order all the same
                value = (rank + 1) * (index + 1) + step
                if index == 1:
                    parallel.ready(index, np.full(5, value, "f4"))
                else:
                    _memory(parallel, index, parameters[index].dtype.str)[:] = value
                    parallel.ready(index)
            parallel.wait()
            for index in range(3):
                assert (_memory(parallel, index, parameters[index].dtype.str) == 1.5 * (index + 1) + step).all()
        kept = _memory(parallel, 0, "f8")
        del parallel
        assert (kept == 1.5 + 2).all()  # the bucket lives as long as what looks at it

    run_members(2, member, node_ids=nodes)


@NODES
def test_a_bucket_is_averaged_before_the_last_gradient_is_known(nodes: list[str] | None) -> None:
    def member(group: Any, rank: int) -> None:
        first, last = np.zeros(1000), np.zeros(100_000)
        parallel = _collective.DataParallel(group, [first, last], bucket_bytes=1)
        for step in range(3):
            assert not parallel.is_averaged(1)
            parallel.ready(1, np.full(100_000, rank + step, "f8"))
            # Nobody has the other gradient yet, and nobody waits: only the group's own thread can do this.
            eventually(lambda: parallel.is_averaged(1))
            assert (_memory(parallel, 1, "f8") == step + 0.5).all()
            assert not parallel.is_ready(0) and not parallel.is_averaged(0)
            parallel.ready(0, np.full(1000, float(rank)))
            parallel.wait()
            assert (_memory(parallel, 0, "f8") == 0.5).all()

    run_members(2, member, node_ids=nodes)


@NODES
def test_a_fixed_order_gives_the_bits_of_adding_one_rank_after_another(nodes: list[str] | None) -> None:
    nodes = [*nodes, "b"] if nodes else None
    drawn = [np.random.default_rng(rank).normal(size=30_001).astype("f4") for rank in range(3)]
    expected = (drawn[0] + drawn[1] + drawn[2]) / np.float32(3)

    def member(group: Any, rank: int) -> None:
        parallel = _collective.DataParallel(group, [np.zeros(30_001, "f4")])
        parallel.ready(0, drawn[rank])
        parallel.wait()
        assert (_memory(parallel, 0, "f4").view("u4") == expected.view("u4")).all()

    run_members(3, member, node_ids=nodes, fixed_order=True)


@NODES
def test_a_killed_member_is_named_where_its_gradients_are_awaited(nodes: list[str] | None) -> None:
    nodes = [*nodes, "b"] if nodes else None

    def member(group: Any, rank: int) -> None:
        parallel = _collective.DataParallel(group, [np.zeros(10), np.zeros(50_000)], bucket_bytes=1)
        parallel.ready(1, np.zeros(50_000))
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        with pytest.raises(_collective.CollectiveError, match="member 1") as caught:
            parallel.ready(0, np.zeros(10))
            parallel.wait()
        assert (caught.value.code, caught.value.member) == ("peer_lost", 1)

    run_members(3, member, killed=1, node_ids=nodes)


def test_dropping_one_whose_gradients_are_under_way_neither_waits_nor_frees_them() -> None:
    def member(group: Any, rank: int) -> None:
        parallel = _collective.DataParallel(group, [np.zeros(10), np.zeros(300_000)], bucket_bytes=1)
        if rank == 0:
            parallel.ready(1, np.ones(300_000))
            del parallel  # before the other has begun
            group.barrier()
        else:
            parallel.ready(1, np.zeros(300_000))
            group.barrier()
            assert (_memory(parallel, 1, "f8") == 0.5).all()
        group.close()

    run_members(2, member)


def test_torch_tensors_are_parameters_and_gradients_in_place() -> None:
    torch = pytest.importorskip("torch")

    def member(group: Any, rank: int) -> None:
        weight = torch.full((10, 10), float(rank), requires_grad=True)
        narrow = torch.full((7,), float(rank), dtype=torch.bfloat16)
        parallel = _collective.DataParallel(group, [weight, narrow])
        assert (weight == 0).all() and (narrow == 0).all()
        parallel.ready(1, torch.full((7,), rank + 1.0, dtype=torch.bfloat16))
        # What autograd adds up lies in the bucket.
        weight.grad = torch.frombuffer(parallel.gradient(0), dtype=torch.float32).reshape(10, 10)
        (weight * (rank + 1)).sum().backward()
        parallel.ready(0)
        parallel.wait()
        assert (weight.grad == 1.5).all()
        assert (torch.frombuffer(parallel.gradient(1), dtype=torch.bfloat16) == 1.5).all()

    run_members(2, member)


def test_misuse_is_refused_with_a_reason() -> None:
    group = _collective.Communicator(0, 1, lambda mine, timeout: [mine])
    with pytest.raises(_collective.CollectiveError, match="at least one parameter"):
        _collective.DataParallel(group, [])
    with pytest.raises(_collective.CollectiveError, match="parameter 0 is of int64"):
        _collective.DataParallel(group, [np.zeros(3, int)])
    with pytest.raises(ValueError, match="parameter 1 is not contiguous"):
        _collective.DataParallel(group, [np.zeros(3), np.zeros((3, 3))[:, 1]])
    parallel = _collective.DataParallel(group, [np.zeros(3), np.zeros(4)])
    with pytest.raises(_collective.CollectiveError, match="no gradient was handed in for parameter 0"):
        parallel.wait()
    with pytest.raises(_collective.CollectiveError, match="4 elements of float64, the parameter 3"):
        parallel.ready(0, np.zeros(4))
    with pytest.raises(_collective.CollectiveError, match="no parameter 2"):
        parallel.gradient(2)
    parallel.ready(0)
    with pytest.raises(_collective.CollectiveError, match="twice"):
        parallel.ready(0)
    group.close()
    with pytest.raises(_collective.CollectiveError, match="closed"):
        parallel.ready(1)
