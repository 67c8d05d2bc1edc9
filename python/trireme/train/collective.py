"""What the workers of a training do together beside training: wait for each other, and get a value from rank 0.

Every worker makes the same calls of these and of `train.report`, in the same order. They go through the process that
controls the run, so they work with every backend, and a worker that dies, raises or returns ends the wait of the others:
the group starts again, or the run fails. They are for set-up and epochs; what is reduced in each step goes through
`train.DataParallel` or the backend's own collectives.
"""

from __future__ import annotations

from typing import TypeVar

from trireme.train._session import require_session

__all__ = ["barrier", "broadcast_from_rank_zero"]

T = TypeVar("T")


def barrier() -> None:
    """Returns when all workers have called it. Reports made before, also in the background, have arrived then.

    Raises
    ------
    RuntimeError
        Not within a training function.
    """
    session = require_session("collective.barrier", in_tune=False)
    if session.place.world_size > 1:
        session.meet("barrier")


def broadcast_from_rank_zero(data: T) -> T:
    """What rank 0 gave, on every worker; returns when all workers have called it.

    Parameters
    ----------
    data
        On rank 0 anything that can be pickled; what the others give is not looked at.

    Returns
    -------
    Any
        On rank 0 `data` itself. On the others a copy, whose NumPy arrays are read-only: they are read in place.

    Raises
    ------
    RuntimeError
        Not within a training function.
    """
    session = require_session("collective.broadcast_from_rank_zero", in_tune=False)
    if session.place.world_size == 1:
        return data
    import trireme

    if session.place.world_rank == 0:
        session.meet("broadcast_from_rank_zero", trireme.put(data))
        return data
    (ref,) = session.meet("broadcast_from_rank_zero")
    return trireme.get(ref)
