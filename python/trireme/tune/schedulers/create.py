"""Schedulers by name."""

from __future__ import annotations

import importlib
from typing import Any

from trireme.tune.schedulers.trial_scheduler import TrialScheduler

_KNOWN = {
    "fifo": ("trial_scheduler", "FIFOScheduler"),
    "async_hyperband": ("async_hyperband", "AsyncHyperBandScheduler"),
    "asynchyperband": ("async_hyperband", "AsyncHyperBandScheduler"),
    "asha": ("async_hyperband", "AsyncHyperBandScheduler"),
    "hyperband": ("hyperband", "HyperBandScheduler"),
    "median_stopping_rule": ("median_stopping_rule", "MedianStoppingRule"),
    "medianstopping": ("median_stopping_rule", "MedianStoppingRule"),
    "pb2": ("pb2", "PB2"),
    "pbt": ("pbt", "PopulationBasedTraining"),
    "pbt_replay": ("pbt_replay", "PopulationBasedTrainingReplay"),
    "resource_changing": ("resource_changing_scheduler", "ResourceChangingScheduler"),
}


def create_scheduler(scheduler: str, **kwargs: Any) -> TrialScheduler:
    """Makes a scheduler from its name (``"asha"``, ``"hyperband"``, ``"pbt"``, ...).

    Raises
    ------
    ValueError
        There is none of that name; says which there are.
    """
    if scheduler not in _KNOWN:
        raise ValueError(f"there is no scheduler {scheduler!r}; choose one of {', '.join(_KNOWN)}")
    module, name = _KNOWN[scheduler]
    return getattr(importlib.import_module(f"trireme.tune.schedulers.{module}"), name)(**kwargs)
