"""The groups that this process is a member of."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Sequence
from typing import Any

import trireme
from trireme.util.collective.meeting import exchange_through
from trireme.util.collective.nccl import NcclCommunicator
from trireme.util.collective.types import Backend, native

_groups: dict[str, Any] = {}
_lock = threading.Lock()
_PLAN = "trireme.collective.plan."


def init_collective_group(
    world_size: int,
    rank: int,
    backend: str = Backend.AUTO,
    group_name: str = "default",
    *,
    timeout: float = 1800.0,
    fixed_order: bool = False,
    device: int | None = None,
) -> None:
    """Makes this process a member of a group; returns once all members have called it.

    Parameters
    ----------
    world_size, rank
        How many members there are, and which of them this is.
    backend
        "auto", "cpu" or "gloo": shared memory inside a node, UCX between nodes. "nccl": arrays on GPUs.
    group_name
        Under which all members know the group.
    timeout
        Seconds after which making the group, or an operation, fails on every member.
    fixed_order
        Reductions combine the members in the order of their ranks: the same bits for the same number of members.
        Not with "nccl".
    device
        With "nccl": this member's CUDA device; torch's current one unless given, 0 without torch. Two members on one device
        are an error of NCCL.

    Raises
    ------
    BackendUnavailableError
        "nccl" where Trireme was built without it (on this member), or some member has no CUDA device (on all of them).
    RuntimeError
        This process is a member of a group of that name already.
    TimeoutError
        Not all members came.
    """
    kind = Backend.check(backend)
    if kind == Backend.NCCL and fixed_order:
        raise ValueError("fixed_order: NCCL chooses the order of a reduction itself; use backend='cpu'")
    if kind != Backend.NCCL and device is not None:
        raise ValueError(f"device={device}: only backend 'nccl' has one, not {backend!r}")
    if world_size < 1 or not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} of {world_size} members makes no sense")
    with _lock:
        if group_name in _groups:
            raise RuntimeError(f"group {group_name!r} is initialised already; destroy_collective_group() ends it")
        _groups[group_name] = None
    try:
        exchange = exchange_through(group_name, rank, world_size)
        if kind == Backend.NCCL:
            group: Any = NcclCommunicator(rank, world_size, exchange, group_name, timeout, device)
        else:
            group = native().Communicator(rank, world_size, exchange, group_name, timeout, fixed_order)
    except BaseException:
        with _lock:
            del _groups[group_name]
        raise
    with _lock:
        _groups[group_name] = group


def create_collective_group(
    actors: Sequence[Any],
    world_size: int,
    ranks: Sequence[int],
    backend: str = Backend.AUTO,
    group_name: str = "default",
) -> None:
    """Plans a group of actors, from outside of them; each joins with its first operation.

    The plan lives until `destroy_collective_group` is called here.
    """
    kind = Backend.check(backend)
    if len(actors) != world_size or sorted(ranks) != list(range(world_size)):
        raise ValueError(f"{len(actors)} actors and ranks {list(ranks)} are no group of {world_size}")
    members = {actor._actor_id.hex(): rank for actor, rank in zip(actors, ranks)}
    plan = trireme.remote(_Plan).options(name=_PLAN + group_name, num_cpus=0, lifetime="detached").remote(members, kind)
    trireme.get(plan.read.remote())  # so that it is there when an actor asks


class _Plan:
    """The actor that knows which actors a planned group has, and its backend."""

    def __init__(self, members: dict[str, int], backend: str) -> None:
        self._plan = members, backend

    def read(self) -> tuple[dict[str, int], str]:
        return self._plan


def destroy_collective_group(group_name: str = "default") -> None:
    """Leaves the group, or drops its plan. All members should; operations under way fail. Nothing if there is none."""
    with _lock:
        group = _groups.pop(group_name, None)
    if group is not None:
        group.close()
        return
    try:
        plan = trireme.get_actor(_PLAN + group_name)
    except ValueError:
        return
    trireme.kill(plan)


def is_group_initialized(group_name: str = "default") -> bool:
    """Whether this process is a member of the group."""
    return _groups.get(group_name) is not None


def get_rank(group_name: str = "default") -> int:
    """This process's rank in the group, -1 when it is no member."""
    group = _groups.get(group_name)
    return -1 if group is None else group.rank


def get_collective_group_size(group_name: str = "default") -> int:
    """How many members the group has, -1 when this process is none of them."""
    group = _groups.get(group_name)
    return -1 if group is None else group.size


def get_group(group_name: str = "default") -> Any:
    """The group's communicator; joins it first when it was planned with this actor in it.

    Raises
    ------
    RuntimeError
        This process is no member, and no plan says that it is to be one.
    """
    group = _groups.get(group_name)
    if group is not None:
        return group
    missing = f"no group {group_name!r} in this process; call init_collective_group() in every member first"
    try:
        plan = trireme.get_actor(_PLAN + group_name)
    except ValueError as error:
        raise RuntimeError(missing) from error
    members, backend = trireme.get(plan.read.remote())
    rank = members.get(trireme.get_runtime_context().get_actor_id())
    if rank is None:
        raise RuntimeError(missing)
    init_collective_group(len(members), rank, backend, group_name)
    return _groups[group_name]


@atexit.register
def _leave_all() -> None:
    # A member that ends without a word would be taken for dead by those that still work.
    with _lock:
        left = [group for group in _groups.values() if group is not None]
        _groups.clear()
    for group in left:
        group.close()
