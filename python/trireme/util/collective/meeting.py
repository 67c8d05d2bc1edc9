"""How members of a group find each other: through an actor that they all know by the group's name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import trireme
from trireme import exceptions


class Meeting:
    """The actor. Hands the blobs of a round to its members once all have come."""

    def __init__(self) -> None:
        self._rounds: dict[tuple[int, int], _Round] = {}

    async def exchange(self, number: int, rank: int, size: int, blob: bytes) -> list[bytes]:
        """Returns when all `size` members have called it for that round: their blobs, by rank."""
        key = (number, size)
        now = self._rounds.setdefault(key, _Round(size))
        now.blobs[rank] = blob
        if len(now.blobs) == size:
            # The next to come for this number begins anew: the group was destroyed and is made again.
            del self._rounds[key]
            now.complete.set()
        await now.complete.wait()
        return [now.blobs[i] for i in range(size)]


class _Round:
    def __init__(self, size: int) -> None:
        self.size = size
        self.blobs: dict[int, bytes] = {}
        self.complete = asyncio.Event()


def exchange_through(group_name: str, rank: int, size: int) -> Callable[[bytes, float], Sequence[bytes]]:
    """What `_collective.Communicator` calls to exchange blobs.

    The actor lives as long as some member is still meeting; a meeting that fails ends it, so that the next begins anew.
    """
    name = f"trireme.collective.{group_name}"
    actor: Any = None
    number = 0

    def exchange(mine: bytes, timeout: float) -> Sequence[bytes]:
        nonlocal actor, number
        if actor is None:
            options = {"name": name, "get_if_exists": True, "num_cpus": 0, "max_concurrency": max(1000, size)}
            actor = trireme.remote(Meeting).options(**options).remote()
        number += 1
        try:
            return trireme.get(actor.exchange.remote(number, rank, size, mine), timeout=timeout)
        except exceptions.GetTimeoutError as error:
            trireme.kill(actor)
            raise TimeoutError(
                f"group {group_name!r}: not all {size} members came within {timeout:g} s (this is rank {rank})"
            ) from error

    return exchange
