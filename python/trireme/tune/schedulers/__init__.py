"""Schedulers: which trials go on."""

from trireme.tune.schedulers.async_hyperband import ASHAScheduler, AsyncHyperBandScheduler
from trireme.tune.schedulers.create import create_scheduler
from trireme.tune.schedulers.hyperband import HyperBandScheduler
from trireme.tune.schedulers.median_stopping_rule import MedianStoppingRule
from trireme.tune.schedulers.pb2 import PB2
from trireme.tune.schedulers.pbt import PopulationBasedTraining
from trireme.tune.schedulers.pbt_replay import PopulationBasedTrainingReplay
from trireme.tune.schedulers.resource_changing_scheduler import (
    DistributeResources,
    DistributeResourcesToTopJob,
    ResourceChangingScheduler,
)
from trireme.tune.schedulers.trial_scheduler import FIFOScheduler, TrialScheduler

__all__ = [
    "PB2",
    "ASHAScheduler",
    "AsyncHyperBandScheduler",
    "DistributeResources",
    "DistributeResourcesToTopJob",
    "FIFOScheduler",
    "HyperBandScheduler",
    "MedianStoppingRule",
    "PopulationBasedTraining",
    "PopulationBasedTrainingReplay",
    "ResourceChangingScheduler",
    "TrialScheduler",
    "create_scheduler",
]
