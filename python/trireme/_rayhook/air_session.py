"""Ray's `ray.air.session`: one set of functions for the workers of a trainer and for the trials of a search.

Each asks the trainer's session when the caller is one of its workers, and the search otherwise.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from trireme.train._checkpoint import Checkpoint
from trireme.train._functions import get_dataset_shard
from trireme.train._session import current_session

__all__ = [
    "get_checkpoint",
    "get_dataset_shard",
    "get_experiment_name",
    "get_local_rank",
    "get_local_world_size",
    "get_metadata",
    "get_node_rank",
    "get_trial_dir",
    "get_trial_id",
    "get_trial_name",
    "get_trial_resources",
    "get_world_rank",
    "get_world_size",
    "report",
]

#: What `from ray.air import session` gives.
session = sys.modules[__name__]


def _where() -> Any:
    """`trireme.train` or `trireme.tune.session`, whose functions have the same names."""
    if current_session() is not None:
        from trireme import train

        return train
    from trireme.tune import session

    if session.current_trial() is None:
        raise RuntimeError(
            "ray.air.session works in the training function of a trainer and in a trainable that a Tuner runs; "
            "this process runs neither"
        )
    return session


def report(metrics: Mapping[str, Any], *, checkpoint: Checkpoint | None = None) -> None:
    """Report metrics, and a checkpoint with them: see `trireme.train.report` and `trireme.tune.report`."""
    _where().report(metrics, checkpoint=checkpoint)


def get_checkpoint() -> Checkpoint | None:
    """Return the checkpoint to go on from, None at the start."""
    return _where().get_checkpoint()


def _asking(name: str, what: str) -> Any:
    def ask() -> Any:
        return getattr(_where().get_context(), name)()

    ask.__name__ = ask.__qualname__ = name
    ask.__doc__ = f"Return {what}."
    return ask


get_world_size = _asking("get_world_size", "how many workers train together; 1 in a trial")
get_world_rank = _asking("get_world_rank", "this worker's number among all")
get_local_rank = _asking("get_local_rank", "this worker's number on its node")
get_local_world_size = _asking("get_local_world_size", "how many workers its node has")
get_node_rank = _asking("get_node_rank", "the number of its node")
get_experiment_name = _asking("get_experiment_name", "the name of the run or search")
get_trial_name = _asking("get_trial_name", "the trial's name")
get_trial_id = _asking("get_trial_id", "the trial's identity")
get_trial_dir = _asking("get_trial_dir", "the trial's folder")
get_trial_resources = _asking("get_trial_resources", "what the trial reserved")
get_metadata = _asking("get_metadata", "the metadata that the trainer was given")
