"""The operations, with Ray's names and arguments. Every member calls the same ones in the same order.

`start_*` return at once; call `wait()` on what they return before touching the arrays. (With backend "nccl" what is queued on
the same CUDA stream need not wait; see `trireme.util.collective.nccl`.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from trireme.util.collective.groups import get_group
from trireme.util.collective.types import ReduceOp


class Work(Protocol):
    """An operation under way."""

    def wait(self) -> None:
        """Returns when it is done; raises what the blocking form would."""

    def test(self) -> bool:
        """Whether it is done, with or without an error."""


class _Then:
    """A Work with something to do once it is done."""

    def __init__(self, work: Work, then: Callable[[], None]) -> None:
        self._work = work
        self._then: Callable[[], None] | None = then

    def wait(self) -> None:
        self._work.wait()
        if self._then is not None:
            self._then()
            self._then = None

    def test(self) -> bool:
        return self._work.test()


def start_allreduce(tensor: Any, group_name: str = "default", op: int = ReduceOp.SUM) -> Work:
    """As `allreduce`, without waiting."""
    return get_group(group_name).start_all_reduce(tensor, int(op))


def allreduce(tensor: Any, group_name: str = "default", op: int = ReduceOp.SUM) -> None:
    """Every member's tensor becomes the combination of all."""
    get_group(group_name).all_reduce(tensor, int(op))


def start_reduce(tensor: Any, dst_rank: int = 0, group_name: str = "default", op: int = ReduceOp.SUM) -> Work:
    """As `reduce`, without waiting."""
    return get_group(group_name).start_reduce(tensor, dst_rank, int(op))


def reduce(tensor: Any, dst_rank: int = 0, group_name: str = "default", op: int = ReduceOp.SUM) -> None:
    """The tensor of `dst_rank` becomes the combination of all; the others stay as they are."""
    get_group(group_name).reduce(tensor, dst_rank, int(op))


def start_broadcast(tensor: Any, src_rank: int = 0, group_name: str = "default") -> Work:
    """As `broadcast`, without waiting."""
    return get_group(group_name).start_broadcast(tensor, src_rank)


def broadcast(tensor: Any, src_rank: int = 0, group_name: str = "default") -> None:
    """Every member's tensor becomes that of `src_rank`."""
    get_group(group_name).broadcast(tensor, src_rank)


def start_allgather(tensor_list: Sequence[Any], tensor: Any, group_name: str = "default") -> Work:
    """As `allgather`, without waiting."""
    group = get_group(group_name)
    _check_list(tensor_list, group.size)
    whole = _flat(tensor_list)

    def spread() -> None:
        for part, row in zip(tensor_list, whole):
            part[...] = row.reshape(part.shape)

    return _Then(group.start_all_gather(tensor, whole), spread)


def allgather(tensor_list: Sequence[Any], tensor: Any, group_name: str = "default") -> None:
    """`tensor_list[i]` becomes the tensor of rank i. (One copy more than `get_group().all_gather` into one array.)"""
    start_allgather(tensor_list, tensor, group_name).wait()


def start_reducescatter(
    tensor: Any, tensor_list: Sequence[Any], group_name: str = "default", op: int = ReduceOp.SUM
) -> Work:
    """As `reducescatter`, without waiting."""
    group = get_group(group_name)
    _check_list(tensor_list, group.size)
    whole = _flat(tensor_list)
    for part, row in zip(tensor_list, whole):
        row[...] = part.reshape(row.shape)
    return group.start_reduce_scatter(whole, tensor, int(op))


def reducescatter(tensor: Any, tensor_list: Sequence[Any], group_name: str = "default", op: int = ReduceOp.SUM) -> None:
    """`tensor` becomes the combination of every member's `tensor_list[rank]`."""
    start_reducescatter(tensor, tensor_list, group_name, op).wait()


def start_alltoall(target: Any, source: Any, group_name: str = "default") -> Work:
    """As `alltoall`, without waiting."""
    return get_group(group_name).start_all_to_all(source, target)


def alltoall(target: Any, source: Any, group_name: str = "default") -> None:
    """The i-th equal part of `source` goes to rank i; the i-th of `target` comes from there."""
    get_group(group_name).all_to_all(source, target)


def start_send(tensor: Any, dst_rank: int, group_name: str = "default", tag: int = 0) -> Work:
    """As `send`, without waiting."""
    return get_group(group_name).start_send(tensor, dst_rank, tag)


def send(tensor: Any, dst_rank: int, group_name: str = "default", tag: int = 0) -> None:
    """To the `recv` of `dst_rank` with the same tag."""
    get_group(group_name).send(tensor, dst_rank, tag)


def start_recv(tensor: Any, src_rank: int, group_name: str = "default", tag: int = 0) -> Work:
    """As `recv`, without waiting."""
    return get_group(group_name).start_recv(tensor, src_rank, tag)


def recv(tensor: Any, src_rank: int, group_name: str = "default", tag: int = 0) -> None:
    """From the `send` of `src_rank` with the same tag; sizes must agree."""
    get_group(group_name).recv(tensor, src_rank, tag)


def start_barrier(group_name: str = "default") -> Work:
    """As `barrier`, without waiting."""
    return get_group(group_name).start_barrier()


def barrier(group_name: str = "default") -> None:
    """Returns when all members have called it."""
    get_group(group_name).barrier()


def _check_list(tensor_list: Sequence[Any], size: int) -> None:
    if len(tensor_list) != size:
        raise ValueError(f"the list holds {len(tensor_list)} tensors, expected one for each of the {size} members")
    if any(part.shape != tensor_list[0].shape or part.dtype != tensor_list[0].dtype for part in tensor_list):
        raise ValueError("the tensors of the list differ in shape or type")
    devices = {str(getattr(part, "device", "cpu")) for part in tensor_list}
    if len(devices) > 1:
        raise ValueError(f"the tensors of the list lie on different devices: {', '.join(sorted(devices))}")


def _flat(tensor_list: Sequence[Any]) -> Any:
    """An array like all of them one after another, of the kind they are."""
    first = tensor_list[0]
    shape = (len(tensor_list), *first.shape)
    if hasattr(first, "new_empty"):  # torch
        return first.new_empty(shape)
    import numpy as np

    return np.empty(shape, first.dtype)
