"""The ranks of the job as Ray shows nodes: one rank is one node."""

from __future__ import annotations

from typing import Any

from trireme import _init, _state


def node_id(rank: dict[str, Any]) -> str:
    """A rank's NodeID: 56 hexadecimal digits, the same in every process."""
    import hashlib

    return hashlib.sha224(f"{rank['node']}:{rank['rank']}".encode()).hexdigest()


def own_row(core: Any) -> dict[str, Any]:
    """What core.ranks() says of this rank: a seat that nobody has taken has no row."""
    return next(row for row in core.ranks() if row["rank"] == core.rank)


def rank_of(wanted: str) -> int | None:
    """The living rank with that NodeID."""
    for rank in _state.core.ranks():
        if rank["alive"] and (node_id(rank) == wanted or rank["node"] == wanted):
            return rank["rank"]
    return None


def nodes() -> list[dict[str, Any]]:
    """All ranks, the dead included.

    Each a dict with `NodeID`, `Alive`, `NodeManagerAddress` and `NodeManagerHostname` (the host), `Resources`, `Labels`,
    `rank`, `pid` and `node` (ranks with equal values share memory).
    """
    listed = []
    for rank in _init.core().ranks():
        listed.append(
            {
                "NodeID": node_id(rank),
                "Alive": rank["alive"],
                "alive": rank["alive"],
                "NodeManagerAddress": rank["host"],
                "NodeManagerHostname": rank["host"],
                "NodeName": rank["host"],
                "Resources": dict(rank["total"]) if rank["alive"] else {},
                "Labels": dict(rank["labels"]),
                "rank": rank["rank"],
                "pid": rank["pid"],
                "node": rank["node"],
            }
        )
    return listed


def cluster_resources() -> dict[str, float]:
    """What the living ranks have, summed by name."""
    return _sum("total")


def available_resources() -> dict[str, float]:
    """What is free of it now, summed by name; what nothing is left of is missing.

    Of other ranks it is as last heard, less what waits there: those that work for this one tell it of every change within some
    20 ms, the others count as all free (docs/python.md).
    """
    return {name: amount for name, amount in _sum("available").items() if amount > 0}


def _sum(which: str) -> dict[str, float]:
    total: dict[str, float] = {}
    for rank in _init.core().ranks():
        if rank["alive"]:
            for name, amount in rank[which].items():
                # Where more is asked for than there is, nothing is free: that takes nothing from the other ranks.
                total[name] = total.get(name, 0.0) + max(amount, 0.0)
    return total
